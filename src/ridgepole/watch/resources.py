"""Notice a full disk, a run that became slow, and processes that the kernel killed for memory."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from pathlib import Path
from statistics import median

from ridgepole import rundir
from ridgepole.errors import CheckpointError
from ridgepole.watch.policy import Slow

_LEAST_SAMPLES = 10


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
    return f"{_size(free)} are free, and the next two checkpoints need {_size(need)}"


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


class SlowWatch:
    """Compares the time of a step with that of the first hour.

    Args:
        policy: From when on a run counts as slow.
    """

    def __init__(self, policy: Slow) -> None:
        self._factor = policy.factor
        self._minutes, self._first_minutes = policy.minutes * 60, policy.first_minutes * 60
        self._first: list[float] = []
        self._recent: deque[tuple[float, float]] = deque()
        self._clock = 0.0
        self._told = False

    def look(self, elapsed: float, step_seconds: float | None) -> str:
        """Return once what became slow.

        Args:
            elapsed: Seconds since the look before.
            step_seconds: The time of a step since then; None without one.
        """
        self._clock += elapsed
        if step_seconds is None:
            return ""
        self._recent.append((self._clock, step_seconds))
        while self._recent and self._recent[0][0] < self._clock - self._minutes:
            at, seconds = self._recent.popleft()
            if at <= self._first_minutes:
                self._first.append(seconds)
        if min(len(self._first), len(self._recent)) < _LEAST_SAMPLES or self._clock < 2 * self._minutes:
            return ""
        before, now = median(self._first), median(seconds for _, seconds in self._recent)
        slow = now > self._factor * before
        told, self._told = self._told, slow
        minutes = self._minutes / 60
        return f"a step took {before:.3g} s, and takes {now:.3g} s for {minutes:g} minutes" if slow and not told else ""


def oom_kills() -> int | None:
    """Return how many processes of this control group the kernel has killed for memory, or None."""
    for path in _event_files():
        try:
            lines = dict(line.split() for line in path.read_text("ascii").splitlines())
            return int(lines["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return None


def _event_files() -> list[Path]:
    """Return the files with the count, of control groups v2 and v1."""
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, kinds, name = line.split(":", 2)
        below = name.lstrip("/")
        if not kinds:
            found.append(Path("/sys/fs/cgroup") / below / "memory.events")
        elif "memory" in kinds.split(","):
            found += [Path("/sys/fs/cgroup/memory") / each / "memory.oom_control" for each in (below, "")]
    return found


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
            lines.append(f"process {process.pid} ({process.name()}): {_size(process.memory_info().rss)}")
        except psutil.Error:
            continue
    return "\n".join([f"host: {_size(memory.available)} of {_size(memory.total)} available", *lines])


def _devices() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return []
    return [f"device {index}\n{torch.cuda.memory_summary(index)}" for index in range(torch.cuda.device_count())]
