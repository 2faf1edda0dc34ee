"""Trials that a former driver began and did not see the end of: adopted, waited for, or begun again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ridgepole import rundir
from ridgepole.errors import SweepError
from ridgepole.files import read_json
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.rundir import RunInfo
from ridgepole.sweeps.jobs import PipelineJob
from ridgepole.sweeps.outcome import Outcome

if TYPE_CHECKING:
    from ridgepole.sweeps.driver import Sweep
    from ridgepole.sweeps.rows import Row

PATIENCE = 45.0
"""Seconds that a worker without a driver has to stop by itself: its own grace time and some more."""
_LOOK = 0.1


class Orphans:
    """The trials of a sweep that are in flight as a driver begins.

    Args:
        sweep: The sweep.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def gather(self, guard: SignalGuard) -> list[Row]:
        """Settles what can be settled.

        Args:
            guard: Says whether a signal asked to stop meanwhile.

        Returns:
            The trials that have to be begun again, by number.

        Raises:
            SweepError: If one of them still runs where it can't be ended.
        """
        rows = [row for row in self._sweep.ledger.in_flight() if not (row.attempts and self._sweep.adopt(row))]
        if not rows:
            return []
        self._wait(rows, guard)
        runs = self._runs()
        left = []
        for row in rows:
            mine = runs.get(row.number, [])
            row.runs += [run.id for run in mine if run.id not in row.runs]
            outcome = self._outcome(row, mine) if row.attempts else None
            if outcome is None:
                left.append(row)
            else:
                self._sweep.ended(row, outcome)
        return left

    # --- those that still run

    def _wait(self, rows: list[Row], guard: SignalGuard) -> None:
        """Waits until nobody runs any of them; a worker that lost its driver stops at its next tick."""
        until = time.monotonic() + PATIENCE
        told = False
        while guard.requested is None:
            held = list(self._held(rows))
            if not held:
                return
            if not told:
                told = True
                numbers = ", ".join(str(number) for number, _ in held)
                self._sweep.display.say(f"waiting for workers of the driver before, which still run trial {numbers}")
            if time.monotonic() >= until:
                self._end(held)
                until = time.monotonic() + PATIENCE
            time.sleep(_LOOK)

    def _held(self, rows: list[Row]) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in rows:
            holder = self._sweep.directory.trial_lock(row.number).holder()
            if holder is not None:
                yield row.number, holder

    def _end(self, held: list[tuple[int, dict[str, Any]]]) -> None:
        """Kills workers that don't stop: they hold the lock, so that they are known to be alive and to be those."""
        for number, holder in held:
            pid, host = holder.get("pid"), holder.get("host")
            if not isinstance(pid, int) or host != socket.gethostname():
                raise SweepError(f"trial {number} is still run by process {pid} on {host}: end it there, then resume")
            self._sweep.display.say(f"killing process {pid}, which has not stopped trial {number}")
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    # --- those that don't

    def _runs(self) -> dict[int, list[RunInfo]]:
        """The runs of this sweep that could not be noted in time, by trial, the oldest first."""
        found: dict[int, list[RunInfo]] = {}
        directory = self._sweep.directory
        for run in rundir.list_runs(directory.root):
            if run.id < directory.id:  # ids sort by time
                break
            label = run.fields.get("sweep")
            if isinstance(label, dict) and label.get("id") == directory.id and isinstance(label.get("trial"), int):
                found.setdefault(label["trial"], []).insert(0, run)
        return found

    def _outcome(self, row: Row, runs: list[RunInfo]) -> Outcome | None:
        """How the last attempt went, where that is known; None where it was killed or interrupted, or has counted."""
        if row.settled >= row.attempts:
            return None
        told = read_json(self._sweep.directory.trial_result(row.number, row.attempts))
        if told:
            outcome = Outcome.from_dict(told)
            return None if outcome.status == "interrupted" else outcome
        if isinstance(self._sweep.job, PipelineJob) and runs and runs[-1].status in ("finished", "pruned"):
            return self._of_run(runs[-1])
        return None

    def _of_run(self, run: RunInfo) -> Outcome:
        """The outcome of a trial whose one run has ended, read from the run's own record."""
        metric = self._sweep.spec.metric
        pruned = run.status == "pruned"
        seconds = float(run.fields.get("seconds") or 0.0)
        if metric is None:
            return Outcome("pruned" if pruned else "finished", runs=(run.id,), seconds=seconds)
        entry = run.json(rundir.SUMMARY).get("metrics", {}).get(metric.name, {})
        best = entry.get("min" if metric.goal == "minimize" else "max")
        count, latest = int(entry.get("count", 0)) - int(entry.get("nonfinite", 0)), entry.get("last")
        if best is None and not pruned:
            why = f"the metric {metric.name!r} was never logged as a finite number"
            return Outcome("failed", runs=(run.id,), error=why, seconds=seconds)
        return Outcome("pruned" if pruned else "finished", best, count, best, latest, (run.id,), seconds=seconds)
