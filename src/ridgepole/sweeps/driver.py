"""The one driver of a sweep: asks for trials, has an executor run them, records how they went.

The loop runs on one thread. Whatever it is killed between, the ledger knows which trials have begun and which have
ended, and the next driver goes on from there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ridgepole.errors import ConfigError, SweepError, text_of
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.sweeps.display import Display
from ridgepole.sweeps.executors.base import Died, Ended, Event, Evicted, Executor, Reported, Started, TrialSpec
from ridgepole.sweeps.jobs import Job, PipelineJob
from ridgepole.sweeps.orphans import Orphans
from ridgepole.sweeps.outcome import Ending, Outcome
from ridgepole.sweeps.source import Source
from ridgepole.sweeps.spec import SweepSpec
from ridgepole.sweeps.sweepdir import SweepDir

if TYPE_CHECKING:
    from ridgepole.sweeps.ledger import Ledger
    from ridgepole.sweeps.rows import Row

_STUCK, _QUICK_SECONDS = 20, 60.0
"""How often a trial may be taken away so soon after its start, one time after another; then it counts as failed."""
_POLL = 0.2
"""Seconds between two looks at what the handlers of signals have noted."""


@dataclass
class Sweep:
    """A sweep that is being driven.

    Attributes:
        spec: The sweep.
        job: What each trial runs.
        directory: Its directory.
        ledger: Its trials.
        limit: How many trials there are to be in all.
        workers: How many run at a time.
        executor: Where they run.
        source: Where they come from.
        display: Shows how it goes.
        reason: Why it ends before its limit; empty while it does not.
        status: What it has come to.
    """

    spec: SweepSpec
    job: Job
    directory: SweepDir
    ledger: Ledger
    limit: int
    workers: int
    executor: Executor
    display: Display
    source: Source
    reason: str = ""
    status: str = "running"
    _again: deque[Row] = field(default_factory=deque)
    _running: dict[int, Row] = field(default_factory=dict)
    _stopping: bool = False
    _final: bool = False
    _error: Exception | None = None
    _guard: SignalGuard = field(default_factory=SignalGuard)

    def drive(self) -> None:
        """Runs the sweep to its end.

        Raises:
            SweepError: If it stops before that.
            ConfigError: If the pipeline can't be planned with its parameters.
            KeyboardInterrupt: If a signal has stopped it.
        """
        guard = self._guard
        with guard.installed():
            guard.on_request = self.executor.wake
            self.executor.guard, self.executor.directory = guard, self.directory
            try:
                self.executor.start(self.job, self._on)
                self._loop()
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

    def _loop(self) -> None:
        guard = self._guard
        for row in self.ledger.rows.values():
            self._look_at_target(row)  # a driver may have been killed before it did
        self._again.extend(Orphans(self).gather(guard))
        while True:
            guard.ticking = True  # a first Ctrl-C asks, the second one insists
            if guard.requested is not None:
                self._stop("interrupted")
                if guard.overdue:
                    self._insist()
            self.source.pump()
            if not self._stopping:
                self._fill()
            if self._running:
                self.executor.pump(_POLL)
            elif self._stopping:
                break
            elif self.executor.free <= 0:  # workers of former trials have yet to leave
                self.executor.pump(_POLL)
            elif self.source.dry:
                break
            else:
                self.source.wait(_POLL)
        if self._final:  # a sweep that is over has nothing in flight
            for row in self.ledger.in_flight():
                self.ledger.record(row, self._left(row, "interrupted"), stopped=True)

    def _fill(self) -> None:
        while self.executor.free > 0 and not self._stopping:
            row = self._again.popleft() if self._again else self.source.next()
            if row is None:
                return
            self.begin(row)

    def begin(self, row: Row) -> None:
        """Begins an attempt of a trial."""
        self.ledger.begin(row)
        self._running[row.number] = row
        self.display.began(row)
        self.executor.submit(self._spec_of(row))
        if row.pruning:  # decided before a stop or a kill
            self.executor.prune(row.number)

    def adopt(self, row: Row) -> bool:
        """Takes over an attempt that a former driver began and that still runs."""
        adopted = self.executor.adopt(self._spec_of(row))
        if adopted:
            self._running[row.number] = row
            self.display.began(row)
            if row.pruning:
                self.executor.prune(row.number)
            if self._stopping:
                self.executor.stop(row.number)
        return adopted

    def _spec_of(self, row: Row) -> TrialSpec:
        # A function that makes several runs starts anew: nobody can tell which of them it would go on with.
        one = row.runs and (len(row.runs) == 1 or isinstance(self.job, PipelineJob))
        earlier = str(self.directory.root / row.runs[-1]) if one else None
        path = str(self.directory.path)
        return TrialSpec(self.directory.id, row.number, row.attempts, row.values, path, earlier, row.environ)

    def prune(self, row: Row) -> None:
        """Asks a trial to stop at its next tick, as pruned; one that doesn't run is left alone."""
        if row.number in self._running:
            self.executor.prune(row.number)

    # --- events

    def _on(self, event: Event) -> None:
        row = self._running.get(event.number)
        if row is None:
            return
        if isinstance(event, Started):
            self.ledger.started(row.number, Path(event.run).name)
        elif isinstance(event, Reported):
            if self.ledger.report(row.number, event.values, event.seen) and not self.source.prunes:
                self.executor.prune(row.number)
            self.display.reported(row)
            self.source.reported(row, event.values, event.seen)
        elif isinstance(event, Ended):
            del self._running[row.number]
            self.ended(row, event.outcome)
        elif isinstance(event, Died):
            del self._running[row.number]
            killed = self._guard.overdue  # by ourselves, as the user wanted it
            self.ended(row, self._left(row, "interrupted" if killed else "failed", event.reason))
        elif isinstance(event, Evicted):
            del self._running[row.number]
            self._evicted(row, event)

    def _left(self, row: Row, status: Ending, error: str = "") -> Outcome:
        """The outcome of a trial that has not told it: what is known here counts for those that are judged later."""
        best = self.spec.metric.best(row.history) if self.spec.metric is not None else None
        return Outcome(status, count=len(row.history), best=best, latest=row.latest, error=error)

    def _evicted(self, row: Row, event: Evicted) -> None:
        """Sees to a trial that was taken away: it goes on elsewhere, unless the sweep is about to end."""
        if self._stopping or self._guard.requested is not None:
            self._was_interrupted(row, event.outcome)
            return
        row.stuck = row.stuck + 1 if event.outcome.seconds < _QUICK_SECONDS else 0
        if row.stuck >= _STUCK:
            why = f"it was taken away {_STUCK} times within a minute of its start"
            self.ended(row, replace(event.outcome, status="failed", error=f"{why}: {event.reason}"))
            return
        self.ledger.interrupted(row, event.outcome)
        self.display.left(row)
        self.display.say(f"trial {row.number} goes on elsewhere: {event.reason}")
        self._again.append(row)

    def ended(self, row: Row, outcome: Outcome) -> None:
        """Sees to an attempt that has ended, however it did."""
        if outcome.status == "interrupted" and not self._stopping and self._guard.requested is None:
            outcome = replace(outcome, status="failed", error=outcome.error or "it was interrupted from outside")
        if outcome.status == "interrupted":
            self._was_interrupted(row, outcome)
        elif outcome.status == "failed":
            self._failed(row, outcome)
        else:
            self._conclude(row, outcome)

    def _conclude(self, row: Row, outcome: Outcome) -> None:
        """Records how a trial ended for good, and what follows from it."""
        self.ledger.record(row, outcome)
        self.display.ended(row)
        self.source.ended(row, outcome)
        self._look_at_target(row)

    def _look_at_target(self, row: Row) -> None:
        metric, outcome = self.spec.metric, row.outcome
        if (
            metric is not None
            and outcome is not None
            and outcome.status == "finished"
            and metric.reached(outcome.value)
        ):
            self._final = True
            self._stop(f"trial {row.number} reached the target")

    def _was_interrupted(self, row: Row, outcome: Outcome) -> None:
        """A trial stopped because it was asked to: it is left to a resume, unless the sweep is over for good."""
        if self._final:
            self.ledger.record(row, outcome, stopped=True)
            self.display.ended(row)
            return
        self.ledger.interrupted(row, outcome)
        self.display.left(row)

    def _failed(self, row: Row, outcome: Outcome) -> None:
        options = self.spec.options
        if outcome.problems and not any(each.outcome for each in self.ledger.rows.values()):
            self.ledger.interrupted(row, outcome)
            self.fail(ConfigError(outcome.problems), "the pipeline can't be planned")
            return
        if options.on_trial_error == "retry" and row.failures < options.retries and not self._final:
            self.ledger.failed_once(row, outcome)
            self.display.retried(row, outcome)
            self._again.append(row)
            return
        self._conclude(row, outcome)
        failed = sum(each.outcome is not None and each.outcome.status == "failed" for each in self.ledger.rows.values())
        if options.on_trial_error == "stop":
            self.fail(SweepError(f"trial {row.number} failed: {outcome.error}"), f"trial {row.number} failed")
        elif options.max_failures is not None and failed > options.max_failures:
            message = (
                f"{failed} trials have failed, and max_failures is {options.max_failures}; the last: {outcome.error}"
            )
            self.fail(SweepError(message), "too many trials failed")

    # --- the end

    def fail(self, error: Exception, reason: str) -> None:
        """Stops the sweep because of an error, which `drive` raises in the end."""
        self._error = self._error or error
        self.status = "stopped"
        self._stop(reason)

    def _stop(self, reason: str) -> None:
        """Begins no further trial, and asks those that run to stop at their next tick."""
        if self._stopping:
            return
        self._stopping = True
        self.reason = reason
        for number in list(self._running):
            self.executor.stop(number)

    def _insist(self) -> None:
        for number in list(self._running):
            self.executor.stop(number, now=True)
