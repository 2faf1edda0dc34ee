"""Run trials in the driver's own process, one after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.sweeps.run.attempt import run_trial
from ridgepole.sweeps.run.executor import Completed, Event, Executor, Reported, Started
from ridgepole.sweeps.run.targets import Target
from ridgepole.sweeps.run.trial import Trial, TrialLink, TrialSpec
from ridgepole.sweeps.spec.options import Options


class InlineExecutor(Executor):
    """An executor whose `pump` runs a trial. Pruning reaches the trial within its log call."""

    def __init__(self) -> None:
        self._target: Target | None = None
        self._emit: Callable[[Event], None] = lambda _event: None
        self._submitted: TrialSpec | None = None
        self._link: _InlineLink | None = None
        self._prune_at_start = False

    @classmethod
    def create(cls, options: Options, workers: int) -> InlineExecutor:
        """Return an executor; it runs one trial at a time, whatever `workers` says."""
        del options, workers
        return cls()

    def start(self, target: Target, emit: Callable[[Event], None]) -> None:
        """Keep the target."""
        self._target, self._emit = target, emit

    @property
    def free_slots(self) -> int:
        """Return one, unless a trial waits."""
        return int(self._submitted is None)

    def submit(self, spec: TrialSpec) -> None:
        """Keep the trial for the next `pump`."""
        self._submitted, self._prune_at_start = spec, False

    def pump(self, timeout: float) -> None:
        """Run the submitted trial to its end."""
        del timeout
        spec, self._submitted = self._submitted, None
        if spec is None:
            return
        assert self._target is not None
        link = _InlineLink(spec.number, self._emit, self.guard or SignalGuard(), pruned=self._prune_at_start)
        self._link = link
        try:
            outcome = run_trial(self._target, spec, link)
        finally:
            self._link = None
        if link.failure is not None:
            raise link.failure
        self._emit(Completed(spec.number, outcome))

    def prune(self, number: int) -> None:
        """Ask the running trial, or the one that is about to run."""
        if self._submitted is not None and self._submitted.number == number:
            self._prune_at_start = True
        if self._link is not None and self._link.number == number:
            self._link.trial.ask_to_prune()

    def stop(self, number: int, *, now: bool = False) -> None:
        """Ask the running trial; the signal itself stops it at once."""
        del now
        if self._link is not None and self._link.number == number:
            self._link.trial.ask_to_stop()

    def close(self, *, now: bool = False) -> None:
        """Drop a trial that waits."""
        del now
        self._submitted = None


class _InlineLink(TrialLink):
    """A link that calls the driver directly.

    An error there, such as a full disk, ends the trial and is raised after it.
    """

    def __init__(self, number: int, emit: Callable[[Event], None], guard: SignalGuard, *, pruned: bool) -> None:
        super().__init__(guard)
        self.number = number
        self.failure: Exception | None = None
        self._emit_event = emit
        self._pruned = pruned

    def bind(self, trial: Trial) -> None:
        super().bind(trial)
        if self._pruned:
            trial.ask_to_prune()

    def started(self, run: Path) -> None:
        self._emit(Started(self.number, str(run)))

    def report(self, values: tuple[float, ...], seen: int) -> None:
        self._emit(Reported(self.number, values, seen))
        super().report(values, seen)

    def _emit(self, event: Event) -> None:
        if self.failure is not None:  # retried for long enough
            return
        try:
            self._emit_event(event)
        except Exception as error:  # noqa: BLE001 - raised by pump, once the trial has ended in an orderly way
            self.failure = error
            self.trial.ask_to_stop()
