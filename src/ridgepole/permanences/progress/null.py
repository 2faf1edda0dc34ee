"""The progress manager that shows nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, Self, TypeVar

from ridgepole.permanence import Permanence, current_run, run_of
from ridgepole.permanences.progress.counting import Counter, Pass
from ridgepole.permanences.progress.injection import injecting
from ridgepole.permanences.progress.tracked import Tracked

T = TypeVar("T")


class NullProgress:
    """Takes every call of Rich's `Progress` that a decorated function may make, and does nothing."""

    tasks: tuple[()] = ()
    task_ids: tuple[()] = ()
    finished = True

    def add_task(self, *_args: Any, **_kwargs: Any) -> int:
        """Adds nothing; the id is always 0."""
        return 0

    def track(self, sequence: Iterable[T], *_args: Any, **_kwargs: Any) -> Iterable[T]:
        """The sequence itself."""
        return sequence

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    advance = update = reset = remove_task = start_task = stop_task = _nothing
    start = stop = refresh = print = log = _nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Does nothing."""


class NullLive:
    """A `live` that shows nothing."""

    is_started = False

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    start = stop = refresh = update = _nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Does nothing."""


class NullProgressManager(Permanence):
    """Has the surface of `ProgressManager` and shows nothing: what a process gets where no progress is shown.

    Decorated functions get their arguments, and `track` counts and ticks, all the same.

    Args:
        console: Ignored.
        direct: Ignored.

    Attributes:
        progress_dict: Bars that take every call.
        live: A context manager that does nothing.
        console: What was given.
    """

    __slots__ = ("progress_dict",)
    ranks: ClassVar[Literal["all", "zero"]] = "all"

    def __init__(self, console: Any = None, direct: bool = False) -> None:  # noqa: ARG002 - the same surface
        self.console = console
        self._run = run_of(self)
        self.live = self._init_live()
        self.progress_dict: dict[str, NullProgress] = {
            name: NullProgress() for name in ("overall", "cleanup", "result")
        }

    def cleanup(self) -> None:
        """Holds nothing."""

    def _create_progress(self, color: str) -> NullProgress:  # noqa: ARG002
        return NullProgress()

    def _init_live(self) -> NullLive:
        return NullLive()

    def init_live(self) -> None:
        """Does nothing."""

    def add_progress(self, name: str, with_status: bool = False) -> NullProgress:  # noqa: ARG002
        """Adds a bar that takes every call."""
        return self.progress_dict.setdefault(name, NullProgress())

    def add_progresses(self, progresses: list[dict[str, Any]]) -> None:
        """Adds bars that take every call."""
        for progress in progresses:
            self.add_progress(**progress)

    def add_task_to_progress(
        self,
        task_description: str,  # noqa: ARG002
        total: float | None,  # noqa: ARG002
        visible: bool = False,  # noqa: ARG002
        progress_name: str | None = None,  # noqa: ARG002
    ) -> int:
        """Adds nothing; the id is always 0."""
        return 0

    def advance(self, progress_name: str, task_id: int, step: float = 1.0, status: str = "") -> None:
        """Does nothing."""

    def update(self, progress_name: str, task_id: int, status: str = "", advance: bool = False) -> None:
        """Does nothing."""

    def reset(self, progress_name: str) -> None:
        """Does nothing."""

    def progress_task(self, task_name: str, visible: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ARG002
        """Decorates a function: it gets its arguments, and nothing is shown."""

        def call(total: object, run: Callable[[dict[str, Any]], Any]) -> Any:
            return run({"total": total, "task_id": 0, "progress": self.add_progress(task_name)})

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            return injecting(function, call)

        return decorate

    def track(
        self,
        iterable: Iterable[T],
        name: str | None = None,
        total: float | None = None,
        initial: float = 0,
        unit: str = "it",
        tick: bool = False,
    ) -> Tracked[T]:
        """Counts and ticks as `ProgressManager.track` does, and shows nothing."""
        run = (self._run or current_run.get()) if tick else None
        return Tracked(self, iterable, name=name or "progress", total=total, initial=initial, unit=unit, run=run)

    def paused(self) -> AbstractContextManager[None]:
        """A context manager that does nothing."""
        return contextlib.nullcontext()

    def _begin_pass(self, tracked: Tracked[Any], one: Pass) -> Counter:
        counter = Counter()
        counter.begin(one, tracked.base)
        return counter

    def _end_pass(self, counter: Counter, one: Pass, exhausted: bool) -> None:
        counter.end(one, exhausted)
