"""The framework's own state of one logger, and the hooks before it flushes."""

from __future__ import annotations

import functools
import logging
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from ridgepole.metrics.steps import StepCounter
from ridgepole.permanence import Permanence, run_of
from ridgepole.script_context import ScriptContext

P = ParamSpec("P")
T = TypeVar("T")


class LoggerSlot:
    """The framework's own state of one logger.

    Attributes:
        steps: The step counter.
        lock: Guards the steps of a backend without a lock of its own.
        log: Destination of `debug` to `error`; None before the first message.
        dropped: Number of records and figures that were lost without stopping the run.
        before_flush: Called before the logger flushes, checkpoints or cleans up: a group delivers
            what it holds.
        local_record: Directory of the local record that has everything this logger gets, or None.
        said: What was said already, of things that are said once.
        watches: What watches a model for this logger.
    """

    __slots__ = ("before_flush", "dropped", "local_record", "lock", "log", "said", "steps", "watches")

    def __init__(self, global_step: int = 0, last_step: int = 0) -> None:
        self.steps = StepCounter(global_step, last_step)
        self.lock = threading.RLock()
        self.log: logging.Logger | None = None
        self.dropped = 0
        self.before_flush: list[weakref.WeakMethod[Callable[[], None]]] = []
        self.said: set[str] = set()
        self.local_record: Path | None = None
        self.watches: list[object] = []

    def deliver(self) -> None:
        """Have the groups that the logger is in give it what they hold."""
        for reference in self.before_flush:
            deliver = reference()
            if deliver is not None:
                deliver()

    def count_dropped(self) -> None:
        """Count one loss."""
        with self.lock:
            self.dropped += 1

    def is_new(self, saying: str) -> bool:
        """Return whether a saying was not said before, and note it."""
        with self.lock:
            before = len(self.said)
            self.said.add(saying)
            return len(self.said) > before

    def __reduce__(self) -> tuple[type[LoggerSlot], tuple[int, int]]:
        # A copy, also in another process, continues from the same step with its own lock and log.
        return (LoggerSlot, (self.steps.global_step, self.steps.last_step))


def slot_of(logger: Permanence) -> LoggerSlot:
    """Return a logger's slot, even if its constructor never called `super().__init__()`."""
    try:
        return logger.__dict__["_ridgepole_logger"]  # type: ignore[no-any-return]
    except KeyError:
        slot = logger.__dict__.setdefault("_ridgepole_logger", LoggerSlot())
        run = run_of(logger)
        if not isinstance(run, ScriptContext | None):  # an unchanged script has its steps also without a run
            slot.steps.ticks = run.ticks
        return slot  # type: ignore[no-any-return]


def deliver_first(hook: Callable[P, T]) -> Callable[P, T]:
    """Wrap `flush`, `checkpoint` or `cleanup` so that pending records come before it."""

    @functools.wraps(hook)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        self = args[0]
        assert isinstance(self, Permanence)
        try:
            slot_of(self).deliver()
        finally:
            result = hook(*args, **kwargs)
        return result

    wrapper.__ridgepole_delivers__ = True  # type: ignore[attr-defined]
    return wrapper
