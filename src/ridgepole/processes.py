"""The steps of a pipeline: `PipelineProcess` subclasses, and plain functions under `@process`.

The module is not called `process`: importing it would replace `ridgepole.process`, the decorator.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, overload

from ridgepole.permanence import RunContext

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__ridgepole_process__"


class PipelineProcess(ABC):
    """One step of a pipeline.

    Constructor arguments are filled by name: `controller` and `force`, permanences by their
    annotation, and the rest from the process's table. `controller` and `force` are set before
    `__init__` runs, so a subclass's constructor need not take them.

    Attributes:
        controller: The controller of the run.
        force: Whether `skip` is ignored.
    """

    controller: RunContext
    force: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("execute", "skip"):
            _refuse_async(getattr(cls, name))

    def __init__(self, controller: RunContext, force: bool | None = None) -> None:
        self.controller = controller
        # Set before __init__; kept if it is left out
        if force is not None or not hasattr(self, "force"):
            self.force = bool(force)

    @abstractmethod
    def execute(self) -> None:
        """Do the work of this step. A generator marks the end of a step at each `yield`.

        Raises:
            Exception: Any error; the run is cleaned up and fails with it.
        """

    def skip(self) -> bool | str:
        """Return whether this step has nothing to do.

        Returns:
            False to run; True or a reason, which is then shown, to skip. Not called if `force` is
            set.
        """
        return False


@overload
def process(function: F) -> F: ...
@overload
def process(*, skip: Callable[[], bool | str] | None = None) -> Callable[[F], F]: ...
def process(function: F | None = None, *, skip: Callable[[], bool | str] | None = None) -> F | Callable[[F], F]:
    """Make a function usable as a process of a pipeline; the function itself stays as it is.

    Its parameters are filled like those of a `PipelineProcess`. A generator function marks the end
    of a step (`controller.tick()`) at each `yield`.

    Args:
        function: The function; registered by its `__name__`.
        skip: Called without arguments before the process runs, as `PipelineProcess.skip`.

    Returns:
        The same function, or a decorator if only `skip` is given.

    Raises:
        TypeError: If it is not a plain or a generator function.

    Example:
        ```python
        @process
        def evaluate(network: Network, data: Data, logger: BaseLoggerManager, batch_size: int = 256)
        -> None:
            ...
        ```
    """

    def mark(target: F) -> F:
        if not inspect.isfunction(target):
            raise TypeError(f"@process takes a function, not {target!r}; a class subclasses PipelineProcess instead")
        _refuse_async(target)
        setattr(target, _MARK, {"skip": skip})
        return target

    return mark if function is None else mark(function)


def _refuse_async(function: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        hint = "make it a plain function that calls asyncio.run"
        raise TypeError(f"{function.__qualname__} is async, but processes are not awaited: {hint}")


def is_process(value: object) -> bool:
    """Return whether a value is a `@process` function or a concrete `PipelineProcess` subclass."""
    if isinstance(value, type):
        return issubclass(value, PipelineProcess) and not inspect.isabstract(value)
    return inspect.isfunction(value) and hasattr(value, _MARK)


def skip_of(function: Callable[..., Any]) -> Callable[[], bool | str] | None:
    """Return the `skip` that was given to `@process`."""
    mark: dict[str, Callable[[], bool | str] | None] = getattr(function, _MARK)
    return mark["skip"]
