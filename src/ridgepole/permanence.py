"""The lifecycle contract of everything that lives for a whole run.

A subclass writes `cleanup`, and whichever of the other hooks it needs; it need not call `super().__init__()`.
The framework keeps the state of each object in one private slot, made when it is first needed, and wraps the
hooks when a subclass is defined, so that a direct call in a plain script keeps the state as a pipeline does.
"""

from __future__ import annotations

import enum
import functools
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, ParamSpec, Protocol, Self, TypeVar, runtime_checkable

from ridgepole.errors import LifecycleError, join_errors
from ridgepole.ticks import Ticks

P = ParamSpec("P")
T = TypeVar("T")


class State(enum.Enum):
    """Where a permanence stands. `FAILED` means that `initialize` raised; `cleanup` is still owed."""

    CONSTRUCTED = "constructed"
    INITIALIZING = "initializing"
    READY = "ready"
    CLEANING = "cleaning"
    CLOSED = "closed"
    FAILED = "failed"


class RunContext(Protocol):
    """What a permanence or a process may ask of the run that it lives in, without knowing the pipeline.

    The one way upward: a process has it as `controller`, `run_of` gives it to a permanence that was made inside a run.
    """

    @property
    def run_dir(self) -> Path:
        """Directory of this run; its name is the run id."""
        ...

    @property
    def run_id(self) -> str:
        """Identifier of this run, unique and sortable by time."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved description of the pipeline, as in `config.resolved.json`."""
        ...

    @property
    def seed(self) -> int:
        """The seed that python, numpy and torch were given."""
        ...

    @property
    def attempt(self) -> int:
        """1 for a fresh run, one more for each resume."""
        ...

    @property
    def rank(self) -> int:
        """The rank of this process in a distributed run; 0 where there is one process."""
        ...

    @property
    def world_size(self) -> int:
        """The number of ranks."""
        ...

    @property
    def step(self) -> int:
        """The step that `tick` counts."""
        ...

    @property
    def failed(self) -> bool:
        """Whether the run has failed or was interrupted: what a clean-up may want to know."""
        ...

    @property
    def ticks(self) -> Ticks:
        """What counts the step boundaries, for a loop that ticks by itself."""
        ...

    def tick(self, step: int | None = None) -> None:
        """Marks a step boundary."""
        ...

    def get_permanence(self, name: str, default: Any = ...) -> Any:
        """The permanence of that name."""
        ...


@runtime_checkable
class Stoppable(Protocol):
    """A run that can be asked to stop."""

    def ask_to_stop(self, stop: KeyboardInterrupt) -> None:
        """Asks it to stop at its next tick."""
        ...


current_run: ContextVar[RunContext | None] = ContextVar("ridgepole_current_run", default=None)
"""The run whose permanences and processes are being made. Read at construction only: new threads see None."""


class _Slot:
    """The framework's own state of one permanence."""

    __slots__ = ("deferred", "owner", "run", "state")

    def __init__(self) -> None:
        self.state = State.CONSTRUCTED
        self.owner: int | None = (
            None  # the thread inside initialize or cleanup, to know a call of super() from a second call
        )
        self.deferred: list[Callable[[], object]] = []
        self.run: RunContext | None = current_run.get()

    def __reduce__(self) -> tuple[type[_Slot], tuple[()], None]:
        # A copy or a pickled twin (a DataLoader worker's data set) owns nothing and has nothing to give back.
        return (_Slot, (), None)


def _slot(permanence: Permanence) -> _Slot:
    try:
        return permanence.__dict__["_ridgepole"]  # type: ignore[no-any-return]
    except KeyError:
        return permanence.__dict__.setdefault("_ridgepole", _Slot())  # type: ignore[no-any-return]


def state_of(permanence: Permanence) -> State:
    """The lifecycle state that the framework keeps of a permanence."""
    return _slot(permanence).state


def run_of(permanence: Permanence) -> RunContext | None:
    """The run in which a permanence was made, or None in a plain script."""
    return _slot(permanence).run


def construct(make: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Makes an object; where a permanence's constructor raises, what it had deferred runs before the error goes on.

    Args:
        make: A class or another callable.
        *args: Positional arguments.
        **kwargs: Keyword arguments.

    Returns:
        The new object.
    """
    if not (isinstance(make, type) and issubclass(make, Permanence)):
        return make(*args, **kwargs)
    self = make.__new__(make, *args, **kwargs)
    if not isinstance(self, make):
        return self
    slot = _slot(self)
    try:
        self.__init__(*args, **kwargs)  # type: ignore[misc]
    except BaseException as error:
        slot.state = State.CLOSED
        errors = [error, *_run_deferred(slot)]
        if len(errors) == 1:
            raise
        raise join_errors(errors, f"{make.__name__} could not be constructed") from None
    return self


def _run_deferred(slot: _Slot) -> list[BaseException]:
    """Runs deferred clean-up, last first; each gets its turn whatever the others do."""
    errors: list[BaseException] = []
    while slot.deferred:
        try:
            slot.deferred.pop()()
        except BaseException as error:  # noqa: BLE001 - collected and raised together by the caller
            errors.append(error)
    return errors


def _refuse(permanence: Permanence, state: State) -> LifecycleError:
    name = type(permanence).__name__
    why = {
        State.READY: f"{name} is initialised already; initialize() runs once in an object's life",
        State.INITIALIZING: f"{name} is being initialised by another thread",
        State.CLEANING: f"{name} is being cleaned up and can't be initialised",
        State.CLOSED: f"{name} was cleaned up and can't be used again; construct a new one",
        State.FAILED: f"the first initialize() of {name} failed; clean it up and construct a new one",
    }
    return LifecycleError(why[state])


def _marked(wrapper: Callable[P, T]) -> Callable[P, T]:
    """Marks a wrapper by its own identity: `functools.wraps` would copy a plain mark to a function around it."""
    wrapper.__ridgepole_wrapper__ = wrapper  # type: ignore[attr-defined]
    return wrapper


def _keeps_initialize(hook: Callable[P, T]) -> Callable[P, T]:
    """Wraps an `initialize` so that it moves the state."""

    @functools.wraps(hook)
    def initialize(*args: P.args, **kwargs: P.kwargs) -> T:
        self = args[0]
        assert isinstance(self, Permanence)
        slot = _slot(self)
        me = threading.get_ident()
        if slot.state is State.INITIALIZING and slot.owner == me:
            return hook(*args, **kwargs)  # super().initialize() inside a subclass's own
        if slot.state is not State.CONSTRUCTED:
            raise _refuse(self, slot.state)
        slot.state, slot.owner = State.INITIALIZING, me
        try:
            result = hook(*args, **kwargs)
        except BaseException:
            if slot.state is State.INITIALIZING:  # it may have cleaned up after itself
                slot.state = State.FAILED
            raise
        else:
            if slot.state is State.INITIALIZING:
                slot.state = State.READY
            return result
        finally:
            slot.owner = None

    return _marked(initialize)


def _keeps_cleanup(hook: Callable[P, T]) -> Callable[P, T | None]:
    """Wraps a `cleanup` so that it moves the state, runs once, and is followed by what was deferred."""

    @functools.wraps(hook)
    def cleanup(*args: P.args, **kwargs: P.kwargs) -> T | None:
        self = args[0]
        assert isinstance(self, Permanence)
        slot = _slot(self)
        me = threading.get_ident()
        if slot.state is State.CLEANING and slot.owner == me:
            return hook(*args, **kwargs)
        if slot.state in (State.CLEANING, State.CLOSED):
            return None
        slot.state, slot.owner = State.CLEANING, me
        errors: list[BaseException] = []
        result = None
        try:
            result = hook(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - raised below, after the deferred clean-up has had its turn
            errors.append(error)
        errors += _run_deferred(slot)
        slot.state, slot.owner = State.CLOSED, None
        if errors:
            raise join_errors(errors, f"several errors while {type(self).__name__} was cleaned up")
        return result

    return _marked(cleanup)


def _keeps_get_state(hook: Callable[P, dict[str, Any]]) -> Callable[P, dict[str, Any]]:
    """Wraps a `get_state` so that `type` and `initialized` are always there."""

    @functools.wraps(hook)
    def get_state(*args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        self = args[0]
        assert isinstance(self, Permanence)
        return {"type": type(self).__name__, "initialized": bool(self.is_initialized())} | hook(*args, **kwargs)

    return _marked(get_state)


_KEEPERS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "initialize": _keeps_initialize,
    "cleanup": _keeps_cleanup,
    "get_state": _keeps_get_state,
}


def _own_hook(cls: type[Permanence], name: str) -> Callable[..., Any] | None:
    """What a new class brings as a hook that does not keep the state yet; None where there is nothing to wrap."""
    home = next(base for base in cls.__mro__ if name in vars(base))
    hook = vars(home)[name]
    function = getattr(hook, "__func__", hook)  # of a static or class method
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{cls.__name__}.{name} is async, and nobody would await it: call asyncio.run in it")
    if home is not cls:
        if issubclass(home, Permanence):
            return None  # wrapped when that class was made

        # A mixin's hook, found anew at each call: a subclass may put another mixin in front of it.
        def inherited(self: Permanence, *args: Any, **kwargs: Any) -> Any:
            return getattr(super(cls, self), name)(*args, **kwargs)

        return functools.update_wrapper(inherited, function) if callable(function) else inherited
    if getattr(hook, "__isabstractmethod__", False) or getattr(hook, "__ridgepole_wrapper__", None) is hook:
        return None
    if isinstance(hook, staticmethod | classmethod):
        return functools.update_wrapper(lambda self, *args: hook.__get__(self, type(self))(*args), function)
    return hook if callable(hook) else None


class Permanence(ABC):
    """An object that lives for a whole run: a device, data, a network, a logger.

    The pipeline constructs every permanence, then calls `initialize` on each in the order of their dependencies,
    then `validate` on all; `checkpoint` at checkpoints; and `cleanup` exactly once each, in reverse order, whether
    the run succeeded, failed or was interrupted. In a plain script a permanence is a context manager:

    ```python
    with BasicLogger("logs") as logger:
        logger.log_metrics({"loss": 0.5})
    ```

    Attributes:
        ranks: `"all"`, or `"zero"` for a permanence that only rank 0 of a distributed run constructs.
        state_ranks: `"zero"` where the state is the same on all ranks, as that of a network under DDP: rank 0's is
            stored, and given back to all. `"all"` where each rank stores its own and gets it back.
    """

    ranks: ClassVar[Literal["all", "zero"]] = "all"
    state_ranks: ClassVar[Literal["all", "zero"]] = "zero"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, keep in _KEEPERS.items():
            hook = _own_hook(cls, name)
            if hook is not None:
                setattr(cls, name, keep(hook))

    @_keeps_initialize
    def initialize(self) -> None:
        """Prepares the permanence, after all were constructed and before any process runs.

        Use for resource allocation or set-up that depends on other permanences.

        Raises:
            Exception: If initialisation fails; every permanence is then cleaned up.
        """

    def validate(self) -> None:
        """Checks that the permanence is in a valid state.

        Raises:
            Exception: If it is not. The failures of all permanences are reported together.
        """

    def checkpoint(self) -> None:
        """Brings to safety what the permanence holds in memory; called at every checkpoint.

        Raises:
            Exception: If that fails.
        """

    @abstractmethod
    def cleanup(self) -> None:
        """Releases what the permanence holds: memory, files, connections.

        Called once after all processes, or on an error, also where `initialize` failed half-way or never ran.
        A second call does nothing.

        Raises:
            Exception: If it fails; the other permanences are cleaned up all the same.
        """

    @_keeps_get_state
    def get_state(self) -> dict[str, Any]:
        """A description for inspection and debugging.

        Returns:
            A dictionary of plain values; `"type"` and `"initialized"` are always in it.
        """
        return {}

    def is_initialized(self) -> bool:
        """Whether the permanence is ready for use."""
        return _slot(self).state is State.READY

    def defer(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Registers a piece of clean-up at the moment a resource is taken.

        Deferred pieces run after `cleanup`, the last one first, each whatever the others do; they also run where
        the constructor itself raises inside a pipeline, when no `cleanup` is called.

        Args:
            function: What to call.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Raises:
            LifecycleError: If the permanence has been cleaned up already.
        """
        slot = _slot(self)
        if slot.state is State.CLOSED:
            raise _refuse(self, slot.state)
        slot.deferred.append(functools.partial(function, *args, **kwargs))

    def __enter__(self) -> Self:
        try:
            if _slot(self).state is not State.READY:
                self.initialize()
            self.validate()
        except BaseException as error:
            self._cleanup_after(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.cleanup()
        else:
            self._cleanup_after(error)

    def _cleanup_after(self, error: BaseException) -> None:
        """Cleans up; an error of the clean-up joins the first cause instead of hiding it."""
        try:
            self.cleanup()
        except BaseException as second:  # noqa: BLE001 - joined
            raise join_errors([error, second], f"{type(self).__name__} failed, and so did its clean-up") from None
