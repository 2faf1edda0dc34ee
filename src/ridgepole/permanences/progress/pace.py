"""How fast a task moves and how long it will still take."""

from __future__ import annotations

import math

HORIZON_SECONDS = 15.0
HORIZON_SHARE = 0.25
HORIZON_STEPS = 8.0


class Pace:
    """A moving average over (steps, seconds).

    The horizon is the longest of 15 s, a quarter of the time since the start, and 8 steps: short loops follow
    changes quickly, long ones are not upset by a pause for validation, and slow ones (45 s a step) are never blank.
    The first observation holds the warm-up; it counts only as long as there is no other. Only differences are used,
    so a resumed task (`initial=`) is right from its first step.

    Args:
        now: Time in seconds.
        count: Steps done at that time.
    """

    __slots__ = ("_count", "_first", "_seconds", "_start", "_steps", "_time")

    def __init__(self, now: float, count: float) -> None:
        self._start = self._time = now
        self._count = count
        self._steps = self._seconds = 0.0
        self._first: float | None = None

    def see(self, now: float, count: float) -> None:
        """Takes in that `count` steps are done at the time `now`."""
        steps, seconds = count - self._count, now - self._time
        if steps < 0:
            self.__init__(now, count)  # type: ignore[misc]  # set back: all that was known is void
            return
        if not steps or seconds <= 0 or not math.isfinite(steps):
            return
        self._time, self._count = now, count
        if self._first is None:
            self._first = steps / seconds
            return
        horizon = max(HORIZON_SECONDS, HORIZON_SHARE * (now - self._start), HORIZON_STEPS * seconds / steps)
        keep = math.exp(-seconds / horizon)
        self._steps = self._steps * keep + steps
        self._seconds = self._seconds * keep + seconds

    def skip(self, seconds: float) -> None:
        """Leaves out time in which the program was stopped on purpose, such as at a prompt."""
        self._time += seconds
        self._start += seconds

    @property
    def rate(self) -> float | None:
        """Steps per second, or None before the first step."""
        return self._steps / self._seconds if self._seconds else self._first

    def remaining(self, now: float, steps: float) -> float | None:
        """Seconds until `steps` more are done, or None while nothing is known.

        The time since the last step counts as progress on the next one, but never for more than that one step.
        """
        rate = self.rate
        if not rate:
            return None
        return max(0.0, steps / rate - min(max(0.0, now - self._time), 1 / rate))
