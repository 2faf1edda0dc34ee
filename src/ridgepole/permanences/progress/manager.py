"""The progress display of a run or a script."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, TypeVar

from rich.console import Console
from rich.progress import Progress, TaskID

from ridgepole.errors import ProgressNoMatch, did_you_mean
from ridgepole.permanence import Permanence, current_run, run_of
from ridgepole.permanences.progress import text
from ridgepole.permanences.progress.bars import NEEDS_LOCK, Bars
from ridgepole.permanences.progress.counting import Counter, Pass
from ridgepole.permanences.progress.display import displays
from ridgepole.permanences.progress.injection import injecting
from ridgepole.permanences.progress.live import BarsLive
from ridgepole.permanences.progress.matching import find_bar
from ridgepole.permanences.progress.palette import next_color
from ridgepole.permanences.progress.task import LazyTask
from ridgepole.permanences.progress.tracked import Tracked, total_steps

T = TypeVar("T")
STANDING_BARS = ("overall", "cleanup", "result")


class ProgressManager(Permanence):
    """Shows progress as aligned bars on a terminal, as sparse lines elsewhere.

    Counting is all that the program does; rates, times and rows are worked out by the display, ten times a second.

    ```toml
    [permanences.progress_manager]
    type = "ProgressManager"
    ```

    Args:
        console: Where to draw; the standard error stream by default, because standard output holds results.
        direct: Whether `live` is built at once; it exists in any case.

    Attributes:
        progress_dict: The bars by name; `overall`, `cleanup` and `result` are there from the start.
        live: The display. `with manager.live:` holds it open; it also shows itself when the first task is added.
        console: Where it is drawn. What is printed on it appears above the bars.

    Raises:
        TypeError: If `console` is not a Rich console.
    """

    # `advance` reads it at every call; a slot is read faster than the dictionary of an object that keeps other things.
    __slots__ = ("progress_dict",)
    ranks: ClassVar[Literal["all", "zero"]] = "zero"
    _clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, console: Console | None = None, direct: bool = False) -> None:
        if console is not None and not isinstance(console, Console):
            raise TypeError(f"console must be a rich.console.Console, not {type(console).__name__}")
        self.console = console if console is not None else Console(stderr=True)
        self._run = run_of(self)
        self._lock = threading.RLock()
        self.progress_dict: dict[str, Bars] = {}
        self.live: BarsLive = self._init_live()
        for name in STANDING_BARS:
            self.add_progress(name)
        if direct:
            self.init_live()
        displays().on_fork(self._forked)

    # -- lifecycle ----------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Keeps the display open from the first task until `cleanup`, also while nothing runs."""
        self.live.start()

    def cleanup(self) -> None:
        """Leaves the bars on the screen as they are and gives the terminal back."""
        self.live.close()

    def get_state(self) -> dict[str, Any]:
        """Every task of every bar with its count and total."""
        return {
            "bars": {
                name: [
                    {"task": task.description, "completed": task.completed, "total": task.total}
                    for task in list(bar.cells.values())
                ]
                for name, bar in list(self.progress_dict.items())
            }
        }

    # -- bars ---------------------------------------------------------------------------------------------------

    def _create_progress(self, color: str) -> Bars:
        """Makes a bar of a colour (`#RRGGBB`); `add_progress` names it."""
        bar = Bars("", color, self.console, self._clock)
        bar.on_refresh = self._redraw
        return bar

    def _init_live(self) -> BarsLive:
        """Makes the live display of all bars."""
        return BarsLive(self.console, self.progress_dict, self._clock)

    def _forked(self) -> None:
        """Makes the locks anew in a forked child, where the thread that holds one is missing."""
        self._lock = threading.RLock()
        self.live.forked()

    def _redraw(self) -> None:
        self.live.refresh()

    def init_live(self) -> None:
        """Builds `live` anew from the bars there are; one that is on the screen already stays, with all bars in it."""
        if self.live.is_started or self.live.closed or self.live.display.active or self.live.display.pauses:
            self.live.refresh()
        else:
            self.live = self._init_live()

    def add_progress(self, name: str, with_status: bool = False) -> Progress:
        """Adds a bar; where there is one of that name, that one is returned.

        Args:
            name: Its key in `progress_dict`; parts between `-` are names of tasks that it serves.
            with_status: Whether the status text of its tasks is shown.

        Returns:
            The bar, a Rich `Progress` in a colour of its own.

        Raises:
            TypeError: If the name is not a text.
            ValueError: If it is empty.
        """
        _check_name(name)
        with self._lock:
            bar = self.progress_dict.get(name)
            if bar is None:
                bar = self._create_progress(next_color([other.color for other in self.progress_dict.values()]))
                bar.name = name
                self.progress_dict[name] = bar
            bar.with_status = bar.with_status or bool(with_status)
        return bar

    def add_progresses(self, progresses: list[dict[str, Any]]) -> None:
        """Adds several bars and builds `live` anew.

        Args:
            progresses: The arguments of `add_progress`, one dictionary a bar.

        Raises:
            TypeError: If one of them is not such a dictionary; no bar is added then.
            ValueError: If a name is empty; no bar is added then.
        """
        definitions: list[object] = list(progresses)
        for number, progress in enumerate(definitions, 1):
            keys = set(progress) if isinstance(progress, Mapping) else set()
            if not isinstance(progress, Mapping) or "name" not in keys or keys - {"name", "with_status"}:
                raise TypeError(
                    f"bar {number} of add_progresses must be a dictionary with 'name' and perhaps 'with_status', "
                    f"not {progress!r}"
                )
            _check_name(progress["name"])
        for progress in progresses:
            self.add_progress(**progress)
        self.init_live()

    def _bar(self, name: str) -> Bars:
        try:
            return self.progress_dict[name]
        except (KeyError, TypeError):
            known = ", ".join(self.progress_dict)
            hint = did_you_mean(str(name), self.progress_dict)
            raise ValueError(f"there is no progress bar {name!r}; {hint or f'there are: {known}'}") from None

    def _task(self, progress_name: str, task_id: int) -> LazyTask:
        return self._bar(progress_name).task(task_id)

    # -- tasks --------------------------------------------------------------------------------------------------

    def add_task_to_progress(
        self, task_description: str, total: float | None, visible: bool = False, progress_name: str | None = None
    ) -> int:
        """Adds a task to a bar. Its row shows at the first advance and hides at the end, unless `visible`.

        Args:
            task_description: Literal text of the row. Without `progress_name` it also says which bar: the one of
                that name, or one that has it as a part between `-`.
            total: Steps at the end; None where unknown.
            visible: Whether the row shows from now on, and stays.
            progress_name: Exact name of the bar.

        Returns:
            The id of the task, for `advance` and `update`.

        Raises:
            ValueError: If there is no bar of that name, or the total is negative.
            TypeError: If the total is not a number.
            RuntimeError: If no bar fits the description.
        """
        if progress_name is not None:
            bar = self._bar(progress_name)
        else:
            found = find_bar(task_description, self.progress_dict)
            if found is None:
                raise RuntimeError(
                    f"no progress bar fits the task {task_description!r}; there are: {', '.join(self.progress_dict)}. "
                    f"Add one with add_progress({task_description!r}), or give progress_name"
                )
            bar = self.progress_dict[found]
        return self._add(bar, task_description, total, always=visible, keep=visible).id

    def _add(self, bar: Bars, description: str, total: float | None, *, always: bool, keep: bool) -> LazyTask:
        # Hidden until the rules for its visibility are set, as the display may look at any time.
        task = bar.task(bar.add_task(description, total=total, visible=False))
        task.set_rules(always=always, keep=keep)
        self.live.show()
        return task

    def advance(self, progress_name: str, task_id: int, step: float = 1.0, status: str = "") -> None:
        """Moves a task on.

        Args:
            progress_name: Name of its bar.
            task_id: What `add_task_to_progress` returned.
            step: Number of steps; may be a fraction.
            status: Text for the status column; empty leaves it as it is.

        Raises:
            ValueError: If there is no such bar, or the bar has no such task.
        """
        try:
            task = self.progress_dict[progress_name].cells[task_id]
        except (KeyError, TypeError):
            task = self._task(progress_name, task_id)  # raises, and says which there are
        if task.id is not task_id:  # not the very id that was given out; a plain number may be right all the same
            task = task.bar.task(task_id)
        if NEEDS_LOCK:
            with task.bar.lock:
                task.extra += step
        else:
            task.extra += step
        if status:
            task.status = status if type(status) is str else text.clean(status)  # the display cleans it when it looks

    def update(self, progress_name: str, task_id: int, status: str = "", advance: bool = False) -> None:
        """Sets a task's status text, and moves it on by one step if asked to.

        Args:
            progress_name: Name of its bar.
            task_id: What `add_task_to_progress` returned.
            status: Text for the status column; empty clears it.
            advance: Whether to move on by one step.

        Raises:
            ValueError: If there is no such bar, or the bar has no such task.
        """
        self.advance(progress_name, task_id, 1.0 if advance else 0.0, status)
        if not status:
            self._task(progress_name, task_id).status = ""

    def reset(self, progress_name: str) -> None:
        """Sets all tasks of a bar back to 0 and shows their rows again.

        Args:
            progress_name: Name of the bar.

        Raises:
            ValueError: If there is no such bar.
        """
        bar = self._bar(progress_name)
        for task_id in list(bar.cells):
            bar.reset(TaskID(task_id))

    # -- functions and iterables --------------------------------------------------------------------------------

    def progress_task(self, task_name: str, visible: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorates a function whose run is shown as a task; it is called as `f(total, *args, **kwargs)`.

        The function receives those of `total`, `task_id` and `progress` that its signature has, and moves on with
        `progress.advance(task_id)`. Called again it uses the same row again.

        ```python
        @manager.progress_task("train")
        def train(total, task_id, progress, rate):
            for _ in range(total):
                progress.advance(task_id)

        train(100, rate=0.1)
        ```

        Args:
            task_name: Text of the row, and which bar: the one of that name, one that has it as a part between `-`,
                or one that contains it.
            visible: Whether the row stays after the end.

        Returns:
            The decorator. What it returns raises `ProgressNoMatch` when called while no bar fits.

        Raises:
            TypeError: If the decorated object is not a plain function.
        """

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(total: object, run: Callable[[dict[str, Any]], Any]) -> Any:
                return self._call_task(task_name, visible, total, run)

            return injecting(function, call)

        return decorate

    def _call_task(
        self, name: str, visible: bool, total: object, run: Callable[[dict[str, Any]], Any], *, add: bool = False
    ) -> Any:
        steps = total_steps(total, f"total of {name!r}")
        found = find_bar(name, self.progress_dict, substring=True)
        if found is None and not add:
            raise ProgressNoMatch(
                f"no progress bar fits the task {name!r}; there are: {', '.join(self.progress_dict)}. "
                f"Add one with add_progress({name!r})"
            )
        bar = self._bar(found) if found is not None else self._bar_named(name)
        with self._lock:
            task = self._free_task(bar, name, steps, keep=visible)
            task.begin_call(self._clock())
        self._changed()
        failed = True
        try:
            result = run({"total": total, "task_id": task.id, "progress": bar})
            failed = False
        finally:
            task.end_call(self._clock(), failed=failed)
            self._changed()
        return result

    def track(
        self,
        iterable: Iterable[T],
        name: str | None = None,
        total: float | None = None,
        initial: float = 0,
        unit: str = "it",
        tick: bool = False,
    ) -> Tracked[T]:
        """Shows how far a loop over an iterable is, at the cost of counting in C.

        Args:
            iterable: What to loop over; it is asked for its items only when the loop is.
            name: The bar, added where it is missing, and the text of its row; `"progress"` by default.
            total: Steps at the end; by default `initial` plus the length of the iterable, where it has one.
            initial: Steps done before the first item, in a run that goes on.
            unit: What a step is called in rates.
            tick: Whether each item is a step boundary of the run: ticks after the body of each item, unless the
                body ticks itself or holds another loop that does.

        Returns:
            An iterable that can be looped over again and again on the same row, with `len` and `set(loss=…)`.

        Raises:
            TypeError: If it is not an iterable, or a number is not a number.
            ValueError: If the total or the initial steps are negative.
        """
        run = (self._run or current_run.get()) if tick else None
        name = "progress" if name is None else name
        _check_name(name)
        return Tracked(self, iterable, name=name, total=total, initial=initial, unit=text.clean(unit), run=run)

    def paused(self) -> AbstractContextManager[None]:
        """Takes the bars off the terminal for a while, for a prompt or a program that needs it to itself."""
        return self._pause()

    @contextlib.contextmanager
    def _pause(self) -> Iterator[None]:
        with self.live.display.paused():
            yield

    def _bar_named(self, name: str) -> Bars:
        self.add_progress(name)
        return self.progress_dict[name]

    def _free_task(self, bar: Bars, description: str, total: float | None, *, keep: bool) -> LazyTask:
        """The task of that description, unless it is in use (recursion, threads), else a new one."""
        description = text.clean(description)
        for task in list(bar.cells.values()):
            if task.description == description and not task.active:
                task.total = total
                task.set_rules(always=False, keep=keep)
                return task
        return self._add(bar, description, total, always=False, keep=keep)

    def _changed(self) -> None:
        self.live.show()
        self.live.task_changed()

    def _begin_pass(self, tracked: Tracked[Any], one: Pass) -> Counter:
        with self._lock:
            bar = self._bar_named(find_bar(tracked.name, self.progress_dict) or tracked.name)
            task = self._free_task(bar, tracked.name, tracked.total, keep=True)
            task.unit = tracked.unit
            task.begin_pass(one, self._clock(), tracked.base)
        self._changed()
        return task

    def _end_pass(self, counter: Counter, one: Pass, exhausted: bool) -> None:
        assert isinstance(counter, LazyTask)
        if counter.end_pass(one, exhausted, self._clock()):
            self.live.task_changed()


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a progress bar must be a text, not {name!r}")
    if not name:
        raise ValueError("the name of a progress bar must not be empty")
