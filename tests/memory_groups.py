"""Control groups of memory, which a test makes where it may."""

import contextlib
import os
from pathlib import Path

import pytest


@contextlib.contextmanager
def memory_group(limit):
    """A control group (v1 or v2) of our own below that of this process."""
    line = next((each for each in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in each), None)
    root = "/sys/fs/cgroup/memory" if line else "/sys/fs/cgroup"
    name = (line or Path("/proc/self/cgroup").read_text().splitlines()[-1]).split(":", 2)[2]
    for parent in (Path(root) / name.lstrip("/"), Path(root)):
        group = parent / f"ridgepole-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / ("memory.limit_in_bytes" if line else "memory.max")).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    pytest.skip("no control group can be made here")
