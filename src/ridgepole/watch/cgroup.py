"""The limits that a container or a scheduler sets to this process, version 1 and 2 of cgroups.

Formats: `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst` of the Linux kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
SELF = Path("/proc/self/cgroup")

_NO_LIMIT = 1 << 60
"""Version 1 says so, or a little more, where there is no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The tightest limits around this process; None means without a limit.

    Attributes:
        memory_bytes: Bytes that all processes of the group may use.
        memory_file: The file with the bytes that they use.
        cpus: Processor cores that they may use at a time.
        throttled_file: The file that counts how often they were held back for that.
    """

    memory_bytes: int | None = None
    memory_file: Path | None = None
    cpus: float | None = None
    throttled_file: Path | None = None

    def memory_used(self) -> int | None:
        """Return the bytes in use now, below the memory limit."""
        return None if self.memory_file is None else _number(self.memory_file)

    def throttled(self) -> tuple[int, int] | None:
        """Return the periods so far, and those in which the group was held back."""
        if self.throttled_file is None:
            return None
        fields = dict(line.split(maxsplit=1) for line in _text(self.throttled_file).splitlines() if " " in line)
        try:
            return int(fields["nr_periods"]), int(fields["nr_throttled"])
        except (KeyError, ValueError):
            return None


def limits() -> Limits:
    """Return the limits of this process's group and of those around it."""
    memory: list[tuple[int, Path]] = []
    cpus: list[tuple[float, Path]] = []
    for folder in _folders("memory"):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            size = _number(folder / limit)
            if size is not None and size < _NO_LIMIT:
                memory.append((size, folder / used))
    for folder in _folders("cpu"):
        allowed = _allowed(folder)
        if allowed is not None:
            cpus.append((allowed, folder / "cpu.stat"))
    tight, used_file = min(memory, default=(None, None))
    most, stat = min(cpus, default=(None, None))
    return Limits(memory_bytes=tight, memory_file=used_file, cpus=most, throttled_file=stat)


def cores() -> float:
    """Return how many processor cores this process may use at a time."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    allowed = limits().cpus
    return count if allowed is None else min(count, allowed)


def _allowed(folder: Path) -> float | None:
    """Return the cores that a group may use: quota over period."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _folders(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of those around it, the innermost first."""
    for line in _text(SELF).splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        root = (
            ROOT if not names else next((ROOT / each for each in (names, controller) if (ROOT / each).is_dir()), None)
        )
        if root is None:
            continue
        inner = root / path.lstrip("/")
        # In a container the path may be that of the host, and its group the root that is seen here.
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None
