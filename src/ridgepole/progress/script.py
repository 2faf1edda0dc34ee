"""`track` and `progress_task` without a manager, for plain scripts and for runs."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ridgepole.permanence import current_run
from ridgepole.progress.injection import injecting
from ridgepole.progress.manager import ProgressManager
from ridgepole.progress.null import NullProgressManager
from ridgepole.progress.tracked import TrackedIterable

T = TypeVar("T")


def track(
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
    """Show the progress of a loop over an iterable.

    ```python
    for batch in track(loader, "train"):
        ...
    ```

    Inside a run, the run's progress manager shows the bar. Elsewhere, one display of this process
    does.

    Args:
        iterable: The iterable to loop over. Without one, `with track(total=n) as bar:` shows a bar
            that `bar.update()` advances.
        name: Text of the row. Loops of the same name use the same row, one after another.
        total: Steps at the end. By default `initial` plus the length of the iterable, if it has
            one.
        initial: Steps done before the first item, in a resumed run.
        unit: The name of a step in rates.
        tick: Whether to tick (`controller.tick()`) after the loop body of each item. A number ticks
            after so many items, such as those of a window of gradient accumulation.
        leave: Whether the row stays after the end.
        disable: Whether to count and tick only, without a row. `RIDGEPOLE_PROGRESS=0` in the
            environment hides all rows.
        unit_scale: Whether to show counts with a prefix, such as `1.5M`.
        units: How many of a unit one item has, such as `{"tokens": 1024}`, for the rates in the
            run's step times. An item is a sample where the loader says its batch size.
        flops_per_item: Floating-point operations that training takes for one item, for the share
            of the card's peak (MFU) in the run's step times.

    Returns:
        An iterable that can be iterated repeatedly, with `len`, `set(loss=…)` and
        `set_description`.

    Raises:
        TypeError: If `iterable` is not iterable, or a number has the wrong type.
        ValueError: If the total or the initial steps are negative.
    """
    return _manager().track(
        iterable,
        name,
        total,
        initial,
        unit,
        tick,
        leave=leave,
        disable=disable,
        unit_scale=unit_scale,
        units=units,
        flops_per_item=flops_per_item,
    )


def trange(*args: int, name: str | None = None, **options: Any) -> TrackedIterable[int]:
    """Show the progress of a loop over `range(*args)`; the other arguments are those of `track`."""
    return track(range(*args), name, **options)


def progress_task(
    task_name: str | None = None, visible: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Show each run of the decorated function as a task.

    It works as `ProgressManager.progress_task`, but adds a missing bar.

    Args:
        task_name: Text of the row; the function's name by default.
        visible: Whether the row stays after the end.

    Returns:
        The decorator. Call the decorated function as `f(total, *args, **kwargs)`.

    Raises:
        TypeError: If the decorated object is neither a plain function nor a generator function.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        name = task_name if task_name is not None else getattr(function, "__name__", "progress")

        def call(total: object, run: Callable[[dict[str, Any]], Any]) -> Any:
            manager = _manager()
            if isinstance(manager, ProgressManager):
                return manager._call_task(name, visible, total, run, add=True)  # noqa: SLF001 - its own package
            return run({"total": total, "task_id": 0, "progress": manager.add_progress(name)})

        def follow(total: Any, items: Iterable[Any]) -> Iterable[Any]:
            return track(items, name, total, leave=visible)

        return injecting(function, call, follow)

    return decorate


def _manager() -> ProgressManager | NullProgressManager:
    """Return the manager of the current run, else the manager of this process."""
    run = current_run.get()
    manager = run.get_permanence("progress_manager", None) if run is not None else None
    return manager if isinstance(manager, (ProgressManager, NullProgressManager)) else _default_manager()


@functools.cache
def _default_manager() -> ProgressManager:
    # In a context of its own, so that it does not belong to the run that needs it first.
    manager = contextvars.Context().run(ProgressManager)
    manager._run = None  # noqa: SLF001 - as above: a script may begin and end several runs
    return manager
