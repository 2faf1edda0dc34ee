"""The one driver of a sweep: draws trials, has an executor run them, records how they end.

It runs on one thread. Whenever it is killed, the trial store knows which trials have begun and
which have ended, and the next driver resumes from there.
"""

from __future__ import annotations

import enum
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ridgepole.errors import ConfigError, SweepError, text_of
from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.sweeps.result import NO_METRIC
from ridgepole.sweeps.run.display import Display
from ridgepole.sweeps.run.executor import Completed, Event, Executor, Preempted, Reported, Started, WorkerLost
from ridgepole.sweeps.run.recovery import TrialRecovery
from ridgepole.sweeps.run.targets import FunctionTarget, Target
from ridgepole.sweeps.run.trial import TrialSpec, never_logged
from ridgepole.sweeps.spec.spec import SweepSpec
from ridgepole.sweeps.study.outcome import Ending, TrialOutcome
from ridgepole.sweeps.sweepdir import SweepDir

if TYPE_CHECKING:
    from ridgepole.sweeps.study.trial_record import TrialRecord
    from ridgepole.sweeps.study.trial_store import TrialStore

_STUCK, _QUICK_SECONDS = 20, 60.0
"""A trial that is preempted so often in a row, so soon after its start, counts as failed."""
_ENOUGH_UNLOGGED = 3
"""End a sweep after this many failed trials if none of its trials has logged the metric."""
_POLL_SECONDS = 0.2  # time between two looks at what signal handlers have noted


class TrialSource:
    """The sweep's own method of drawing trials, and the base of other sources.

    Args:
        store: The sweep's trials.
        limit: The number of trials in all.

    Attributes:
        prunes: Whether the source itself decides which trials to prune.
        exhausted: Whether there will be no further trial.
    """

    prunes = False

    def __init__(self, store: TrialStore, limit: int) -> None:
        self.store, self.limit = store, limit
        self.exhausted = False

    def next(self) -> TrialRecord | None:
        """Return a new trial, or None if no trial can start at the moment.

        Raises:
            SweepError: If the storage can't be used.
        """
        record = self.store.create() if self.store.count < self.limit else None
        self.exhausted = record is None
        return record

    def wait(self, timeout: float) -> None:
        """Wait for the next trial, `timeout` seconds at most; called while nothing runs.

        Raises:
            SweepError: If the wait has been too long.
        """
        time.sleep(timeout)

    def pump(self) -> None:
        """Take in what has arrived; called often, also while a trial runs."""

    def reported(self, record: TrialRecord, values: tuple[float, ...]) -> None:
        """Take values of the metric that a trial has logged."""

    def ended(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """Take note of a trial that has ended for good."""

    def close(self) -> None:
        """Close the source at the end of the sweep."""


class Phase(enum.Enum):
    """The phase of a sweep that is driven. It only moves forward."""

    RUNNING = 1  # trials are begun
    STOPPING = 2  # no trial is begun; interrupted trials are left to a resume
    CONCLUDING = 3  # the target is reached; interrupted trials end with the sweep, for good


@dataclass(kw_only=True)
class Sweep:
    """A sweep that is being driven."""

    spec: SweepSpec
    target: Target
    directory: SweepDir
    store: TrialStore
    workers: int  # the number of trials that run at a time
    executor: Executor
    display: Display
    source: TrialSource
    reason: str = ""  # why it ends before its limit
    status: str = "running"  # as `SweepResult` has it
    retry: Sequence[int] | None = None  # failed trials to run again; none given: all of them
    _phase: Phase = Phase.RUNNING
    _pending: deque[TrialRecord] = field(default_factory=deque)
    _running: dict[int, TrialRecord] = field(default_factory=dict)
    _error: Exception | None = None
    _failed_here: int = 0  # trials that have failed in this process
    _guard: SignalGuard = field(default_factory=SignalGuard)

    def drive(self) -> None:
        """Run the sweep to its end.

        Raises:
            SweepError: If it stops early.
            ConfigError: If the pipeline can't be planned with its parameters.
            KeyboardInterrupt: If a signal has stopped it.
        """
        guard = self._guard
        with guard.installed():
            guard.on_request = self.executor.wake
            self.executor.guard, self.executor.directory = guard, self.directory
            try:
                self.executor.start(self.target, self._on_event)
                self._recover()
                while self._step():
                    pass
                self._conclude()
            except KeyboardInterrupt:
                self.status = self.reason = "interrupted"
                raise
            except Exception as error:
                self.status, self.reason = "failed", text_of(error)
                raise
            finally:
                guard.start_cleanup()
                self.executor.close(now=bool(self._running))
                self.source.close()
        if self._error is not None:
            raise self._error
        if guard.requested is not None:
            self.status, self.reason = "interrupted", self.reason or "interrupted"
            raise guard.requested
        if self.status == "running":
            self.status = "finished"

    # --- the loop

    def _recover(self) -> None:
        """Take over the trials of a former driver, which may have been killed at any moment."""
        for record in self.store.rows.values():
            self._check_target(record)
        wanted = None if self.retry is None else self.retry or self.store.failed()
        for number in wanted or ():
            self.store.retry(number)
        self._pending.extend(TrialRecovery(self).gather(self._guard))

    def _step(self) -> bool:
        """Begin trials, and wait for events; return False at the end of the sweep."""
        self._obey_signals()
        self.source.pump()
        if self._phase is Phase.RUNNING:
            self._begin_trials()
        # Without free slots, workers of former trials have yet to leave.
        if self._running or (self._phase is Phase.RUNNING and self.executor.free_slots <= 0):
            self.executor.pump(_POLL_SECONDS)
        elif self._phase is not Phase.RUNNING or self.source.exhausted:
            return False
        else:
            self.source.wait(_POLL_SECONDS)
        return True

    def _obey_signals(self) -> None:
        self._guard.ticking = True  # a first Ctrl-C asks, the second one forces
        if self._guard.requested is not None:
            self._stop("interrupted")
            if self._guard.overdue:
                self._force_stop()

    def _begin_trials(self) -> None:
        while self.executor.free_slots > 0 and self._phase is Phase.RUNNING:
            record = self._pending.popleft() if self._pending else self.source.next()
            if record is None:
                return
            self.store.begin(record)
            self._track(record)
            self.executor.submit(self._spec_of(record))
            if record.pruning:  # decided before a stop or a kill
                self.executor.prune(record.number)

    def _conclude(self) -> None:
        """Record the end of trials in flight if the sweep is over for good; name what is left."""
        if self._phase is Phase.CONCLUDING:
            for record in self.store.in_flight():
                self.store.record(record, self._outcome_so_far(record, "interrupted"), stopped=True)
        elif left := self.store.left_over():
            numbers = ", ".join(map(str, left))
            advice = f"ridgepole sweep resume {self.directory.id} tries them"
            self.display.say(f"enqueued from outside, and beyond the limit: trial {numbers}; {advice}")

    def adopt(self, record: TrialRecord) -> bool:
        """Take over an attempt of a former driver; return whether it still runs."""
        adopted = self.executor.adopt(self._spec_of(record))
        if adopted:
            self._track(record)
            if record.pruning:
                self.executor.prune(record.number)
            if self._phase is not Phase.RUNNING:
                self.executor.stop(record.number)
        return adopted

    def _track(self, record: TrialRecord) -> None:
        self._running[record.number] = record
        self.display.began(record)

    def _spec_of(self, record: TrialRecord) -> TrialSpec:
        # A function that made several runs starts from scratch: which to resume is unknown.
        one = record.runs and (len(record.runs) == 1 or not isinstance(self.target, FunctionTarget))
        return TrialSpec(
            sweep=self.directory.id,
            number=record.number,
            attempt=record.attempts,
            values=record.values,
            directory=str(self.directory.path),
            resume=str(self.directory.root / record.runs[-1]) if one else None,
            environ=record.environ,
        )

    def prune(self, record: TrialRecord) -> None:
        """Ask a trial to stop at its next tick, as pruned, if it runs."""
        if record.number in self._running:
            self.executor.prune(record.number)

    # --- events

    def _on_event(self, event: Event) -> None:
        record = self._running.get(event.number)
        if record is None:
            return
        match event:
            case Started(run=run):
                self.store.started(record.number, Path(run).name)
            case Reported(values=values, seen=seen):
                judge, running = not self.source.prunes, self._running.values()
                for each in self.store.report(record.number, values, seen, judge=judge, running=running):
                    self.executor.prune(each.number)
                self.display.reported(record)
                self.source.reported(record, values)
            case Completed(outcome=outcome):
                del self._running[record.number]
                self.ended(record, outcome)
            case WorkerLost(reason=reason):
                del self._running[record.number]
                killed = self._guard.overdue  # by ourselves, at the user's request
                self.ended(record, self._outcome_so_far(record, "interrupted" if killed else "failed", reason))
            case Preempted(outcome=outcome, reason=reason):
                del self._running[record.number]
                self._preempted(record, outcome, reason)

    def _outcome_so_far(self, record: TrialRecord, status: Ending, error: str = "") -> TrialOutcome:
        """Return the outcome of a trial that left none, from its reported values."""
        best = self.spec.metric.best(record.history) if self.spec.metric is not None else None
        return TrialOutcome(status, count=len(record.history), best=best, latest=record.latest, error=error)

    def _preempted(self, record: TrialRecord, outcome: TrialOutcome, reason: str) -> None:
        """Resume a preempted trial elsewhere, unless the sweep is about to end."""
        if self._is_ending:
            self._interrupted(record, outcome)
            return
        record.stuck = record.stuck + 1 if outcome.seconds < _QUICK_SECONDS else 0
        if record.stuck >= _STUCK:
            error = f"it was preempted {_STUCK} times within a minute of its start: {reason}"
            self.ended(record, replace(outcome, status="failed", error=error))
            return
        self.store.interrupted(record, outcome)
        self.display.left(record)
        self.display.say(f"trial {record.number} will resume elsewhere: {reason}")
        self._pending.append(record)

    def ended(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """Handle an attempt that has ended in any way."""
        if outcome.status == "interrupted" and not self._is_ending:
            outcome = replace(outcome, status="failed", error=outcome.error or "it was interrupted from outside")
        if outcome.status == "interrupted":
            self._interrupted(record, outcome)
        elif outcome.status == "failed":
            self._failed(record, outcome)
        else:
            self._record(record, outcome)

    def _record(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """Record how a trial ended for good, and what follows from it."""
        self.store.record(record, outcome)
        self.display.ended(record)
        self.source.ended(record, outcome)
        self._check_target(record)

    def _check_target(self, record: TrialRecord) -> None:
        metric, outcome = self.spec.metric, record.outcome
        if metric is None or outcome is None or outcome.status != "finished":
            return
        if metric.reached(outcome.value):
            self._stop(f"trial {record.number} reached the target", Phase.CONCLUDING)

    def _interrupted(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """Leave a trial that was asked to stop to a resume, unless the sweep is over for good."""
        if self._phase is Phase.CONCLUDING:
            self.store.record(record, outcome, stopped=True)
            self.display.ended(record)
        else:
            self.store.interrupted(record, outcome)
            self.display.left(record)

    def _failed(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        options = self.spec.options
        if outcome.problems and not any(each.outcome for each in self.store.rows.values()):
            self.store.interrupted(record, outcome)
            self._fail(ConfigError(outcome.problems), "the pipeline can't be planned")
            return
        retries = options.retries if options.on_trial_error == "retry" and self._phase is not Phase.CONCLUDING else 0
        if record.failures < retries:
            self.store.failed_once(record, outcome)
            self.display.retried(record, outcome)
            self._pending.append(record)
            return
        self._record(record, outcome)
        failed = len(self.store.failed())
        if options.on_trial_error == "stop":
            self._fail(SweepError(f"trial {record.number} failed: {outcome.error}"), f"trial {record.number} failed")
        elif options.max_failures is not None and failed > options.max_failures:
            message = f"{failed} trials have failed, more than max_failures = {options.max_failures}"
            self._fail(SweepError(f"{message}; the last error: {outcome.error}"), "too many trials failed")
        elif options.max_failures is None and self._logs_no_metric():
            message = f"all of {failed} trials failed alike: {outcome.error}"
            self._fail(SweepError(message), NO_METRIC)

    def _logs_no_metric(self) -> bool:
        """Return whether no trial so far logged the metric, some of them in this process."""
        metric = self.spec.metric
        if metric is None:
            return False
        self._failed_here += 1
        ended = [record.outcome.error for record in self.store.rows.values() if record.outcome]
        return self._failed_here >= _ENOUGH_UNLOGGED and all(
            each.startswith(never_logged(metric.name)) for each in ended
        )

    # --- the end

    @property
    def _is_ending(self) -> bool:
        return self._phase is not Phase.RUNNING or self._guard.requested is not None

    def _fail(self, error: Exception, reason: str) -> None:
        """Stop the sweep because of an error, which `drive` raises in the end."""
        self._error = self._error or error
        self.status = "stopped"
        self._stop(reason)

    def _stop(self, reason: str, phase: Phase = Phase.STOPPING) -> None:
        """Begin no further trial, and ask the running ones to stop at their next tick."""
        before, self._phase = self._phase, max(self._phase, phase, key=lambda each: each.value)
        if before is Phase.RUNNING:
            self.reason = reason
            for number in list(self._running):
                self.executor.stop(number)

    def _force_stop(self) -> None:
        for number in list(self._running):
            self.executor.stop(number, now=True)
