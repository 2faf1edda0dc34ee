"""Runs trials in the driver's own process, one after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ridgepole.pipeline.signals import SignalGuard
from ridgepole.sweeps.executors.base import Ended, Event, Executor, Reported, Started, TrialSpec
from ridgepole.sweeps.jobs import Job
from ridgepole.sweeps.options import Options
from ridgepole.sweeps.trial import GuardedLink, Trial, perform


def make(options: Options, workers: int) -> InlineExecutor:
    """The executor; `workers` can't be more than one at a time here, and what is more is ignored."""
    del options, workers
    return InlineExecutor()


class InlineExecutor(Executor):
    """Runs each trial inside `pump`. A pruning decision reaches the trial before the log call has returned."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._emit: Callable[[Event], None] = lambda _event: None
        self._waiting: TrialSpec | None = None
        self._link: _InlineLink | None = None
        self._early = False

    def start(self, job: Job, emit: Callable[[Event], None]) -> None:
        """Has nothing to get ready."""
        self._job, self._emit = job, emit

    @property
    def free(self) -> int:
        """One, while none waits."""
        return int(self._waiting is None)

    def submit(self, spec: TrialSpec) -> None:
        """Keeps the trial for the next `pump`."""
        self._waiting, self._early = spec, False

    def pump(self, timeout: float) -> None:
        """Runs the trial that was submitted, however long it takes."""
        del timeout
        spec, self._waiting = self._waiting, None
        if spec is None:
            return
        assert self._job is not None
        self._link = _InlineLink(self, spec.number, self.guard or SignalGuard(), pruned=self._early)
        try:
            outcome = perform(self._job, spec, self._link)
        finally:
            link, self._link = self._link, None
        if link.failure is not None:
            raise link.failure
        self._emit(Ended(spec.number, outcome))

    def tell(self, event: Event) -> None:
        """Passes on what the running trial says."""
        self._emit(event)

    def prune(self, number: int) -> None:
        """Asks the running trial, or the one that is about to run."""
        if self._waiting is not None and self._waiting.number == number:
            self._early = True
        if self._link is not None and self._link.number == number:
            self._link.trial.ask_to_prune()

    def stop(self, number: int, *, now: bool = False) -> None:
        """Asks the running trial; at once is what the signal itself does here."""
        del now
        if self._link is not None and self._link.number == number:
            self._link.trial.ask_to_stop()

    def close(self, *, now: bool = False) -> None:
        """Has nothing to end."""
        del now
        self._waiting = None


class _InlineLink(GuardedLink):
    """Leads straight to the driver. What fails there (such as a full disk) ends the trial, and is raised after it."""

    def __init__(self, executor: InlineExecutor, number: int, guard: SignalGuard, *, pruned: bool) -> None:
        super().__init__(guard)
        self.number = number
        self._pruned = pruned
        self.failure: Exception | None = None
        self._executor = executor

    def bind(self, trial: Trial) -> None:
        super().bind(trial)
        if self._pruned:
            trial.ask_to_prune()

    def started(self, run: Path) -> None:
        self._tell(Started(self.number, str(run)))

    def report(self, values: tuple[float, ...], seen: int) -> None:
        self._tell(Reported(self.number, values, seen))
        super().report(values, seen)

    def _tell(self, event: Event) -> None:
        if self.failure is not None:  # which has been waited for long enough
            return
        try:
            self._executor.tell(event)
        except Exception as error:  # noqa: BLE001 - raised by pump, once the trial has ended in an orderly way
            self.failure = error
            self.trial.ask_to_stop()
