"""Rich's `Progress` and `Task`, counting only; all else is worked out when somebody looks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn

from ridgepole.permanences.progress import text
from ridgepole.permanences.progress.counting import Counter, Pass, Tracked, total_steps
from ridgepole.permanences.progress.pace import Pace

T = TypeVar("T")

# With the GIL `+=` on an attribute never lost an update in stress tests; without it over half were lost.
NEEDS_LOCK = not getattr(sys, "_is_gil_enabled", lambda: True)()


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

    bar: Bars
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
        self._settle_notes()

    # -- live values --------------------------------------------------------------------------------------------

    def note(self, values: Mapping[str, Any]) -> None:
        """Keeps values to show; they become text here, on the caller's thread, when the display wants some."""
        self._notes.update(values)
        if self.note_wanted or not self.active:
            self.note_wanted = False
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


class Bars(Progress):
    """A named bar of the display: Rich's `Progress` with tasks that only count.

    Attributes:
        name: Its name in `progress_dict`.
        color: As `#RRGGBB`.
        with_status: Whether the status of its tasks is shown.
        lock: Rich's own lock of the tasks.
        cells: The tasks by id: the very dictionary, so that an advance looks nothing up twice.
    """

    def __init__(self, name: str, color: str, console: Console, get_time: Callable[[], float]) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(complete_style=color, finished_style=color),
            TextColumn("({task.completed}/{task.total})"),
            TimeRemainingColumn(),
            console=console,
            get_time=get_time,
            disable=True,  # it is drawn with all others by one live display, never by itself
        )
        self.name = name
        self.color = color
        self.lock = self._lock
        self.cells = cast("dict[int, LazyTask]", self._tasks)  # add_task puts nothing else in
        self.with_status = False
        self.on_refresh: Callable[[], None] = lambda: None

    def task(self, task_id: int) -> LazyTask:
        """The task of that id.

        Raises:
            ValueError: If this bar has none.
        """
        try:
            return self.cells[task_id]
        except (KeyError, TypeError):
            ids = ", ".join(map(str, self.cells)) or "none"
            raise ValueError(f"bar {self.name!r} has no task {task_id!r}; its tasks are: {ids}") from None

    def add_task(
        self,
        description: str,
        start: bool = True,
        total: float | None = 100.0,
        completed: int = 0,
        visible: bool = True,
        **fields: Any,
    ) -> TaskID:
        """Adds a row, as Rich's own `add_task`.

        Raises:
            ValueError: If the total is negative.
        """
        total = total_steps(total, f"total of a task of bar {self.name!r}")
        with self._lock:
            task_id = self._task_index
            task = LazyTask(
                task_id,
                text.clean(description),
                total,
                completed,
                visible=visible,
                fields=fields,
                _get_time=self.get_time,
                _lock=self._lock,
            )
            task.bar = self
            task._start_count = completed  # noqa: SLF001
            task._notes = {}  # noqa: SLF001
            task.status = text.clean(fields.get("status", ""))
            if start:
                task.start_time = self.get_time()
            self._tasks[task_id] = task
            self._task_index = TaskID(int(task_id) + 1)
        self.refresh()  # outside the lock: the display takes its own first
        return task_id

    if NEEDS_LOCK:

        def advance(self, task_id: TaskID, advance: float = 1) -> None:
            """Adds steps to a task."""
            task = self.task(task_id)
            with self._lock:
                task.extra += advance
    else:

        def advance(self, task_id: TaskID, advance: float = 1) -> None:
            """Adds steps to a task."""
            try:
                self.cells[task_id].extra += advance
            except (KeyError, TypeError):
                self.task(task_id)  # raises, and says which there are

    def update(
        self,
        task_id: TaskID,
        *,
        total: float | None = None,
        completed: float | None = None,
        advance: float | None = None,
        description: str | None = None,
        visible: bool | None = None,
        refresh: bool = False,
        **fields: Any,
    ) -> None:
        """Changes a task, as Rich's own `update`."""
        task = self.task(task_id)
        total = total_steps(total, f"total of a task of bar {self.name!r}") if total is not None else task.total
        with self._lock:
            if completed is not None:
                task.completed = completed
            if advance is not None:
                task.extra += advance
            if description is not None:
                task.description = text.clean(description)
            if visible is not None:
                task.visible = visible
            if completed is not None or advance is not None or total != task.total:
                task.total = total
                task.reopen()
            task.fields.update(fields)
            if "status" in fields:
                task.status = text.clean(fields["status"])
        if refresh:
            self.refresh()

    def reset(
        self,
        task_id: TaskID,
        *,
        start: bool = True,
        total: float | None = None,
        completed: int = 0,
        visible: bool | None = None,
        description: str | None = None,
        **fields: Any,
    ) -> None:
        """Sets a task back, as Rich's own `reset`; its row is shown again."""
        task = self.task(task_id)
        task.restart(self.get_time(), completed, recalled=True)
        if not start:
            task.start_time = None
        task.completed = completed
        if fields:
            task.fields = {}
        self.update(task_id, total=total, visible=visible, description=description, **fields)
        self.refresh()

    def track(
        self,
        sequence: Iterable[T],
        total: float | None = None,
        completed: int = 0,
        task_id: TaskID | None = None,
        description: str = "Working...",
        update_period: float = 0.1,  # noqa: ARG002 - Rich's signature; the display has its own period
    ) -> Iterable[T]:
        """Tracks an iterable on a row of this bar, as Rich's own `track`, at the cost of counting in C."""
        task = self.task(task_id if task_id is not None else self.add_task(description, total=total))
        tracked = Tracked(_OneTask(task), sequence, name=self.name, total=total, initial=completed)
        if tracked.total is not None:
            task.total = tracked.total
        return tracked

    @property
    def finished(self) -> bool:
        """Whether all tasks have finished."""
        return all(task.finished for task in list(self.cells.values()))

    def refresh(self) -> None:
        """Draws the display, where there is one."""
        self.on_refresh()

    def forked(self) -> None:
        """Makes the lock anew in a forked child."""
        self._lock = self.lock = threading.RLock()


class _OneTask:
    """Host of an iterable that is tracked on a given task."""

    def __init__(self, task: LazyTask) -> None:
        self.task = task

    def _begin_pass(self, tracked: Tracked[Any], one: Pass) -> Counter:
        self.task.begin_pass(one, self.task.get_time(), tracked.initial)
        self.task.bar.refresh()
        return self.task

    def _end_pass(self, counter: Counter, one: Pass, exhausted: bool) -> None:
        assert isinstance(counter, LazyTask)
        if counter.end_pass(one, exhausted, counter.get_time()):
            counter.bar.refresh()

    def _ticking(self) -> list[Pass]:
        return []
