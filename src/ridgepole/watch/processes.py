"""Measure what the processes of a run use: processor time, memory and files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

RESCAN_SECONDS = 60.0
"""Seconds that the list of processes is kept: walking all of a machine costs milliseconds."""


class ProcessTree:
    """A process and those below it.

    Args:
        pid: The process.
    """

    def __init__(self, pid: int) -> None:
        import psutil

        self._psutil = psutil
        self._root = psutil.Process(pid)
        self._known: dict[int, psutil.Process] = {}
        self._scan_at = 0.0
        self._cpu: dict[tuple[int, float], float] = {}
        self._io: dict[tuple[int, float], tuple[int, int]] = {}

    @property
    def pids(self) -> set[int]:
        """The pids at the last sample."""
        return {self._root.pid, *self._known}

    def sample(self, seconds: float | None) -> dict[str, float]:
        """Return what the processes have used in the seconds since the last sample.

        Args:
            seconds: How long ago that was; None for the first one, which has no rates.
        """
        now = time.monotonic()
        if now >= self._scan_at:
            self._scan()
            self._scan_at = now + RESCAN_SECONDS
        cpu: dict[tuple[int, float], float] = {}
        io: dict[tuple[int, float], tuple[int, int]] = {}
        memory = count = 0
        for process in self._alive():
            try:
                with process.oneshot():
                    key = (process.pid, process.create_time())
                    times = process.cpu_times()
                    memory += process.memory_info().rss
            except self._psutil.Error:
                continue
            count += 1
            cpu[key] = times.user + times.system
            counters = self._counters(process)
            if counters is not None:
                io[key] = counters
        found: dict[str, float] = {"memory_bytes": memory, "processes": count}
        if seconds:
            # One that is new since the last sample counts from its start, if it started since then
            used = sum(
                value - self._cpu.get(key, 0.0 if _is_new(key, seconds) else value) for key, value in cpu.items()
            )
            found["cpu_percent"] = 100 * max(0.0, used) / seconds
            if io:
                for place, name in enumerate(("read_bytes_per_second", "written_bytes_per_second")):
                    moved = sum(value[place] - self._io.get(key, value)[place] for key, value in io.items())
                    found[name] = max(0, moved) / seconds
        self._cpu, self._io = cpu, io
        return found

    def _scan(self) -> None:
        try:
            found = self._root.children(recursive=True)
        except self._psutil.Error:
            found = []
        self._known = {process.pid: self._known.get(process.pid, process) for process in found}

    def _alive(self) -> Iterator[psutil.Process]:
        yield self._root
        yield from list(self._known.values())

    def _counters(self, process: psutil.Process) -> tuple[int, int] | None:
        try:
            counters = process.io_counters()
        except (self._psutil.Error, OSError, AttributeError):  # not on macOS; not of another user
            return None
        return counters.read_bytes, counters.write_bytes


def _is_new(key: tuple[int, float], seconds: float) -> bool:
    return key[1] >= time.time() - seconds
