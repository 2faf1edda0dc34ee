"""The calls into torch, which is imported only by the functions that need it running."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError

if TYPE_CHECKING:
    import torch

_FIELD = re.compile(r"^(__version__|cuda|hip|xpu)\b[^=\n]*=\s*(.+)$", re.MULTILINE)
_MAPS = Path("/proc/self/maps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """The target that the installed torch was built for.

    Attributes:
        version: Such as `"2.9.0+cu130"`.
        cuda: CUDA's version, or None for a build without it.
        hip: ROCm's version, or None.
        xpu: The version of Intel's runtime, or None.
    """

    version: str
    cuda: str | None = None
    hip: str | None = None
    xpu: str | None = None

    @property
    def target(self) -> str:
        """The hardware that the build drives, in a word."""
        return "CUDA" if self.cuda else "ROCm" if self.hip else "XPU" if self.xpu else "the CPU alone"


def installed_build() -> Build | None:
    """Return what the installed torch was built for, or None where torch is not installed.

    Reads `torch/version.py` as text: importing torch takes a second or more.
    """
    loaded = sys.modules.get("torch")
    if loaded is not None and hasattr(loaded, "version"):
        fields = {name: getattr(loaded.version, name, None) for name in ("cuda", "hip", "xpu")}
        return Build(version=str(getattr(loaded, "__version__", "")), **fields)
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None
    try:
        text = Path(str(spec.origin)).with_name("version.py").read_text("utf-8")
        values = {name.strip("_"): ast.literal_eval(value.strip()) for name, value in _FIELD.findall(text)}
        return Build(**{"version": "", **values})
    except (OSError, ValueError, SyntaxError, TypeError):
        # A source tree: never guess a CPU build.
        return Build(version="of an unknown build", cuda="unknown")


def require(wanted_by: str) -> ModuleType:
    """Import torch.

    Raises:
        MissingExtraError: Torch is not installed; the text names the command that installs it.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name not in (None, "torch"):
            raise  # torch is there and something of its own is missing: that error says more
        raise MissingExtraError("torch", "torch", wanted_by) from error
    return torch


def device(name: str) -> torch.device:
    """Return the `torch.device` of a name such as `"cuda:1"`."""
    made: torch.device = require("Device().device").device(name)
    return made


def cuda_started() -> bool:
    """Return whether CUDA may have read its environment variables in this process already.

    It reads them in `cuInit`; a process whose address space has no `libcuda` has not come so far.
    Where the map can't be read, torch is asked.
    """
    try:
        return "libcuda.so" in _MAPS.read_text("utf-8", "replace")
    except OSError:
        return is_started("cuda")


def is_started(kind: str) -> bool:
    """Return whether torch has started this backend in this process, without starting it."""
    loaded = sys.modules.get("torch")
    backend = getattr(loaded, kind, None)
    if kind == "mps":
        return loaded is not None
    return bool(backend is not None and backend.is_initialized())


def reserved(kind: str, index: int) -> int | None:
    """Return the bytes that torch's allocator holds, or None where the backend is not started."""
    if not is_started(kind):
        return None
    torch = require("Device")
    if kind == "mps":
        return int(torch.mps.driver_allocated_memory())
    return int(getattr(torch, kind).memory_reserved(index))


def uuid_of(kind: str, index: int) -> str:
    """Return the UUID that torch sees at an index, without its prefix; empty where unknown."""
    properties: Any = getattr(require("Device.initialize"), kind).get_device_properties(index)
    return str(getattr(properties, "uuid", "") or "")


def set_device(kind: str, index: int) -> None:
    """Make a device the current one of the calling thread."""
    if kind != "mps":  # there is only one
        getattr(require("Device.initialize"), kind).set_device(index)


def empty_cache(kind: str) -> None:
    """Return cached blocks to the driver, where torch has started that backend."""
    if is_started(kind):
        getattr(require("Device.cleanup"), kind).empty_cache()
