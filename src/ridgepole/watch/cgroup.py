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

BOOT = Path("/proc/sys/kernel/random/boot_id")

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
        memory += _own_limits(folder)
    for folder in _folders("cpu"):
        allowed = _allowed(folder)
        if allowed is not None:
            cpus.append((allowed, folder / "cpu.stat"))
    tight, used_file = min(memory, default=(None, None))
    most, stat = min(cpus, default=(None, None))
    return Limits(memory_bytes=tight, memory_file=used_file, cpus=most, throttled_file=stat)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGroup:
    """A control group that counts the processes which the kernel has killed for memory.

    Attributes:
        folder: Its folder.
        inode: The number of the folder, which another group of the same name does not have.
        boot: The start of the machine.
        kills: The count.
    """

    folder: str
    inode: int
    boot: str
    kills: int

    def kills_since(self) -> int | None:
        """Return how many were killed since; None if the group is gone."""
        now = _memory_group(Path(self.folder))
        return now.kills - self.kills if now is not None and (now.inode, now.boot) == (self.inode, self.boot) else None

    def fullest(self) -> tuple[int | None, int] | None:
        """Return the most bytes used below the tightest limit around it, and the limit."""
        limit, used = min(_memory_limits(Path(self.folder)), default=(None, None))
        if limit is None or used is None:
            return None
        peaks = (_number(used.with_name(name)) for name in ("memory.peak", "memory.max_usage_in_bytes"))
        return next((peak for peak in peaks if peak is not None), None), limit


def memory_group() -> MemoryGroup | None:
    """Return the group of this process that counts kills for memory; None without one."""
    found = (_memory_group(folder) for folder in _folders("memory"))
    return next((group for group in found if group is not None), None)


def _memory_group(folder: Path) -> MemoryGroup | None:
    for name in ("memory.events", "memory.oom_control"):
        for line in _text(folder / name).splitlines():
            word, _, count = line.partition(" ")
            if word == "oom_kill" and count.isdecimal():
                try:
                    inode = folder.stat().st_ino
                except OSError:
                    return None
                return MemoryGroup(folder=str(folder), inode=inode, boot=_text(BOOT), kills=int(count))
    return None


def cores() -> float:
    """Return how many processor cores this process may use at a time."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    allowed = limits().cpus
    return count if allowed is None else min(count, allowed)


def _memory_limits(folder: Path) -> list[tuple[int, Path]]:
    """Return the memory limits of a group and of those around it, and the files of what is used."""
    around = [each for each in (folder, *folder.parents) if each.is_relative_to(ROOT)]
    return [found for each in around for found in _own_limits(each)]


def _own_limits(folder: Path) -> list[tuple[int, Path]]:
    pairs = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    sizes = ((_number(folder / limit), folder / used) for limit, used in pairs)
    return [(size, used) for size, used in sizes if size is not None and size < _NO_LIMIT]


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
