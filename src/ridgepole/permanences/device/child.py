"""Asks CUDA for its own order of the devices, in a child process: `cuInit` would fix this process's environment."""

from __future__ import annotations

import json
import sys

_SCRIPT = """
import ctypes, json, sys, uuid
try:
    cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        sys.exit(1)
    found = []
    for ordinal in range(count.value):
        device, raw = ctypes.c_int(), ctypes.create_string_buffer(16)
        get = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
        if cuda.cuDeviceGet(ctypes.byref(device), ordinal) or get(raw, device):
            sys.exit(1)
        found.append(str(uuid.UUID(bytes=raw.raw)))
    print(json.dumps(found))
except (OSError, AttributeError):
    sys.exit(1)
"""
_TIMEOUT_S = 60.0


def cuda_order() -> list[str] | None:
    """The UUIDs of the devices that CUDA shows, without their prefix, in CUDA's order; None where it can't be asked.

    The child gets this process's environment, so it sees what this process will see. It makes no context.
    """
    if not sys.executable:
        return None  # an embedded interpreter
    import subprocess

    try:
        # The interpreter of this process with a constant script: nothing that a user wrote reaches the command line.
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-I", "-S", "-c", _SCRIPT],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            text=True,
        )
        if done.returncode != 0:
            return None
        return [str(body) for body in json.loads(done.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
