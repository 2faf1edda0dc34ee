"""Pass logged metrics to the trial, as a logger in its pipeline or around an existing logger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.composite import NullLogger
from ridgepole.metrics.steps import Metrics, Resolved
from ridgepole.permanence import Stoppable, run_of
from ridgepole.sweeps.run.trial import Trial, current_trial


class TrialListener(NullLogger):
    """The logger in a trial's pipeline that passes the metric on and drops everything else.

    The run's checkpoints hold the trial's counts, so that a resumed trial logs nothing twice.
    """

    def __init__(self) -> None:
        self._trial = current_trial.get()

    def initialize(self) -> None:
        """Let the sweep ask the run to stop from now on."""
        run: object = run_of(self)
        if self._trial is not None and isinstance(run, Stoppable):
            self._trial.enter(run)
            self.defer(self._trial.leave, run)

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Pass metrics to the trial; errors as in `BaseLoggerManager.log_metrics`."""
        records = self.resolve(metrics, step)
        if self._trial is not None:
            _note(self._trial, records)

    def state_dict(self) -> dict[str, Any]:
        """Return the count, the best and the last of the metric's values."""
        return super().state_dict() | {"trial": self._trial.state() if self._trial is not None else {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a checkpoint's state."""
        super().load_state_dict(state)
        if self._trial is not None:
            self._trial.restore(state.get("trial", {}))

    def _say(self, *_: object, **__: object) -> None:
        """Leave messages to the other loggers."""


@contextmanager
def tap_logger(logger: BaseLoggerManager) -> Iterator[None]:
    """Pass metrics that are logged with an existing logger to the running trial.

    Inside the context, the logger's `log_metrics` is shadowed on the object itself: no other logger
    becomes slower.
    """
    log, log_resolved = logger.log_metrics, logger._log_resolved  # noqa: SLF001 - the interface's own other half
    last: Resolved | None = None

    def note(records: Resolved) -> None:
        nonlocal last
        # One of the two may call the other
        trial, again, last = current_trial.get(), records is last, records
        if trial is not None and not again:
            _note(trial, records)
            trial.obey_stop()

    def log_metrics(metrics: Metrics, *, step: int | None = None) -> None:
        if isinstance(metrics, Resolved):
            log(metrics, step=step)
            note(metrics)
        else:
            note(log_resolved(metrics, step))

    def log_both(metrics: Metrics, step: int | None) -> Resolved:
        records = log_resolved(metrics, step)
        note(records)
        return records

    own = vars(logger)
    own["log_metrics"], own["_log_resolved"] = log_metrics, log_both
    try:
        yield
    finally:
        del own["log_metrics"], own["_log_resolved"]


def _note(trial: Trial, records: Resolved) -> None:
    for record in records:
        trial.note(record.name, record.value)
