"""What does the work: `PipelineProcess` subclasses, and plain functions under `@process`.

The module is not called `process`: importing it would put the module where `ridgepole.process`, the decorator, is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, overload

from ridgepole.permanence import RunContext

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__ridgepole_process__"


class PipelineProcess(ABC):
    """One step of a pipeline.

    Constructor arguments are filled by name: `controller` and `force`, permanences by their annotation, and the rest
    from the process's table. `controller` and `force` are set before `__init__` runs, so a constructor of one's own
    need not take them.

    Attributes:
        controller: The controller of the run.
        force: Whether `skip` is to be ignored.
    """

    controller: RunContext
    force: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("execute", "skip"):
            _refuse_async(getattr(cls, name))

    def __init__(self, controller: RunContext, force: bool | None = None) -> None:
        self.controller = controller
        if force is not None or not hasattr(self, "force"):  # set before __init__, it stays where it is left out
            self.force = bool(force)

    @abstractmethod
    def execute(self) -> None:
        """Does the work of this step. A generator marks a step boundary at each `yield`.

        Raises:
            Exception: Whatever goes wrong; the run is cleaned up and fails with this error.
        """

    def skip(self) -> bool | str:
        """Whether this step has nothing to do.

        Returns:
            False to run; True or a reason, which is then shown, to skip. Not asked where `force` is set.
        """
        return False


@overload
def process(function: F) -> F: ...
@overload
def process(*, skip: Callable[[], bool | str] | None = None) -> Callable[[F], F]: ...
def process(function: F | None = None, *, skip: Callable[[], bool | str] | None = None) -> F | Callable[[F], F]:
    """Makes a function usable as a process of a pipeline; the function itself stays as it is.

    Its parameters are filled like those of a `PipelineProcess`. A generator function marks a step boundary
    (`controller.tick()`) at each `yield`.

    Args:
        function: The function; registered by its `__name__`.
        skip: Called without arguments before the process runs, as `PipelineProcess.skip`.

    Returns:
        The same function, or a decorator where only `skip` is given.

    Raises:
        TypeError: If it is not a plain or a generator function.

    Example:
        ```python
        @process
        def evaluate(network: Network, data: Data, logger: BaseLoggerManager, batch_size: int = 256) -> None:
            ...
        ```
    """
    import inspect

    def mark(target: F) -> F:
        if not inspect.isfunction(target):
            raise TypeError(f"@process takes a function, not {target!r}; a class subclasses PipelineProcess instead")
        _refuse_async(target)
        setattr(target, _MARK, {"skip": skip})
        return target

    return mark if function is None else mark(function)


def _refuse_async(function: Callable[..., Any]) -> None:
    import inspect

    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__qualname__} is async, and nobody would await it: call asyncio.run in it")


def is_process(value: object) -> bool:
    """Whether a value is a function that `@process` marked or a concrete `PipelineProcess` subclass."""
    import inspect

    if isinstance(value, type):
        return issubclass(value, PipelineProcess) and not inspect.isabstract(value)
    return inspect.isfunction(value) and hasattr(value, _MARK)


def skip_of(function: Callable[..., Any]) -> Callable[[], bool | str] | None:
    """The `skip` that a function was marked with."""
    mark: dict[str, Callable[[], bool | str] | None] = getattr(function, _MARK)
    return mark["skip"]
