"""Rich's `Progress`, with tasks that only count."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ridgepole.permanences.progress import text
from ridgepole.permanences.progress.counting import Counter, Pass
from ridgepole.permanences.progress.task import LazyTask
from ridgepole.permanences.progress.tracked import Tracked, total_steps

T = TypeVar("T")

# With the GIL `+=` on an attribute never lost an update in stress tests; without it over half were lost.
NEEDS_LOCK = not getattr(sys, "_is_gil_enabled", lambda: True)()


class TaskNumber(int):
    """A task's id. Each bar counts its own from 0, as Rich does; this one knows which bar it belongs to."""

    bar: Bars

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


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
            ValueError: If this bar has none, or it is the id of a task of another bar.
        """
        owner = getattr(task_id, "bar", self)
        if owner is not self:
            raise ValueError(f"bar {self.name!r} was given task {task_id!r} of bar {owner.name!r}")
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
            number = TaskNumber(self._task_index)
            number.bar = self
            task_id = TaskID(number)  # at run time the very object
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
        if visible:
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
            task = self.cells.get(task_id)
            if task is None or task.id is not task_id:  # a plain number may be right all the same
                task = self.task(task_id)
            task.extra += advance

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
        self.task.begin_pass(one, self.task.get_time(), tracked.base)
        self.task.bar.refresh()
        return self.task

    def _end_pass(self, counter: Counter, one: Pass, exhausted: bool) -> None:
        assert isinstance(counter, LazyTask)
        if counter.end_pass(one, exhausted, counter.get_time()):
            counter.bar.refresh()
