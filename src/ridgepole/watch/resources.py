"""Notice a full disk, and report what the memory holds when it is used up."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any, cast

from ridgepole import rundir
from ridgepole.errors import CheckpointError, text_of
from ridgepole.watch.cuda_memory import read_devices, write_snapshot
from ridgepole.watch.units import in_bytes


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


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is that of a device or the host without memory."""
    return any(kind.__name__ in ("MemoryError", "OutOfMemoryError") for kind in type(error).__mro__)


def write_memory_report(run: Path, rank: int, error: str) -> tuple[str, str]:
    """Write what the memory of this process and its devices holds.

    Returns:
        The file's name, and what to do about it, which may be empty.

    Raises:
        OSError: If it can't be written.
    """
    name = f"{rundir.OOM}/{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-rank-{rank}"
    (run / rundir.OOM).mkdir(exist_ok=True)
    parts, advice = [error, _host()], [""]
    torch = sys.modules.get("torch")
    try:
        devices = read_devices(torch)
        if devices:
            advice = [line for device in devices for line in device.advice()] or [""]
            parts += ["\n".join(map(str, devices)), "\n".join(f"try: {line}" for line in advice if line)]
            parts.append(write_snapshot(torch, run / f"{name}.pickle"))
            parts += [f"device {each.index}\n{cast('Any', torch).cuda.memory_summary(each.index)}" for each in devices]
    except Exception as second:  # noqa: BLE001 - a driver without memory: the report must not replace the error
        parts.append(f"the devices can't be read: {type(second).__name__}: {text_of(second)}")
    text = "\n\n".join(filter(None, parts)) + "\n"
    (run / f"{name}.txt").write_text(text, encoding="utf-8", errors="replace")
    return f"{name}.txt", advice[0]


def _host() -> str:
    import psutil

    memory, lines = psutil.virtual_memory(), []
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            lines.append(f"process {process.pid} ({process.name()}): {in_bytes(process.memory_info().rss)}")
        except psutil.Error:
            continue
    return "\n".join([f"host: {in_bytes(memory.available)} of {in_bytes(memory.total)} available", *lines])
