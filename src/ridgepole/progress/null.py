"""The progress manager that shows nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, Self, TypeVar

from ridgepole.permanence import Permanence, active_run, run_of
from ridgepole.progress.injection import injecting
from ridgepole.progress.tracked import SilentHost, TrackedIterable

T = TypeVar("T")


class NullProgress:
    """Accepts every call of Rich's `Progress` in a decorated function, and does nothing."""

    tasks: tuple[()] = ()
    task_ids: tuple[()] = ()
    finished = True

    def add_task(self, *_args: Any, **_kwargs: Any) -> int:
        """Return 0, the id of every task."""
        return 0

    def track(self, sequence: Iterable[T], *_args: Any, **_kwargs: Any) -> Iterable[T]:
        """Return the sequence unchanged."""
        return sequence

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    advance = update = reset = remove_task = start_task = stop_task = _nothing
    start = stop = refresh = print = log = _nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing."""


class NullLive:
    """A `live` that shows nothing."""

    is_started = False

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    start = stop = refresh = update = _nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing."""


class NullProgressManager(SilentHost, Permanence):
    """The interface of `ProgressManager` without a display, for a process that shows no progress.

    Decorated functions still get their arguments, and `track` still counts and ticks.

    Args:
        console: Ignored.
        direct: Ignored.

    Attributes:
        progress_dict: Bars that accept every call.
        live: A context manager that does nothing.
        console: As given.
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
        """Do nothing."""

    def _create_progress(self, color: str) -> NullProgress:  # noqa: ARG002
        return NullProgress()

    def _init_live(self) -> NullLive:
        return NullLive()

    def init_live(self) -> None:
        """Do nothing."""

    def add_progress(self, name: str, with_status: bool = False) -> NullProgress:  # noqa: ARG002
        """Add a bar that accepts every call."""
        return self.progress_dict.setdefault(name, NullProgress())

    def add_progresses(self, progresses: list[dict[str, Any]]) -> None:
        """Add bars that accept every call."""
        for progress in progresses:
            self.add_progress(**progress)

    def add_task_to_progress(
        self,
        task_description: str,  # noqa: ARG002
        total: float | None,  # noqa: ARG002
        visible: bool = False,  # noqa: ARG002
        progress_name: str | None = None,  # noqa: ARG002
    ) -> int:
        """Return 0, the id of every task."""
        return 0

    def advance(self, progress_name: str, task_id: int, step: float = 1.0, status: str = "") -> None:
        """Do nothing."""

    def update(self, progress_name: str, task_id: int, status: str = "", advance: bool = False) -> None:
        """Do nothing."""

    def reset(self, progress_name: str) -> None:
        """Do nothing."""

    def progress_task(self, task_name: str, visible: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ARG002
        """Decorate a function: pass its arguments and show nothing."""

        def call(total: object, run: Callable[[dict[str, Any]], Any]) -> Any:
            return run({"total": total, "task_id": 0, "progress": self.add_progress(task_name)})

        def follow(_total: object, items: Iterable[Any]) -> Iterable[Any]:
            return items

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            return injecting(function, call, follow)

        return decorate

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
        disable: bool = False,  # noqa: ARG002 - it shows nothing in any case
        unit_scale: bool = False,
        units: Mapping[str, float] | None = None,
        flops_per_item: float = 0.0,
    ) -> TrackedIterable[T]:
        """Count and tick as `ProgressManager.track` does, without a display."""
        run = (self._run or active_run()) if tick else None
        return TrackedIterable(
            self,
            iterable,
            name=name or "progress",
            total=total,
            initial=initial,
            unit=unit,
            unit_scale=unit_scale,
            leave=leave,
            run=run,
            window=int(tick),
            units=units,
            flops_per_item=flops_per_item,
        )

    def paused(self) -> AbstractContextManager[None]:
        """Return a context manager without effect."""
        return contextlib.nullcontext()
