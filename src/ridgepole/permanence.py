"""The lifecycle contract of every object that lives for a whole run.

A subclass writes `cleanup` and any other hook it needs; it need not call `super().__init__()`. The
framework keeps each object's state in one private slot, made on first use. It wraps the hooks when
a subclass is defined, so that a direct call in a plain script tracks the state as a pipeline does.
"""

from __future__ import annotations

import enum
import functools
import inspect
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, ParamSpec, Protocol, Self, TypeVar, runtime_checkable

from ridgepole import script_context
from ridgepole.errors import LifecycleError, join_errors
from ridgepole.ticks import Ticks

P = ParamSpec("P")
T = TypeVar("T")


class State(enum.Enum):
    """Lifecycle state. `FAILED` means that `initialize` raised; `cleanup` is still due."""

    CONSTRUCTED = "constructed"
    INITIALIZING = "initializing"
    READY = "ready"
    CLEANING = "cleaning"
    CLOSED = "closed"
    FAILED = "failed"


class RunContext(Protocol):
    """The part of a run that permanences and processes may use, without knowing the pipeline.

    A process has it as `controller`; `run_of` returns it for a permanence made inside a run.
    """

    @property
    def run_dir(self) -> Path:
        """Directory of this run; its name is the run id."""

    @property
    def run_id(self) -> str:
        """Identifier of this run, unique and sortable by time."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved description of the pipeline, as in `config.resolved.json`."""

    @property
    def seed(self) -> int:
        """The seed of python, numpy and torch."""

    @property
    def attempt(self) -> int:
        """1 for a fresh run, one more for each resume."""

    @property
    def rank(self) -> int:
        """Rank of this process in a distributed run, else 0."""

    @property
    def world_size(self) -> int:
        """Number of ranks."""

    @property
    def step(self) -> int:
        """The step that `tick` counts."""

    @property
    def failed(self) -> bool:
        """True if the run has failed or was interrupted, for a clean-up that depends on it."""

    @property
    def ticks(self) -> Ticks:
        """The step counter, for a loop that ticks by itself."""

    def tick(self, step: int | None = None) -> None:
        """Mark a step boundary."""

    def get_permanence(self, name: str, default: Any = ...) -> Any:
        """Return the permanence of that name."""


@runtime_checkable
class Stoppable(Protocol):
    """A run that can be asked to stop."""

    def ask_to_stop(self, stop: KeyboardInterrupt) -> None:
        """Have the run's next tick raise `stop`."""


current_run: ContextVar[RunContext | None] = ContextVar("ridgepole_current_run", default=None)
"""The run that is constructing permanences or processes. New threads see None."""


def active_run() -> RunContext | None:
    """Return the run that is constructing permanences, else the script's run that surrounds it."""
    run = current_run.get()
    if run is not None or script_context.RUN_DIR not in os.environ:
        return run
    return script_context.script_run()


class _Slot:
    """The framework's own state of one permanence."""

    __slots__ = ("deferred", "owner", "run", "state")

    def __init__(self) -> None:
        self.state = State.CONSTRUCTED
        # The thread inside initialize or cleanup, which may call super()
        self.owner: int | None = None
        self.deferred: list[Callable[[], object]] = []
        self.run: RunContext | None = active_run()

    def __reduce__(self) -> tuple[type[_Slot], tuple[()], None]:
        return (_Slot, (), None)  # a copy, as in a DataLoader worker, owns nothing


def _slot(permanence: Permanence) -> _Slot:
    try:
        return permanence.__dict__["_ridgepole"]  # type: ignore[no-any-return]
    except KeyError:
        return permanence.__dict__.setdefault("_ridgepole", _Slot())  # type: ignore[no-any-return]


def state_of(permanence: Permanence) -> State:
    """Return the lifecycle state of a permanence."""
    return _slot(permanence).state


def run_of(permanence: Permanence) -> RunContext | None:
    """Return the run that constructed a permanence; None in a script without one."""
    return _slot(permanence).run


def construct(make: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a class or function; if a permanence's constructor raises, run its deferred clean-up."""
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
    """Run deferred clean-up, last first, and return the errors."""
    errors: list[BaseException] = []
    while slot.deferred:
        try:
            slot.deferred.pop()()
        except BaseException as error:  # noqa: BLE001 - the caller raises them together
            errors.append(error)
    return errors


_REFUSALS = {
    State.READY: "{} is initialised already; initialize() runs once in an object's life",
    State.INITIALIZING: "{} is being initialised by another thread",
    State.CLEANING: "{} is being cleaned up and can't be initialised",
    State.CLOSED: "{} was cleaned up and can't be used again; construct a new one",
    State.FAILED: "the first initialize() of {} failed; clean it up and construct a new one",
}


def _refuse(permanence: Permanence, state: State) -> LifecycleError:
    return LifecycleError(_REFUSALS[state].format(type(permanence).__name__))


def _marked(wrapper: Callable[P, T]) -> Callable[P, T]:
    """Mark a wrapper by its own identity; `functools.wraps` would copy a plain mark to others."""
    wrapper.__ridgepole_wrapper__ = wrapper  # type: ignore[attr-defined]
    return wrapper


def _track_initialize(hook: Callable[P, T]) -> Callable[P, T]:
    """Wrap an `initialize` so that it moves the state."""

    @functools.wraps(hook)
    def initialize(*args: P.args, **kwargs: P.kwargs) -> T:
        self = args[0]
        assert isinstance(self, Permanence)
        slot, me = _slot(self), threading.get_ident()
        if slot.state is State.INITIALIZING and slot.owner == me:
            return hook(*args, **kwargs)  # super().initialize() in a subclass
        if slot.state is not State.CONSTRUCTED:
            raise _refuse(self, slot.state)
        slot.state, slot.owner = State.INITIALIZING, me
        outcome = State.FAILED
        try:
            result = hook(*args, **kwargs)
            outcome = State.READY
            return result
        finally:
            if slot.state is State.INITIALIZING:  # it may have cleaned up after itself
                slot.state = outcome
            slot.owner = None

    return _marked(initialize)


def _track_cleanup(hook: Callable[P, T]) -> Callable[P, T | None]:
    """Wrap a `cleanup` so that it moves the state, runs once, and runs deferred clean-up."""

    @functools.wraps(hook)
    def cleanup(*args: P.args, **kwargs: P.kwargs) -> T | None:
        self = args[0]
        assert isinstance(self, Permanence)
        slot, me = _slot(self), threading.get_ident()
        if slot.state is State.CLEANING and slot.owner == me:
            return hook(*args, **kwargs)
        if slot.state in (State.CLEANING, State.CLOSED):
            return None
        slot.state, slot.owner = State.CLEANING, me
        errors: list[BaseException] = []
        result = None
        try:
            result = hook(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - raised below, after the deferred clean-up
            errors.append(error)
        errors += _run_deferred(slot)
        slot.state, slot.owner = State.CLOSED, None
        if errors:
            raise join_errors(errors, f"several errors while {type(self).__name__} was cleaned up")
        return result

    return _marked(cleanup)


def _complete_get_state(hook: Callable[P, dict[str, Any]]) -> Callable[P, dict[str, Any]]:
    """Wrap a `get_state` so that its result always has `type` and `initialized`."""

    @functools.wraps(hook)
    def get_state(*args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        self = args[0]
        assert isinstance(self, Permanence)
        return {"type": type(self).__name__, "initialized": bool(self.is_initialized())} | hook(*args, **kwargs)

    return _marked(get_state)


_WRAPPERS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "initialize": _track_initialize,
    "cleanup": _track_cleanup,
    "get_state": _complete_get_state,
}


def _own_hook(cls: type[Permanence], name: str) -> Callable[..., Any] | None:
    """Return a new class's hook if it needs wrapping, else None."""
    home = next(base for base in cls.__mro__ if name in vars(base))
    hook = vars(home)[name]
    function = getattr(hook, "__func__", hook)  # of a static or class method
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{cls.__name__}.{name} is async, but it is called without await: call asyncio.run in it")
    if home is not cls:
        if issubclass(home, Permanence):
            return None  # wrapped when that class was made

        # A mixin's hook is looked up at each call: a subclass may put another mixin before it.
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

    The pipeline constructs all permanences, calls `initialize` on each in the order of their
    dependencies, then `validate` on all, and `checkpoint` at checkpoints. It calls `cleanup`
    exactly once each, in reverse order, whether the run succeeds, fails or is interrupted. In a
    plain script a permanence is a context manager:

    ```python
    with BasicLogger("logs") as logger:
        logger.log_metrics({"loss": 0.5})
    ```

    Attributes:
        ranks: `"all"`, or `"zero"` for a permanence that only rank 0 of a distributed run
            constructs.
        state_ranks: `"zero"` if the state is the same on all ranks, as that of a network under
            DDP: rank 0 stores it, and all ranks restore it. `"all"` if each rank has its own.
    """

    ranks: ClassVar[Literal["all", "zero"]] = "all"
    state_ranks: ClassVar[Literal["all", "zero"]] = "zero"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, wrap in _WRAPPERS.items():
            hook = _own_hook(cls, name)
            if hook is not None:
                setattr(cls, name, wrap(hook))

    @_track_initialize
    def initialize(self) -> None:
        """Prepare the permanence, after all were constructed and before any process runs.

        Use for resource allocation or set-up that depends on other permanences.

        Raises:
            Exception: If initialisation fails; every permanence is then cleaned up.
        """

    def validate(self) -> None:
        """Check that the permanence is in a valid state.

        Raises:
            Exception: If it is not. The failures of all permanences are reported together.
        """

    def checkpoint(self) -> None:
        """Save what the permanence holds in memory; called at every checkpoint.

        Raises:
            Exception: If that fails.
        """

    @abstractmethod
    def cleanup(self) -> None:
        """Release what the permanence holds: memory, files, connections.

        Called once after all processes or after an error, even if `initialize` failed or never
        ran. A second call does nothing.

        Raises:
            Exception: If it fails; the other permanences are cleaned up all the same.
        """

    @_complete_get_state
    def get_state(self) -> dict[str, Any]:
        """Describe the permanence for inspection and debugging.

        Returns:
            Plain values, always with `"type"` and `"initialized"`.
        """
        return {}

    def is_initialized(self) -> bool:
        """Return whether the permanence is ready for use."""
        return _slot(self).state is State.READY

    def defer(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Register clean-up at the moment a resource is taken.

        It runs after `cleanup`, the last registered first. It also runs if the constructor raises
        inside a pipeline, where `cleanup` is not called.

        Args:
            function: The function to call.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Raises:
            LifecycleError: If the permanence has been cleaned up already.
        """
        if _slot(self).state is State.CLOSED:
            raise _refuse(self, State.CLOSED)
        _slot(self).deferred.append(functools.partial(function, *args, **kwargs))

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
        """Clean up; an error of the clean-up joins the first one instead of hiding it."""
        try:
            self.cleanup()
        except BaseException as second:  # noqa: BLE001 - joined
            raise join_errors([error, second], f"{type(self).__name__} failed, and so did its clean-up") from None
