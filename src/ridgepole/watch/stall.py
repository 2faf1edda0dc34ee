"""Decide whether a run stalls, from what its helper process sees."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Literal

from ridgepole.ticks import COUNT, FIRST, PAUSES

FIRST_STEPS = 20
"""Steps of a process before a stall counts: the first ones compile, and fill caches."""

_LEAST_SECONDS = 60.0
_MEDIANS = 20.0
_SAMPLES = 101


class StallWatch:
    """Looks at a run's numbers now and then.

    Args:
        seconds: Seconds without a step that are a stall; by default 60, or 20 times the median step
            if that is longer.

    Attributes:
        waited: Seconds since the last step.
        latest: The time of a step since the last look; None without one.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.waited = 0.0
        self.latest: float | None = None
        self._seconds = seconds
        self._since = 0.0  # the last step, also where no stall counts
        self._last, self._pauses = -1, 0
        self._steps: deque[float] = deque(maxlen=_SAMPLES)
        self._reported = False

    @property
    def median(self) -> float:
        """Return the median time of a step; NaN before the first."""
        return median(self._steps) if self._steps else math.nan

    @property
    def limit(self) -> float:
        """Return the seconds without a step that are a stall."""
        if self._seconds is not None:
            return self._seconds
        return max(_LEAST_SECONDS, _MEDIANS * self.median) if self._steps else math.inf

    def look(self, beat: Sequence[int], elapsed: float) -> Literal["", "stalls", "moves"]:
        """Look at the numbers.

        Args:
            beat: The numbers of the run.
            elapsed: Seconds since the look before, without those in which the run was stopped.

        Returns:
            `stalls` once where a stall is found, `moves` once when it is over.
        """
        count, pauses = beat[COUNT], beat[PAUSES]
        moved = count != self._last
        self._since += elapsed
        self.latest = None
        if moved or pauses != self._pauses:
            if 0 < self._last < count and pauses == self._pauses:
                self.latest = self._since / (count - self._last)
                self._steps.append(self.latest)
            self._since = 0.0
        rests = count <= 0 or pauses % 2 or count - beat[FIRST] < FIRST_STEPS
        self.waited = 0.0 if moved or rests or pauses != self._pauses else self.waited + elapsed
        self._last, self._pauses = count, pauses
        if self._reported and (moved or rests):
            self._reported = False
            return "moves"
        if not self._reported and self.waited > self.limit:
            self._reported = True
            return "stalls"
        return ""
