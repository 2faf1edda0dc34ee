"""The progress of a sweep on the terminal: a row for the sweep and one for each running trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ridgepole.progress import NullProgressManager, ProgressManager
from ridgepole.progress.bars import Bars
from ridgepole.sweeps.spec.objective import Metric
from ridgepole.sweeps.study.outcome import TrialOutcome

if TYPE_CHECKING:
    from ridgepole.sweeps.study.trial_record import TrialRecord

_SWEEP, _TRIALS = "sweep", "trial"
_ROWS = 16  # the most running trials to show
_WIDTH = 60
_LOOK_SECONDS = 0.2


class Display:
    """The bars of a sweep, and lines about its failures.

    Args:
        name: The sweep's name.
        limit: The number of trials in all.
        done: Trials that have ended already.
        metric: The metric to optimise.
        say: Prints a line.
        progress: Whether to show bars.
        rows: Whether running trials get rows. Without, the sweep's row shows the one that runs. It
            may have bars of its own in this process.

    Attributes:
        seconds: How long the display was open, up to the end of the last trial of all.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        done: Sequence[TrialRecord],
        metric: Metric | None,
        say: Callable[[str], None],
        *,
        progress: bool,
        rows: bool,
    ) -> None:
        self.say = say
        self._name, self._limit, self._done, self._metric = name, limit, len(done), metric
        self._most_rows = _ROWS if progress and rows else 0
        self._manager: ProgressManager | NullProgressManager = ProgressManager() if progress else NullProgressManager()
        self._best: tuple[float, int] | None = None
        self._failed = 0
        self._task = 0
        self._opened = self._looked = time.monotonic()
        self.seconds = 0.0
        self._rows: dict[int, int] = {}
        self._spare_rows: list[int] = []
        for record in done:
            self._count(record)

    def open(self) -> None:
        """Show the sweep's row; its clock starts now."""
        bar = self._manager.add_progress(_SWEEP, with_status=True)
        self._manager.add_progress(_TRIALS, with_status=True)
        self._manager.initialize()
        self._task = self._manager.add_task_to_progress(self._name, self._limit, visible=True, progress_name=_SWEEP)
        bar.update(self._task, overall=True)  # type: ignore[arg-type]  # trials of several workers end in bursts
        # For the rate from now on
        bar.reset(self._task, completed=self._done)  # type: ignore[arg-type]
        self._opened = time.monotonic()

    def close(self) -> None:
        """Leave the sweep's row on the screen."""
        for task in self._rows.values():
            self._hide(task)
        bar = self._manager.progress_dict[_SWEEP]
        bar.stop_task(self._task)  # type: ignore[arg-type]
        self._manager.cleanup()
        self.seconds = time.monotonic() - self._opened
        if isinstance(bar, Bars):
            self.seconds = bar.task(self._task).seconds_spent(bar.get_time())

    def began(self, record: TrialRecord) -> None:
        """Give the trial a row."""
        if not self._most_rows:
            self._show_in_sweep(record)
        if len(self._rows) >= self._most_rows:
            return
        bar = self._manager.progress_dict[_TRIALS]
        if not self._spare_rows:
            self._spare_rows.append(self._manager.add_task_to_progress("", None, visible=True, progress_name=_TRIALS))
        task = self._rows[record.number] = self._spare_rows.pop()
        bar.reset(task)  # type: ignore[arg-type]  # the row of an earlier trial
        bar.update(task, description=f"trial {record.number}", status=_params(record.values), visible=True)  # type: ignore[arg-type]

    def reported(self, record: TrialRecord) -> None:
        """Show the last value of the metric."""
        task = self._rows.get(record.number)
        if task is not None and record.latest is not None:
            self._manager.update(_TRIALS, task, f"{record.latest:.4g} · {_params(record.values)}")
        elif not self._most_rows and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._show_in_sweep(record)

    def _show_in_sweep(self, record: TrialRecord) -> None:
        """Show the one running trial in the sweep's row."""
        self._looked = time.monotonic()
        value = "" if record.latest is None else f"{record.latest:.4g} · "
        parts = [*self._so_far(), f"trial {record.number}: {value}{_params(record.values)}"]
        self._manager.update(_SWEEP, self._task, " · ".join(parts))

    def _so_far(self) -> list[str]:
        """Return the best value and the number of failures, where there are any."""
        parts = [f"best {self._best[0]:.4g} (trial {self._best[1]})"] if self._best else []
        return [*parts, f"{self._failed} failed"] if self._failed else parts

    def left(self, record: TrialRecord) -> None:
        """Remove a trial that doesn't run any more; it may not have ended for good."""
        task = self._rows.pop(record.number, None)
        if task is not None:
            self._hide(task)
            self._spare_rows.append(task)

    def retried(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """Report a failed trial that will be tried again."""
        self.left(record)
        self.say(f"trial {record.number} failed and will be tried again: {_short(outcome.error)}")

    def ended(self, record: TrialRecord) -> None:
        """Report a trial that has ended for good, and advance the sweep's bar."""
        self.left(record)
        if record.outcome is None or record.stopped:
            return
        if record.outcome.status == "failed":
            self.say(f"trial {record.number} failed: {_short(record.outcome.error)}")
        self._count(record)
        self._manager.advance(_SWEEP, self._task, status=" · ".join(self._so_far()))

    def _count(self, record: TrialRecord) -> None:
        outcome = record.outcome
        if outcome is None or record.stopped:
            return
        self._failed += outcome.status == "failed"
        value = outcome.value if outcome.status == "finished" else None
        metric = self._metric or Metric("objective")
        if value is not None and (self._best is None or metric.better(value, self._best[0])):
            self._best = (value, record.number)

    def _hide(self, task: int) -> None:
        self._manager.progress_dict[_TRIALS].update(task, visible=False)  # type: ignore[arg-type]


def _params(values: Mapping[str, Any]) -> str:
    pairs = (f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items())
    return _short(" ".join(pairs))


def _short(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 3 * _WIDTH else f"{line[: 3 * _WIDTH]}…"
