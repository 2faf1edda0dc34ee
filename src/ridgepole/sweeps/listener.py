"""Hears what a trial logs: a logger in the trial's pipeline, or one around a logger that was there before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ridgepole.metrics.steps import Metrics, Resolved
from ridgepole.permanence import Stoppable, run_of
from ridgepole.permanences.loggers.base import BaseLoggerManager
from ridgepole.permanences.loggers.group import NullLogger
from ridgepole.sweeps.trial import current_trial


class TrialListener(NullLogger):
    """Added to the pipeline of a trial: tells the sweep of the metric, and drops everything else.

    What it has counted goes into the run's checkpoints, so that a trial that goes on has not logged anything twice.
    """

    def __init__(self) -> None:
        self._trial = current_trial.get()

    def initialize(self) -> None:
        """From here on the sweep can ask the run to stop."""
        run: object = run_of(self)
        if self._trial is not None and isinstance(run, Stoppable):
            self._trial.enter(run)
            self.defer(self._trial.leave, run)

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Tells the trial; errors as in `BaseLoggerManager.log_metrics`."""
        records = self.resolve(metrics, step)
        if self._trial is not None:
            for record in records:
                self._trial.note(record.name, record.value)

    def state_dict(self) -> dict[str, Any]:
        """How many values there were, the best and the last of them."""
        return super().state_dict() | {"trial": self._trial.state() if self._trial is not None else {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint."""
        super().load_state_dict(state)
        if self._trial is not None:
            self._trial.go_on(state.get("trial", {}))

    def _say(self, level: int, message: object, args: tuple[object, ...], *, terminal: bool = True) -> None:
        """Leaves the messages to the others."""


@contextmanager
def overheard(logger: BaseLoggerManager) -> Iterator[None]:
    """Tells the trial that is running what is logged with a logger that was there before it.

    Args:
        logger: That logger, such as the one whose `run_sweep` was called. For as long as this lasts its `log_metrics`
            is shadowed on the object itself, so that nobody else pays for it.
    """
    log, log_resolved = logger.log_metrics, logger._log_resolved  # noqa: SLF001 - the interface's own other half
    last: Resolved | None = None

    def hear(records: Resolved) -> None:
        nonlocal last
        trial, again, last = current_trial.get(), records is last, records  # one of the two may call the other
        if trial is not None and not again:
            for record in records:
                trial.note(record.name, record.value)
            trial.boundary()

    def log_metrics(metrics: Metrics, *, step: int | None = None) -> None:
        if isinstance(metrics, Resolved):
            log(metrics, step=step)
            hear(metrics)
        else:
            hear(log_resolved(metrics, step))

    def log_both(metrics: Metrics, step: int | None) -> Resolved:
        records = log_resolved(metrics, step)
        hear(records)
        return records

    own = vars(logger)
    own["log_metrics"], own["_log_resolved"] = log_metrics, log_both
    try:
        yield
    finally:
        del own["log_metrics"], own["_log_resolved"]
