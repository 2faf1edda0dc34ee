"""The progress display of a run or a script."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, TypeVar

from rich.console import Console
from rich.progress import TaskID

from ridgepole.errors import ProgressNoMatch, did_you_mean
from ridgepole.permanence import Permanence, active_run, run_of
from ridgepole.progress import text
from ridgepole.progress.bars import NEEDS_LOCK, Bars, find_bar, next_color
from ridgepole.progress.display import displays
from ridgepole.progress.injection import injecting
from ridgepole.progress.live import BarsLive
from ridgepole.progress.task import LazyTask
from ridgepole.progress.tracked import Counter, Iteration, SilentHost, TrackedIterable, total_steps

T = TypeVar("T")
STANDING_BARS = ("overall", "cleanup", "result")


class ProgressManager(Permanence):
    """Shows progress as aligned bars on a terminal, as sparse lines elsewhere.

    The program only counts. The display computes rates, times and rows, ten times a second.

    ```toml
    [permanences.progress_manager]
    type = "ProgressManager"
    ```

    Args:
        console: The console to draw on; the standard error stream by default, because standard
            output holds results.
        direct: Whether `live` is built at once; it exists in any case.

    Attributes:
        progress_dict: The bars by name; `overall`, `cleanup` and `result` exist from the start.
        live: The display. `with manager.live:` holds it open; it also appears with the first task.
        console: The console that it is drawn on. Output printed on it appears above the bars.

    Raises:
        TypeError: If `console` is not a Rich console.
    """

    # A slot, because `advance` reads it at every call.
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

    # -- lifecycle ---------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Keep the display open from the first task until `cleanup`, also while nothing runs."""
        self.live.start()

    def cleanup(self) -> None:
        """Leave the bars on the screen and release the terminal."""
        self.live.close()

    def get_state(self) -> dict[str, Any]:
        """Return the count and total of every task of every bar."""
        return {
            "bars": {
                name: [
                    {"task": task.description, "completed": task.completed, "total": task.total}
                    for task in list(bar.cells.values())
                ]
                for name, bar in list(self.progress_dict.items())
            }
        }

    # -- bars --------------------------------------------------------------------------------------

    def _create_progress(self, color: str) -> Bars:
        """Create a bar of a colour (`#RRGGBB`); `add_progress` names it."""
        bar = Bars("", color, self.console, self._clock)
        bar.on_refresh = lambda: self.live.refresh()  # noqa: PLW0108 - `live` may be replaced
        return bar

    def _init_live(self) -> BarsLive:
        """Create the live display of all bars."""
        return BarsLive(self.console, self.progress_dict, self._clock)

    def _forked(self) -> None:
        """Create new locks in a forked child: the thread that holds one is missing there."""
        self._lock = threading.RLock()
        self.live.forked()

    def init_live(self) -> None:
        """Rebuild `live` from the bars; a display that is already on the screen stays."""
        if self.live.is_started or self.live.closed or self.live.display.active or self.live.display.pauses:
            self.live.refresh()
        else:
            self.live = self._init_live()

    def add_progress(self, name: str, with_status: bool = False) -> Bars:
        """Add a bar in a colour of its own, or return the existing bar of that name.

        Args:
            name: Its key in `progress_dict`; parts between `-` are names of tasks that it serves.
            with_status: Whether the status text of its tasks is shown.

        Raises:
            TypeError: If the name is not a string.
            ValueError: If the name is empty.
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
        """Add several bars and rebuild `live`. After an error no bar is added.

        Args:
            progresses: The arguments of `add_progress`, one dictionary per bar.

        Raises:
            TypeError: If an element is not a dictionary of these arguments.
            ValueError: If a name is empty.
        """
        definitions: list[object] = list(progresses)
        for number, progress in enumerate(definitions, 1):
            keys = set(progress) if isinstance(progress, Mapping) else set()
            if not isinstance(progress, Mapping) or "name" not in keys or keys - {"name", "with_status"}:
                raise TypeError(
                    f"bar {number} of add_progresses must be a dictionary with 'name' and optionally 'with_status', "
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
            raise ValueError(f"unknown progress bar {name!r}; {hint or f'existing bars: {known}'}") from None

    def _no_match(self, name: str) -> str:
        bars = ", ".join(self.progress_dict)
        return f"no progress bar fits the task {name!r}; there are: {bars}. Add one with add_progress({name!r})"

    def _task(self, progress_name: str, task_id: int) -> LazyTask:
        return self._bar(progress_name).task(task_id)

    # -- tasks -------------------------------------------------------------------------------------

    def add_task_to_progress(
        self, task_description: str, total: float | None, visible: bool = False, progress_name: str | None = None
    ) -> int:
        """Add a task to a bar. Unless `visible`, its row shows from the first advance to the end.

        Args:
            task_description: Literal text of the row. Without `progress_name` it also selects the
                bar: the bar of that name, or a bar that has it as a part between `-`.
            total: Steps at the end; None if unknown.
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
                raise RuntimeError(f"{self._no_match(task_description)}, or give progress_name")
            bar = self.progress_dict[found]
        return self._add(bar, task_description, total, always=visible, keep=visible).id

    def _add(self, bar: Bars, description: str, total: float | None, *, always: bool, keep: bool) -> LazyTask:
        # Hidden until its rules are set: the display may read it at any time.
        task = bar.task(bar.add_task(description, total=total, visible=False))
        task.set_rules(always=always, keep=keep)
        self.live.show()
        return task

    def advance(self, progress_name: str, task_id: int, step: float = 1.0, status: str = "") -> None:
        """Advance a task.

        Args:
            progress_name: Name of its bar.
            task_id: The id from `add_task_to_progress`.
            step: Number of steps; may be a fraction.
            status: Text for the status column; an empty one changes nothing.

        Raises:
            ValueError: If the bar or the task does not exist.
        """
        try:
            task = self.progress_dict[progress_name].cells[task_id]
        except (KeyError, TypeError):
            task = self._task(progress_name, task_id)  # raises, with the names that exist
        if task.id is not task_id:  # a plain number can be a valid id
            task = task.bar.task(task_id)
        if NEEDS_LOCK:
            with task.bar.lock:
                task.extra += step
        else:
            task.extra += step
        if status:
            task.status = status if type(status) is str else text.clean(status)  # cleaned later

    def update(self, progress_name: str, task_id: int, status: str = "", advance: bool = False) -> None:
        """Set a task's status text, and optionally advance it by one step.

        Args:
            progress_name: Name of its bar.
            task_id: The id from `add_task_to_progress`.
            status: Text for the status column; an empty one clears it.
            advance: Whether to advance by one step.

        Raises:
            ValueError: If the bar or the task does not exist.
        """
        self.advance(progress_name, task_id, 1.0 if advance else 0.0, status)
        if not status:
            self._task(progress_name, task_id).status = ""

    def reset(self, progress_name: str) -> None:
        """Reset all tasks of a bar to 0 and show their rows again.

        Raises:
            ValueError: If there is no bar of that name.
        """
        bar = self._bar(progress_name)
        for task_id in list(bar.cells):
            bar.reset(TaskID(task_id))

    # -- functions and iterables -------------------------------------------------------------------

    def progress_task(self, task_name: str, visible: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Show each call `f(total, *args, **kwargs)` of the decorated function as a task.

        The function receives those of `total`, `task_id` and `progress` that its signature has. It
        advances with `progress.advance(task_id)`. Another call uses the same row again.

        ```python
        @manager.progress_task("train")
        def train(total, task_id, progress, rate):
            for _ in range(total):
                progress.advance(task_id)

        train(100, rate=0.1)
        ```

        Args:
            task_name: Text of the row. It also selects the bar: the bar of that name, a bar that
                has it as a part between `-`, or a bar that contains it.
            visible: Whether the row stays after the end.

        Returns:
            The decorator. A call of the decorated function raises `ProgressNoMatch` if no bar fits.

        Raises:
            TypeError: If the decorated object is neither a plain function nor a generator function.
        """

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(total: object, run: Callable[[dict[str, Any]], Any]) -> Any:
                return self._call_task(task_name, visible, total, run)

            def follow(total: Any, items: Iterable[Any]) -> Iterable[Any]:
                return self.track(items, task_name, total, leave=visible)

            return injecting(function, call, follow)

        return decorate

    def _call_task(
        self, name: str, visible: bool, total: object, run: Callable[[dict[str, Any]], Any], *, add: bool = False
    ) -> Any:
        steps = total_steps(total, f"total of {name!r}")
        found = find_bar(name, self.progress_dict, substring=True)
        if found is None and not add:
            raise ProgressNoMatch(self._no_match(name))
        bar = self._bar(found) if found is not None else self.add_progress(name)
        with self._lock:
            task = self._idle_task(bar, name, steps, keep=visible)
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
        iterable: Iterable[T] | None = None,
        name: str | None = None,
        total: float | None = None,
        initial: float = 0,
        unit: str = "it",
        tick: bool | int = False,
        *,
        leave: bool = True,
        disable: bool = False,
        unit_scale: bool = False,
        units: Mapping[str, float] | None = None,
        flops_per_item: float = 0.0,
    ) -> TrackedIterable[T]:
        """Show the progress of a loop over an iterable, at the cost of counting in C.

        Args:
            iterable: The iterable to loop over; its items are read lazily. Without one, the bar is
                advanced by `update`.
            name: The bar, added if it is missing, and the text of its row; `"progress"` by default.
            total: Steps at the end. By default `initial` plus the length of the iterable, if it has
                one.
            initial: Steps done before the first item, in a resumed run.
            unit: The name of a step in rates.
            tick: Whether to tick after the loop body of each item, unless the body ticks itself or
                holds another loop that does. A number ticks after so many items, such as those of a
                window of gradient accumulation.
            leave: Whether the row stays after the end.
            disable: Whether to count and tick only, without a row.
            unit_scale: Whether to show counts with a prefix, such as `1.5M`.
            units: How many of a unit one item has, such as `{"tokens": 1024}`, for the rates in the
                run's step times. An item is a sample where the loader says its batch size.
            flops_per_item: Floating-point operations that training takes for one item, for the
                share of the card's peak (MFU) in the run's step times.

        Returns:
            An iterable that can be iterated repeatedly on the same row, with `len` and
            `set(loss=…)`.

        Raises:
            TypeError: If `iterable` is not iterable, or a number has the wrong type.
            ValueError: If the total or the initial steps are negative.
        """
        run = (self._run or active_run()) if tick else None
        name = "progress" if name is None else name
        _check_name(name)
        return TrackedIterable(
            SilentHost() if disable else self,
            iterable,
            name=name,
            total=total,
            initial=initial,
            unit=text.clean(unit),
            unit_scale=unit_scale,
            leave=leave,
            run=run,
            window=int(tick),
            units=units,
            flops_per_item=flops_per_item,
        )

    def paused(self) -> AbstractContextManager[None]:
        """Remove the bars for a while, for a prompt or a program that needs the whole terminal."""
        return self.live.display.paused()

    def _idle_task(self, bar: Bars, description: str, total: float | None, *, keep: bool) -> LazyTask:
        """Return the task of that description, or a new one if it is in use."""
        description = text.clean(description)
        for task in list(bar.cells.values()):
            if task.key == description and not task.active:
                task.description = description
                task.total = total
                task.set_rules(always=False, keep=keep)
                return task
        return self._add(bar, description, total, always=False, keep=keep)

    def _changed(self) -> None:
        self.live.show()
        self.live.task_changed()

    def _begin_pass(self, tracked: TrackedIterable[Any], one: Iteration) -> Counter:
        with self._lock:
            bar = self.add_progress(find_bar(tracked.name, self.progress_dict) or tracked.name)
            task = self._idle_task(bar, tracked.name, tracked.total, keep=tracked.leave)
            task.unit, task.unit_scale = tracked.unit, tracked.unit_scale
            task.begin_pass(one, self._clock(), tracked.base)
        self._changed()
        return task

    def _end_pass(self, counter: Counter, one: Iteration, exhausted: bool) -> None:
        assert isinstance(counter, LazyTask)
        if counter.end_pass(one, exhausted, self._clock()):
            self.live.task_changed()


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a progress bar must be a string, not {name!r}")
    if not name:
        raise ValueError("the name of a progress bar must not be empty")
