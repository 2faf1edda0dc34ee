"""Trials that a former driver left in flight: adopt them, wait for them, or begin them again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ridgepole import rundir
from ridgepole.errors import SweepError
from ridgepole.files import read_json
from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.rundir import RunInfo
from ridgepole.sweeps.run.program import ProgramTarget
from ridgepole.sweeps.run.targets import PipelineTarget
from ridgepole.sweeps.run.trial import never_logged
from ridgepole.sweeps.study.outcome import TrialOutcome

if TYPE_CHECKING:
    from ridgepole.sweeps.run.driver import Sweep
    from ridgepole.sweeps.study.trial_record import TrialRecord

PATIENCE = 45.0
"""Seconds for a worker without a driver to stop by itself: its grace time and some more."""
_POLL_SECONDS = 0.1


class TrialRecovery:
    """The trials of a sweep that are in flight when a driver begins."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def gather(self, guard: SignalGuard) -> list[TrialRecord]:
        """Record the end of trials where it is known, and return the others, to be begun again.

        Args:
            guard: Ends the wait for workers if a signal asks to stop.

        Raises:
            SweepError: If a trial still runs on another machine.
        """
        records = [each for each in self._sweep.store.in_flight() if not (each.attempts and self._sweep.adopt(each))]
        if not records:
            return []
        self._wait(records, guard)
        runs = self._runs()
        left = []
        for record in records:
            own = runs.get(record.number, [])
            record.runs += [run.id for run in own if run.id not in record.runs]
            outcome = self._outcome(record, own) if record.attempts else None
            if outcome is None:
                left.append(record)
            else:
                self._sweep.ended(record, outcome)
        return left

    # --- those that still run

    def _wait(self, records: list[TrialRecord], guard: SignalGuard) -> None:
        """Wait until no process runs them; a worker that lost its driver stops at its next tick."""
        deadline = time.monotonic() + PATIENCE
        announced = False
        while guard.requested is None:
            held = list(self._held(records))
            if not held:
                return
            if not announced:
                announced = True
                numbers = ", ".join(str(number) for number, _ in held)
                self._sweep.display.say(f"waiting for workers of the former driver, which still run trial {numbers}")
            if time.monotonic() >= deadline:
                self._kill(held)
                deadline = time.monotonic() + PATIENCE
            time.sleep(_POLL_SECONDS)

    def _held(self, records: list[TrialRecord]) -> Iterator[tuple[int, dict[str, Any]]]:
        for record in records:
            holder = self._sweep.directory.trial_lock(record.number).holder()
            if holder is not None:
                yield record.number, holder

    def _kill(self, held: list[tuple[int, dict[str, Any]]]) -> None:
        """Kill workers that don't stop. They hold a lock, so the process ids are theirs."""
        for number, holder in held:
            pid, host = holder.get("pid"), holder.get("host")
            if not isinstance(pid, int) or host != socket.gethostname():
                raise SweepError(f"process {pid} on {host} still runs trial {number}: end it there, then resume")
            self._sweep.display.say(f"killing process {pid}, which has not stopped trial {number}")
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    # --- those that don't

    def _runs(self) -> dict[int, list[RunInfo]]:
        """Return this sweep's runs by trial, in order; a killed driver may not have noted all."""
        found: dict[int, list[RunInfo]] = {}
        directory = self._sweep.directory
        for run in rundir.list_runs(directory.root):
            if run.id < directory.id:  # ids sort by time
                break
            label = run.fields.get("sweep")
            if isinstance(label, dict) and label.get("id") == directory.id and isinstance(label.get("trial"), int):
                found.setdefault(label["trial"], []).insert(0, run)
        return found

    def _outcome(self, record: TrialRecord, runs: list[RunInfo]) -> TrialOutcome | None:
        """Return the last attempt's outcome; None if it was killed, interrupted, or is recorded."""
        if record.settled >= record.attempts:
            return None
        stored = read_json(self._sweep.directory.trial_result(record.number, record.attempts))
        if stored:
            outcome = TrialOutcome.from_dict(stored)
            return None if outcome.status == "interrupted" else outcome
        target = self._sweep.target
        if isinstance(target, PipelineTarget | ProgramTarget) and runs and runs[-1].status in ("finished", "pruned"):
            return self._of_run(runs[-1])
        return None

    def _of_run(self, run: RunInfo) -> TrialOutcome:
        """Return the outcome of a trial whose only run has ended, from the run's own record."""
        metric = self._sweep.spec.metric
        outcome = TrialOutcome(
            "pruned" if run.status == "pruned" else "finished",
            runs=(run.id,),
            seconds=float(run.fields.get("seconds") or 0.0),
        )
        if several := self._sweep.spec.metrics:
            entries = run.json(rundir.SUMMARY).get("metrics", {})
            lasts = {each.name: entries.get(each.name, {}).get("last") for each in several}
            if None not in lasts.values():
                return replace(outcome, values=lasts)
            return replace(outcome, status="failed", error="not every metric was logged as a finite number")
        if metric is None:
            return outcome
        followed = run.fields.get("objective")
        if isinstance(followed, dict):  # of a program
            outcome = replace(outcome, value=followed.get("best"), **followed)
            if outcome.value is None and outcome.status == "finished":
                return replace(outcome, status="failed", error=never_logged(metric.name))
            return outcome
        entry = run.json(rundir.SUMMARY).get("metrics", {}).get(metric.name, {})
        best = entry.get("min" if metric.goal == "minimize" else "max")
        if best is None and outcome.status == "finished":
            error = f"{never_logged(metric.name)} as a finite number"
            return replace(outcome, status="failed", error=error)
        count = int(entry.get("count", 0)) - int(entry.get("nonfinite", 0))
        return replace(outcome, value=best, count=count, best=best, latest=entry.get("last"))
