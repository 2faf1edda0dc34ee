"""Notice a full disk, and report what the memory holds when it is used up."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from ridgepole import rundir
from ridgepole.errors import CheckpointError


def disk_shortage(run: Path) -> str:
    """Say that the disk lacks room for the next two checkpoints; empty if it has enough."""
    from ridgepole.checkpoint.store import CheckpointStore

    try:
        sizes = [info.size for info in CheckpointStore(run / rundir.CHECKPOINTS).list() if not info.problem]
        free = shutil.disk_usage(run).free
    except (OSError, CheckpointError):
        return ""
    need = 2 * sizes[-1] if sizes else 0
    if free >= need:
        return ""
    return f"{in_bytes(free)} are free, and the next two checkpoints need {in_bytes(need)}"


def in_bytes(count: int) -> str:
    """Return a size for people."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is that of a device or the host without memory."""
    return any(kind.__name__ in ("MemoryError", "OutOfMemoryError") for kind in type(error).__mro__)


def write_memory_report(run: Path, rank: int, error: str) -> str:
    """Write what the memory of this process and its devices holds, and return the file's name.

    Raises:
        OSError: If it can't be written.
    """
    name = f"{rundir.OOM}/{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-rank-{rank}.txt"
    (run / rundir.OOM).mkdir(exist_ok=True)
    (run / name).write_text("\n\n".join([error, _host(), *_devices()]) + "\n", encoding="utf-8", errors="replace")
    return name


def _host() -> str:
    import psutil

    memory, lines = psutil.virtual_memory(), []
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            lines.append(f"process {process.pid} ({process.name()}): {in_bytes(process.memory_info().rss)}")
        except psutil.Error:
            continue
    return "\n".join([f"host: {in_bytes(memory.available)} of {in_bytes(memory.total)} available", *lines])


def _devices() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return []
    return [f"device {index}\n{torch.cuda.memory_summary(index)}" for index in range(torch.cuda.device_count())]
