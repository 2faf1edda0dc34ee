"""Rich's `Progress`, with tasks that only count."""

from __future__ import annotations

import colorsys
import functools
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ridgepole.progress import text
from ridgepole.progress.task import LazyTask
from ridgepole.progress.tracked import Counter, Iteration, TrackedIterable, total_steps

# Okabe and Ito, "Color Universal Design" (2008), dark colours last. Black is replaced by a grey
# that is visible on dark and light terminals. Without the cones for green, a lighter grey looks
# like the pink.
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#686868")


def next_color(used: Sequence[str]) -> str:
    """Return the colour of the next bar as `#RRGGBB`: one that `used` does not have.

    It is the palette's first free colour, then the middle of the largest gap between hues.
    """
    for color in OKABE_ITO:
        if color not in used:
            return color
    hues = sorted({_hue(color) for color in used})
    gaps = [(after - before, before) for before, after in zip(hues, [*hues[1:], hues[0] + 1.0], strict=True)]
    width, start = max(gaps)
    red, green, blue = colorsys.hls_to_rgb((start + width / 2) % 1.0, 0.6, 0.65)
    return f"#{round(red * 255):02X}{round(green * 255):02X}{round(blue * 255):02X}"


@functools.lru_cache(maxsize=4096)
def _hue(color: str) -> float:
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return colorsys.rgb_to_hls(red, green, blue)[0]


def find_bar(name: str, bars: Iterable[str], *, substring: bool = False) -> str | None:
    """Return the bar that fits a task's name, or None.

    An exact match wins, then a part between `-`, then (with `substring`) any bar that contains it.
    """
    known = list(bars)
    if not name:
        return None
    if name in known:
        return name
    parts = (bar for bar in known if name in bar.split("-"))
    contained = (bar for bar in known if substring and name in bar)
    return next(parts, None) or next(contained, None)


T = TypeVar("T")

# With the GIL `+=` on an attribute never lost an update in stress tests; without it over half were
# lost.
NEEDS_LOCK = not getattr(sys, "_is_gil_enabled", lambda: True)()


class TaskNumber(int):
    """The id of a task. Each bar counts from 0, as in Rich; the id also holds its bar."""

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
        cells: Rich's own dictionary of the tasks, so that an advance needs one look-up.
    """

    def __init__(self, name: str, color: str, console: Console, get_time: Callable[[], float]) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(complete_style=color, finished_style=color),
            TextColumn("({task.completed}/{task.total})"),
            TimeRemainingColumn(),
            console=console,
            get_time=get_time,
            disable=True,  # one live display draws all bars
        )
        self.name = name
        self.color = color
        self.lock = self._lock
        self.cells = cast("dict[int, LazyTask]", self._tasks)  # add_task puts nothing else in
        self.with_status = False
        self.on_refresh: Callable[[], None] = lambda: None

    def task(self, task_id: int) -> LazyTask:
        """Return a task by its id."""
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
        """Add a row, as Rich's own `add_task`; raise `ValueError` for a negative total."""
        total = total_steps(total, f"total of a task of bar {self.name!r}")
        with self._lock:
            number = TaskNumber(self._task_index)
            number.bar = self
            task_id = TaskID(number)  # the same object at run time
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
            task.bar, task.key = self, task.description
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
            """Add steps to a task."""
            task = self.task(task_id)
            with self._lock:
                task.extra += advance
    else:

        def advance(self, task_id: TaskID, advance: float = 1) -> None:
            """Add steps to a task."""
            task = self.cells.get(task_id)
            if task is None or task.id is not task_id:  # a plain number can be a valid id
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
        """Change a task, as Rich's own `update`."""
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
        """Reset a task, as Rich's own `reset`, and show its row again."""
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
        """Track an iterable on a row of this bar, as Rich's own `track`, counting in C."""
        task = self.task(task_id if task_id is not None else self.add_task(description, total=total))
        tracked = TrackedIterable(_OneTask(task), sequence, name=self.name, total=total, initial=completed)
        if tracked.total is not None:
            task.total = tracked.total
        return tracked

    @property
    def finished(self) -> bool:
        """Tell whether all tasks have finished."""
        return all(task.finished for task in list(self.cells.values()))

    def refresh(self) -> None:
        """Draw the display, if there is one."""
        self.on_refresh()

    def forked(self) -> None:
        """Create a new lock in a forked child."""
        self._lock = self.lock = threading.RLock()


class _OneTask:
    """The host of an iterable that is tracked on a given task."""

    def __init__(self, task: LazyTask) -> None:
        self.task = task

    def _begin_pass(self, tracked: TrackedIterable[Any], one: Iteration) -> Counter:
        self.task.begin_pass(one, self.task.get_time(), tracked.base)
        self.task.bar.refresh()
        return self.task

    def _end_pass(self, counter: Counter, one: Iteration, exhausted: bool) -> None:
        assert isinstance(counter, LazyTask)
        if counter.end_pass(one, exhausted, counter.get_time()):
            counter.bar.refresh()
