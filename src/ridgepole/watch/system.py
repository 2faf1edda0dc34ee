"""System metrics: what the host, the processes of a run and its cards do, as numbers by name."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ridgepole.devices import torch_calls
from ridgepole.devices.gpus import Card, Sensors
from ridgepole.devices.probe.snapshot import Prober
from ridgepole.watch.cgroup import Limits, limits
from ridgepole.watch.processes import ProcessTree

FORMAT = 1


class SystemSampler:
    """Samples the host, the processes of a run and its cards.

    Args:
        directory: The run directory, for the space on its disk.
        pid: The process of the run; those below it count too.
        chosen: Returns the UUIDs of the cards that the run has chosen.
        host: Whether to sample the host; one rank of a machine does.
    """

    def __init__(self, directory: Path, pid: int, chosen: Callable[[], set[str]] = set, *, host: bool = True) -> None:
        import psutil

        self._psutil: Any = psutil
        self._directory, self._chosen, self._samples_host = directory, chosen, host
        self._tree = ProcessTree(pid)
        self._limits = limits()
        self._prober: Prober | None = Prober()
        self._mine: set[str] = set()
        self._at: float | None = None
        self._before: dict[str, float] = {}
        self._periods: tuple[int, int] | None = None
        self.cards: tuple[Card, ...] = ()
        self.throttled: dict[str, str] = {}

    def header(self) -> dict[str, Any]:
        """Return what does not change: the node, its size and the limits of this process."""
        allowed: Limits = self._limits
        return {
            "format": FORMAT,
            "node": socket.gethostname(),
            "cpus": os.cpu_count(),
            "memory_bytes": self._psutil.virtual_memory().total,
            "limit_cpus": allowed.cpus,
            "limit_memory_bytes": allowed.memory_bytes,
        }

    def sample(self) -> dict[str, float]:
        """Return numbers by name; the first sample has no rates."""
        now = time.monotonic()
        seconds = None if self._at is None else max(1e-3, now - self._at)
        self._at = now
        values = self._tree.sample(seconds)
        if self._samples_host:
            values |= self._host(seconds)
        values |= self._limited(seconds)
        for card, sensors in self.find_cards():
            values |= self._card(card, sensors)
        return {name: round(value, 3) for name, value in values.items()}

    def described_cards(self) -> list[dict[str, Any]]:
        """Return name, model, UUID and memory of the cards of the last sample."""
        return [
            {"card": f"gpu{card.place}", "name": card.name, "uuid": card.uuid, "memory_bytes": card.total}
            for card in self.cards
        ]

    def close(self) -> None:
        """Release the driver of the cards."""
        prober, self._prober = self._prober, None
        if prober is not None:
            prober.close()

    # --- the host

    def _host(self, seconds: float | None) -> dict[str, float]:
        psutil = self._psutil
        memory = psutil.virtual_memory()
        found = {"host_memory_bytes": memory.total - memory.available, "host_memory_percent": memory.percent}
        with contextlib.suppress(OSError):
            space = os.statvfs(self._directory)
            found["disk_free_bytes"] = space.f_bavail * space.f_frsize
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        counters = {"cpu": sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0), "idle": idle}
        with contextlib.suppress(OSError, RuntimeError, AttributeError):  # a container may show none
            disk, net = psutil.disk_io_counters(), psutil.net_io_counters()
            if disk is not None:
                counters |= {"disk_read": disk.read_bytes, "disk_written": disk.write_bytes}
            if net is not None:
                counters |= {"net_sent": net.bytes_sent, "net_received": net.bytes_recv}
        before, self._before = self._before, counters
        if seconds is None or not before:
            return found
        grown = {name: max(0.0, value - before.get(name, value)) for name, value in counters.items()}
        whole = grown.pop("cpu")
        busy = whole - grown.pop("idle")
        if whole > 0:
            found["host_cpu_percent"] = min(100.0, max(0.0, 100 * busy / whole))
        return found | {f"{name}_bytes_per_second": value / seconds for name, value in grown.items()}

    def _limited(self, seconds: float | None) -> dict[str, float]:
        """Return how near the run is to the limits of its container or job."""
        found: dict[str, float] = {}
        used, most = self._limits.memory_used(), self._limits.memory_bytes
        if used is not None and most:
            found["limit_memory_percent"] = 100 * used / most
        before, self._periods = self._periods, self._limits.throttled()
        if seconds and before is not None and self._periods is not None and self._periods[0] > before[0]:
            share = (self._periods[1] - before[1]) / (self._periods[0] - before[0])
            found["limit_cpu_held_back_percent"] = 100 * share
        return found

    # --- the run's cards

    def find_cards(self) -> list[tuple[Card, Sensors]]:
        """Return the cards of the machine that this run uses.

        A card is the run's once the run has chosen it, one of its processes has memory on it, or
        torch holds memory of it here: in a container the driver knows other pids.
        """
        if self._prober is None:
            return []
        read = self._prober.cards()
        if not read:
            self.close()  # there is no card, and there will be none
            return []
        pids = self._tree.pids
        self._mine |= self._chosen() | _held_by_torch({card.kind for card, _ in read})
        self._mine |= {
            card.key for card, _ in read if any(one.pid in pids for one in card.processes or () if not one.graphics)
        }
        found = [(card, sensors) for card, sensors in read if self._is_mine(card)]
        self.cards = tuple(card for card, _ in found)
        return found

    def _is_mine(self, card: Card) -> bool:
        return _bare(card.key) in {_bare(name) for name in self._mine}

    def _card(self, card: Card, sensors: Sensors) -> dict[str, float]:
        name = f"gpu{card.place}"
        numbers = {
            "percent": card.util,
            "memory_bytes": card.used,
            "memory_percent": None if card.used is None or not card.total else 100 * card.used / card.total,
            "power_watts": sensors.power_watts,
            "celsius": sensors.celsius,
            "clock_mhz": sensors.clock_mhz,
            "throttled": None if sensors.throttled is None else bool(sensors.throttled),
        }
        if sensors.throttled:
            self.throttled[name] = sensors.throttled
        else:
            self.throttled.pop(name, None)
        return {f"{name}_{key}": float(value) for key, value in numbers.items() if value is not None}


def _held_by_torch(kinds: set[str]) -> set[str]:
    """Return the UUIDs of the cards of which torch holds memory in this process."""
    found: set[str] = set()
    for kind in kinds:
        if "torch" not in sys.modules or not torch_calls.is_started(kind):
            continue
        backend: Any = getattr(sys.modules["torch"], kind)
        for index in range(backend.device_count()):
            if torch_calls.reserved(kind, index):
                found.add(torch_calls.uuid_of(kind, index))
    return found - {""}


def _bare(uuid: str) -> str:
    """Return a UUID as torch and the driver agree on it."""
    return uuid.casefold().removeprefix("gpu-").removeprefix("mig-")
