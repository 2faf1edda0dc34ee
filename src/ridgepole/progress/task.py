"""Rich's `Task`, reduced to counting; all else is computed when it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from rich.progress import Task

from ridgepole.progress import text
from ridgepole.progress.tracked import Counter, Iteration

HORIZON_SECONDS = 15.0
HORIZON_SHARE = 0.25
HORIZON_STEPS = 8.0


class RateEstimator:
    """A moving average over (steps, seconds).

    The horizon is the longest of 15 s, a quarter of the time since the start, and 8 steps. So short
    loops follow changes quickly, a pause for validation hardly changes long ones, and slow ones
    (45 s a step) always have a rate. The first observation includes the warm-up; it counts only
    until there is another. Only differences are used, so a resumed task (`initial=`) is right from
    its first step.

    Args:
        now: The time.
        count: The steps that are done already.
        overall: Whether the rate is the average since the start. Several steps that are done at the
            same time, as trials are, end in bursts, which say nothing of the rate.
    """

    __slots__ = ("_count", "_first", "_origin", "_overall", "_seconds", "_start", "_steps", "_time")

    def __init__(self, now: float, count: float, *, overall: bool = False) -> None:
        self._start = self._time = now
        self._count = self._origin = count
        self._overall = overall
        self._steps = self._seconds = 0.0
        self._first: float | None = None

    def see(self, now: float, count: float) -> None:
        """Record that `count` steps are done at the time `now`."""
        steps, seconds = count - self._count, now - self._time
        if steps < 0:
            self.__init__(now, count, overall=self._overall)  # type: ignore[misc]# a reset: start over
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
        """Ignore time in which the program was paused on purpose, such as at a prompt."""
        self._time += seconds
        self._start += seconds

    @property
    def rate(self) -> float | None:
        """Return steps per second, or None before the first step."""
        if self._overall and self._time > self._start:
            return (self._count - self._origin) / (self._time - self._start)
        return self._steps / self._seconds if self._seconds else self._first

    def remaining(self, now: float, steps: float) -> float | None:
        """Return the seconds until `steps` more are done, or None if unknown.

        The time since the last step counts as progress on the next step, up to one whole step.
        """
        rate = self.rate
        if not rate:
            return None
        return max(0.0, steps / rate - min(max(0.0, now - self._time), 1 / rate))

    def remaining_of(self, now: float, seconds: Sequence[float], done: int) -> float:
        """Return the seconds until all steps are done, from those that each one took last time.

        Steps that took longer this time than last time stretch the others by the same share, and by
        more the more of the work is done.

        Args:
            now: The time.
            seconds: The seconds that each step took last time.
            done: How many of them are done now.
        """
        begun, rest = sum(seconds[:done]), sum(seconds[done:])
        stretch = (self._time - self._start + rest) / (begun + rest) if begun + rest else 1.0
        current = max(0.0, now - self._time)
        ahead = [each * stretch for each in seconds[done:]]
        return max(0.0, ahead[0] - current) + sum(ahead[1:]) if ahead else 0.0


class _Bar(Protocol):
    """The part of a bar that its rows use."""

    color: str
    with_status: bool

    @property
    def lock(self) -> AbstractContextManager[Any]: ...
    def task(self, task_id: int) -> LazyTask: ...
    def refresh(self) -> None: ...


class LazyTask(Counter, Task):
    """One row: Rich's `Task`, whose count, visibility and end are computed when read.

    Attributes:
        bar: The bar that it belongs to.
        key: The description that it was added with, by which it is found again.
        unit: The name of a step in rates.
        unit_scale: Whether its counts have a prefix.
        status: Text for the status column.
        note_text: The values of `set`, as text.
        note_wanted: Set by the display if the next `set` shall become text.
        keep: Whether the row stays after the end.
        retired: Whether the row has been left behind on the screen for good.
        reported_at: Time of its last plain line, if the display is a file.
        reported_count: Its count at that time.
        end_reported: Whether a plain line has reported its end.
        passes: How often it was begun; a bar of every epoch is begun repeatedly.
    """

    bar: _Bar
    key: str = ""
    unit: str = "it"
    unit_scale: bool = False
    status: str = ""
    note_text: str = ""
    note_wanted: bool = True
    keep: bool = False
    retired: bool = False
    reported_at: float | None = None
    reported_count: float = 0
    end_reported: bool = False
    passes: int = 1
    _shown: bool | None = None  # the visibility that the user has set; None: by the rules
    _always: bool = False
    _recalled: bool = False
    _open: bool = False  # a decorated function is running
    _start_count: float = 0
    _pace: RateEstimator | None = None
    _notes: dict[str, Any]

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    # -- what Rich's Task keeps as plain attributes ------------------------------------------------

    @property
    def visible(self) -> bool:
        """Tell whether the row is shown: by default from the first advance to the end."""
        if self._shown is not None:
            return self._shown
        if self._always:
            return True
        if self.ended:
            return self.keep and self.begun
        return self.begun

    @visible.setter
    def visible(self, value: bool) -> None:
        self._shown = value

    @property
    def hidden(self) -> bool:
        """Tell whether the user has hidden it."""
        return self._shown is False

    @property
    def finished(self) -> bool:
        """Tell whether it is complete: the source is exhausted, or the count is at its total."""
        if self.finished_time is not None:
            return True
        return not self.active and self.total is not None and self.begun and self.completed >= self.total

    @property
    def begun(self) -> bool:
        """Tell whether it has ever moved, or was reset."""
        return self.moved or self._recalled

    @property
    def moved(self) -> bool:
        """Tell whether it has moved since it was declared or reset."""
        return self.active or self.stop_time is not None or self.completed != self._start_count

    @property
    def active(self) -> bool:
        """Tell whether an iteration or a decorated function is running now."""
        return self._open or self.running

    @property
    def ended(self) -> bool:
        """Tell whether it has finished or stopped early."""
        return not self.active and (self.stop_time is not None or self.finished)

    @property
    def busy(self) -> bool:
        """Tell whether it has begun and not ended."""
        return self.begun and not self.ended

    # -- begin and end -----------------------------------------------------------------------------

    def set_rules(self, *, always: bool, keep: bool) -> None:
        """Show the row always, or from the first advance; with `keep` also after the end."""
        self._shown, self._always, self.keep = None, always, keep
        if always and self._pace is None:  # a row that is shown from the start is timed from there
            self._pace = self._new_pace(self.get_time(), self.completed)

    def _new_pace(self, now: float, count: float) -> RateEstimator:
        """Start to estimate the rate; the field `overall` asks for the average since the start."""
        return RateEstimator(now, count, overall=bool(self.fields.get("overall")))

    def restart(self, now: float, count: float, *, recalled: bool = False) -> None:
        """Reset the count and restart the clock."""
        self.passes += self.begun  # the first time it has not moved yet
        self._start_count = count
        self._recalled = recalled
        self._pace = self._new_pace(now, count)
        self.start_time, self.stop_time, self.finished_time = now, None, None
        self.retired = self.end_reported = False
        self._notes, self.note_text, self.note_wanted = {}, "", True
        self.status = ""

    def begin_pass(self, one: Iteration, now: float, count: float) -> None:
        """Start counting an iteration."""
        self.restart(now, count)
        self.begin(one, count)

    def end_pass(self, one: Iteration, exhausted: bool, now: float) -> bool:
        """End the iteration; return False if it has already ended."""
        if not self.end(one, exhausted):
            return False
        self._close(now, finished=exhausted)
        return True

    def begin_call(self, now: float) -> None:
        """Mark that a decorated function runs."""
        self.restart(now, 0)
        self.completed = 0
        self._open = True

    def end_call(self, now: float, *, failed: bool) -> None:
        """Mark that the decorated function has returned or raised."""
        self._open = False
        self._close(now, finished=not failed and self.total is not None and self.completed >= self.total)

    def _close(self, now: float, *, finished: bool) -> None:
        if self.stop_time is None:
            self.stop_time = now
        if finished and self.start_time is not None:
            self.finished_time = self.stop_time - self.start_time
        self.note_wanted = True
        self._format_notes()

    # -- live values -------------------------------------------------------------------------------

    def note(self, values: Mapping[str, Any]) -> None:
        """Keep values to show; format them, on the caller's thread, if the display wants them."""
        self._notes.update(values)
        if self.note_wanted:
            self.note_wanted = not self.active  # after the end the display no longer asks for them
            self._format_notes()

    def describe(self, description: str) -> None:
        """Change the text of the row."""
        self.description = text.clean(description)

    def _format_notes(self) -> None:
        if self._notes:
            self._notes = dict(text.values(self._notes))  # strings: release tensors
            self.note_text = " ".join(f"{text.clean(name)}={value}" for name, value in self._notes.items())

    # -- for the display ---------------------------------------------------------------------------

    def count_text(self) -> str:
        """Format the count and the total, such as `3/10`, or `3/?` if the total is unknown."""
        total = "?" if self.total is None else text.amount(self.total, scaled=self.unit_scale)
        return f"{text.amount(self.completed, scaled=self.unit_scale)}/{total}"

    def look(self, now: float) -> None:
        """Update rate, start and end from the count. The display calls it, under its lock."""
        count = self.completed
        if self._pace is None:
            if count == self._start_count and not self.active:
                return
            # An explicitly advanced task starts its clock when it first moves.
            self._pace = self._new_pace(now, count)
            self.start_time = now
        self._pace.see(self.stop_time if self.stop_time is not None else now, count)
        if self.stop_time is None and self.finished:
            self._close(now, finished=True)

    def reopen(self) -> None:
        """Clear the end if a new total or count means that more steps follow."""
        if not self.active and (self.total is None or self.completed < self.total):
            self.stop_time = self.finished_time = None
            self.retired = self.end_reported = False

    def skip(self, seconds: float) -> None:
        """Ignore time in which the display was paused."""
        if self._pace is not None and not self.ended:
            self._pace.skip(seconds)

    @property
    def rate(self) -> float | None:
        """Return steps per second: the current rate, after the end the average."""
        if self.ended and self.start_time is not None and self.stop_time is not None:
            seconds, steps = self.stop_time - self.start_time, self.completed - self._start_count
            if seconds > 0 and steps > 0:
                return steps / seconds
        return self._pace.rate if self._pace is not None else None

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds to the end, or None if unknown.

        The field `expected_seconds` has the seconds of each step, where they are known from another
        time; None where steps differ too much to tell.
        """
        if self.finished:
            return 0.0
        if self._pace is None or self.total is None:
            return None
        expected = self.fields.get("expected_seconds", ())
        if expected is None:
            return None
        if len(expected) == self.total and self.completed == int(self.completed):
            first = int(self._start_count)
            return self._pace.remaining_of(now, expected[first:], int(self.completed) - first)
        return self._pace.remaining(now, max(0.0, self.total - self.completed))

    def seconds_spent(self, now: float) -> float:
        """Return the seconds since the start, up to the end."""
        if self.start_time is None:
            return 0.0
        return (self.stop_time if self.stop_time is not None else now) - self.start_time
