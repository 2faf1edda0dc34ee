"""`track` and `progress_task` without a manager at hand: in a plain script, and inside a run."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ridgepole.permanence import current_run
from ridgepole.permanences.progress.injection import injecting
from ridgepole.permanences.progress.manager import ProgressManager
from ridgepole.permanences.progress.null import NullProgressManager
from ridgepole.permanences.progress.tracked import Tracked

T = TypeVar("T")


def track(
    iterable: Iterable[T],
    name: str | None = None,
    total: float | None = None,
    initial: float = 0,
    unit: str = "it",
    tick: bool = False,
) -> Tracked[T]:
    """Shows how far a loop over an iterable is.

    ```python
    for batch in track(loader, "train"):
        ...
    ```

    Inside a run the bar is one of the run's progress manager; elsewhere one of a display that this process shares.

    Args:
        iterable: What to loop over.
        name: Text of the row; loops of the same name use the same row, one after another.
        total: Steps at the end; by default `initial` plus the length of the iterable, where it has one.
        initial: Steps done before the first item, in a run that goes on.
        unit: What a step is called in rates.
        tick: Whether each item is a step boundary of the run (`controller.tick()`), after the body of each item.

    Returns:
        An iterable that can be looped over again and again, with `len` and `set(loss=…)`.

    Raises:
        TypeError: If it is not an iterable, or a number is not a number.
        ValueError: If the total or the initial steps are negative.
    """
    return _manager().track(iterable, name, total, initial, unit, tick)


def progress_task(task_name: str, visible: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a function whose run is shown as a task, as `ProgressManager.progress_task`; a missing bar is added.

    Args:
        task_name: Text of the row.
        visible: Whether the row stays after the end.

    Returns:
        The decorator. The function is then called as `f(total, *args, **kwargs)`.

    Raises:
        TypeError: If the decorated object is not a plain function.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(total: object, run: Callable[[dict[str, Any]], Any]) -> Any:
            manager = _manager()
            if isinstance(manager, ProgressManager):
                return manager._call_task(task_name, visible, total, run, add=True)  # noqa: SLF001 - its own package
            return run({"total": total, "task_id": 0, "progress": manager.add_progress(task_name)})

        return injecting(function, call)

    return decorate


def _manager() -> ProgressManager | NullProgressManager:
    """The manager of the run that is going on, else the one of this process."""
    run = current_run.get()
    manager = run.get_permanence("progress_manager", None) if run is not None else None
    return manager if isinstance(manager, (ProgressManager, NullProgressManager)) else _default_manager()


@functools.cache
def _default_manager() -> ProgressManager:
    # In a context of its own: it must not belong to whatever run happens to be going on when it is first needed.
    return contextvars.Context().run(ProgressManager)
