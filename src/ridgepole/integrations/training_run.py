"""The run that a framework's training belongs to."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Any

from ridgepole.errors import RidgepoleError, StopInFramework
from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.permanence import RunContext, current_run
from ridgepole.scripts.record import describe
from ridgepole.scripts.session import ScriptRun, run

_MARK = "framework"


def training_run() -> TrainingRun:
    """Return the run that surrounds the caller; without one, begin one for this process.

    That is the run of a pipeline, of a `ridgepole.run` block, or of `ridgepole run`. A run that is
    begun here ends with the interpreter.
    """
    found = current_run.get()
    if found is None:
        found = run()
        found.__enter__()
        atexit.register(_end, found, os.getpid())
    return TrainingRun(found)


def _end(found: ScriptRun, pid: int) -> None:
    if os.getpid() != pid:  # a fork of it
        return
    error: BaseException | None = getattr(sys, "last_value", None) or found.stop_requested
    with contextlib.suppress(SystemExit):
        found.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


class TrainingRun:
    """A run, as the callback of a framework uses it.

    Attributes:
        context: The run.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context

    @property
    def script(self) -> ScriptRun | None:
        """The run of a script; None in a pipeline, which takes its checkpoints itself."""
        return self.context if isinstance(self.context, ScriptRun) else None

    @property
    def logger(self) -> BaseLoggerManager:
        """The logger of the run: in a pipeline, all of its loggers as one."""
        logger: BaseLoggerManager = self.context.get_permanence("logger")
        return logger

    @property
    def stop_requested(self) -> bool:
        """True if the script was asked to stop. A pipeline obeys a stop at any tick."""
        return self.script is not None and self.script.stop_requested is not None

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics to all loggers of the run."""
        if self.script is not None:
            self.script.log(metrics, step=step)
        else:
            self.logger.log_metrics(metrics, step=step)

    def describe(self, params: Mapping[str, Any]) -> None:
        """Record parameters; those of the command line stay."""
        if self.script is None:
            self.logger.log_hparams(dict(params))
        elif not self.context.rank:
            before = self.context.config.get("params", {})
            describe(self.context.run_dir, config={**before, **params}, seed=None)

    def tick(self, step: int) -> None:
        """Mark the end of a step, where a stop is obeyed.

        Raises:
            StopInFramework: If the run was asked to stop.
        """
        with _Carried():
            self.context.tick(step)

    def note_step(self, step: int) -> None:
        """Count a step of a script, and leave a stop to the next tick or checkpoint."""
        if self.script is not None:
            self.script.note_step(step)

    def stop_ticking(self) -> None:
        """Mark the end of a script's training: later stops come at once.

        Raises:
            StopInFramework: If the run was asked to stop.
        """
        with _Carried():
            if self.script is not None:
                self.script.stop_ticking()

    def checkpoint(self, framework: str, state: Mapping[str, Any]) -> None:
        """Store the state of a training; then obey a stop.

        Raises:
            StateError: If it holds a value that can't be stored; the message names the path.
            StopInFramework: If the run was asked to stop.
        """
        assert self.script is not None
        with _Carried():
            self.script.checkpoint({_MARK: framework, **state})

    def restore(self, framework: str) -> dict[str, Any] | None:
        """Return the state that `checkpoint` has stored, if the run was resumed.

        Raises:
            RidgepoleError: If the newest checkpoint was taken by something else.
        """
        assert self.script is not None
        state = self.script.restore()
        if state is None:
            return None
        if not isinstance(state, dict) or state.get(_MARK) != framework:
            taken = state.get(_MARK) if isinstance(state, dict) else None
            raise RidgepoleError(
                f"the newest checkpoint of {self.context.run_dir} was taken by "
                f"{taken or 'the script itself'}, not by the callback for {framework}: take checkpoints in one way only"
            )
        return state


class _Carried:
    """Carries a stop through a framework, and through a script whose run has no block.

    Lightning exits with 1 on a KeyboardInterrupt, and Python with 130 whatever the signal was.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            raise StopInFramework(error) from None


class Due:
    """Tells when the next checkpoint is due.

    Args:
        every_n_epochs: After so many epochs; None for never.
        every_n_steps: After so many batches; None for never.
        every_minutes: After so many minutes; None for never.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(self, every_n_epochs: int | None, every_n_steps: int | None, every_minutes: float | None) -> None:
        for name, value in (("epochs", every_n_epochs), ("train_steps", every_n_steps)):
            if value is not None and value < 1:
                raise ValueError(f"every_n_{name} must be a whole number of at least 1, or None, not {value!r}")
        if every_minutes is not None and not every_minutes > 0:
            raise ValueError(f"every_minutes must be a positive number, or None, not {every_minutes!r}")
        self._epochs, self._steps, self._minutes = every_n_epochs, every_n_steps, every_minutes
        self._batches = 0
        self._since = monotonic()

    def after_batch(self) -> bool:
        """Count a batch, and return whether a checkpoint is due after it."""
        self._batches += 1
        in_time = self._minutes is not None and monotonic() - self._since >= 60 * self._minutes
        return in_time or (self._steps is not None and self._batches >= self._steps)

    def after_epoch(self, epochs: int) -> bool:
        """Return whether a checkpoint is due after so many epochs."""
        return self._epochs is not None and epochs % self._epochs == 0

    def restart(self) -> None:
        """Count from now on."""
        self._batches, self._since = 0, monotonic()
