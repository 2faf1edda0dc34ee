"""How the use of the chosen device went: one sample a checkpoint, and the highest seen."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from ridgepole.permanences.device import host, torchside
from ridgepole.permanences.device.cards import OWN_PROCESS, Card

_KEPT = 256


@dataclass(frozen=True, slots=True)
class Sample:
    """The memory of a device at one moment; None is unknown.

    Attributes:
        time: Seconds since the epoch.
        used_bytes: By everybody.
        own_bytes: By this process.
        total_bytes: In all.
    """

    time: float
    used_bytes: int | None
    own_bytes: int | None
    total_bytes: int | None

    @property
    def others_bytes(self) -> int | None:
        """By other processes, the driver included; None where the total is unknown."""
        return None if self.used_bytes is None else max(0, self.used_bytes - (self.own_bytes or 0))


def of_card(card: Card) -> Sample:
    """A sample of an accelerator.

    This process's part is what the driver says of its pid, or what torch's allocator holds, whichever is more: inside
    a container the driver often knows no pid, and the allocator doesn't know of the context.
    """
    parts = [one.used for one in card.processes or () if one.pid == os.getpid()]
    if card.index is not None:
        parts.append(torchside.reserved(card.kind, card.index))
    known = [part for part in parts if part is not None]
    used = None if card.source == OWN_PROCESS and not known else card.used
    return Sample(time.time(), used, max(known, default=None), card.total)


def of_host() -> Sample:
    """A sample of the CPU's memory."""
    total, free = host.memory()
    return Sample(time.time(), total - free, host.own_memory(), total)


class History:
    """The last samples, and the highest of all."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._count = 0
        self._peak: Sample | None = None

    def add(self, sample: Sample) -> None:
        """Adds a sample."""
        self._samples.append(sample)
        self._count += 1
        if self._peak is None or (sample.used_bytes or 0) > (self._peak.used_bytes or 0):
            self._peak = sample

    @property
    def peak(self) -> Sample | None:
        """The sample with the most memory used, or None before the first."""
        return self._peak

    def as_dict(self) -> dict[str, Any]:
        """The history as plain JSON values: `count` of all samples, `peak`, and the last `samples`."""
        return {
            "count": self._count,
            "peak": None if self._peak is None else asdict(self._peak),
            "samples": [asdict(sample) for sample in self._samples],
        }
