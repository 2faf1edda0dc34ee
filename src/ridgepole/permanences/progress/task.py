"""Rich's `Task`, counting only; all else is worked out when somebody looks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from rich.progress import Task

from ridgepole.permanences.progress import text
from ridgepole.permanences.progress.counting import Counter, Pass
from ridgepole.permanences.progress.pace import Pace


class Owner(Protocol):
    """What a row asks of its bar."""

    color: str
    with_status: bool

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Guards the counts where there is no GIL."""
        ...

    def task(self, task_id: int) -> LazyTask:
        """The task of that id."""
        ...

    def refresh(self) -> None:
        """Draws soon."""
        ...


class LazyTask(Counter, Task):
    """One row: Rich's `Task`, whose count, visibility and end are worked out on reading.

    Attributes:
        bar: The bar that it belongs to.
        unit: What a step is called in rates.
        status: Text for the status column.
        note_text: What `set` was given, as text.
        note_wanted: Raised by the display where the next `set` is to be turned into text.
        keep: Whether the row stays when the task has ended.
        retired: Whether the row has been left behind on the screen for good.
        told: When the last plain line was written about it, where the display is a file.
        told_count: Its count at that time.
        told_end: Whether a plain line told its end.
        passes: How often it was begun; a bar of every epoch is begun again and again.
    """

    bar: Owner
    unit: str = "it"
    status: str = ""
    note_text: str = ""
    note_wanted: bool = True
    keep: bool = False
    retired: bool = False
    told: float | None = None
    told_count: float = 0
    told_end: bool = False
    passes: int = 1
    _shown: bool | None = None  # what the user said about visibility; None: by the rules
    _always: bool = False
    _recalled: bool = False
    _open: bool = False  # a decorated function is running
    _start_count: float = 0
    _pace: Pace | None = None
    _notes: dict[str, Any]

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    # -- what Rich's Task keeps as plain attributes -------------------------------------------------------------

    @property
    def visible(self) -> bool:
        """Whether the row is shown: from the first advance to the end, unless it was told otherwise."""
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
        """Whether it was told not to be shown."""
        return self._shown is False

    @property
    def finished(self) -> bool:
        """Whether it has reached its end: the source exhausted, or the count at its total."""
        if self.finished_time is not None:
            return True
        return not self.active and self.total is not None and self.begun and self.completed >= self.total

    @property
    def begun(self) -> bool:
        """Whether it has ever moved, or was brought back by a reset."""
        return self.moved or self._recalled

    @property
    def moved(self) -> bool:
        """Whether it has ever moved since it was declared or reset."""
        return self.active or self.stop_time is not None or self.completed != self._start_count

    @property
    def active(self) -> bool:
        """Whether a pass or a decorated function is going on right now."""
        return self._open or self.running

    @property
    def ended(self) -> bool:
        """Whether nothing more is expected: finished, or stopped before."""
        return not self.active and (self.stop_time is not None or self.finished)

    @property
    def busy(self) -> bool:
        """Whether it has begun and not ended."""
        return self.begun and not self.ended

    # -- begin and end ------------------------------------------------------------------------------------------

    def set_rules(self, *, always: bool, keep: bool) -> None:
        """Shows the row by the rules: always, or from the first advance, and after the end where `keep`."""
        self._shown, self._always, self.keep = None, always, keep
        if always and self._pace is None:  # what is seen from the start takes its time from there
            self._pace = Pace(self.get_time(), self.completed)

    def restart(self, now: float, count: float, *, recalled: bool = False) -> None:
        """Back to a count, with a fresh clock."""
        self.passes += self.begun  # the first time it has not moved yet
        self._start_count = count
        self._recalled = recalled
        self._pace = Pace(now, count)
        self.start_time, self.stop_time, self.finished_time = now, None, None
        self.retired = self.told_end = False
        self._notes, self.note_text, self.note_wanted = {}, "", True
        self.status = ""

    def begin_pass(self, one: Pass, now: float, count: float) -> None:
        """Starts counting a pass over an iterable."""
        self.restart(now, count)
        self.begin(one, count)

    def end_pass(self, one: Pass, exhausted: bool, now: float) -> bool:
        """Ends the pass; False where it had ended before."""
        if not self.end(one, exhausted):
            return False
        self._close(now, finished=exhausted)
        return True

    def begin_call(self, now: float) -> None:
        """Marks that a decorated function runs."""
        self.restart(now, 0)
        self.completed = 0
        self._open = True

    def end_call(self, now: float, *, failed: bool) -> None:
        """Marks that the decorated function has returned or raised."""
        self._open = False
        self._close(now, finished=not failed and self.total is not None and self.completed >= self.total)

    def _close(self, now: float, *, finished: bool) -> None:
        if self.stop_time is None:
            self.stop_time = now
        if finished and self.start_time is not None:
            self.finished_time = self.stop_time - self.start_time
        self.note_wanted = True
        self._settle_notes()

    # -- live values --------------------------------------------------------------------------------------------

    def note(self, values: Mapping[str, Any]) -> None:
        """Keeps values to show; they become text here, on the caller's thread, when the display wants some."""
        self._notes.update(values)
        if self.note_wanted:
            self.note_wanted = not self.active  # after the end nobody would ask for them any more
            self._settle_notes()

    def _settle_notes(self) -> None:
        if self._notes:
            self._notes = dict(text.values(self._notes))  # texts instead of references: tensors are let go
            self.note_text = " ".join(f"{text.clean(name)}={value}" for name, value in self._notes.items())

    # -- for the display ----------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Takes the count in: pace, first movement, end. Called by the display, under its lock."""
        count = self.completed
        if self._pace is None:
            if count == self._start_count and not self.active:
                return
            # A task that is advanced by hand starts its clock when it first moves, not when it was declared.
            self._pace = Pace(now, count)
            self.start_time = now
        self._pace.see(self.stop_time if self.stop_time is not None else now, count)
        if self.stop_time is None and self.finished:
            self._close(now, finished=True)

    def reopen(self) -> None:
        """Takes an end back where a new total or count says that there is more to come."""
        if not self.active and (self.total is None or self.completed < self.total):
            self.stop_time = self.finished_time = None
            self.retired = self.told_end = False

    def skip(self, seconds: float) -> None:
        """Leaves out time in which the display was paused."""
        if self._pace is not None and not self.ended:
            self._pace.skip(seconds)

    @property
    def rate(self) -> float | None:
        """Steps per second: the current pace, after the end the average."""
        if self.ended and self.start_time is not None and self.stop_time is not None:
            seconds, steps = self.stop_time - self.start_time, self.completed - self._start_count
            if seconds > 0 and steps > 0:
                return steps / seconds
        return self._pace.rate if self._pace is not None else None

    def seconds_left(self, now: float) -> float | None:
        """Seconds to the end; None while nothing is known."""
        if self.finished:
            return 0.0
        if self._pace is None or self.total is None:
            return None
        return self._pace.remaining(now, max(0.0, self.total - self.completed))

    def seconds_spent(self, now: float) -> float:
        """Seconds since the start, up to the end."""
        if self.start_time is None:
            return 0.0
        return (self.stop_time if self.stop_time is not None else now) - self.start_time
