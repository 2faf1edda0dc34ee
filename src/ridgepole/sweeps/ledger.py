"""The trials of a sweep, each recorded exactly once. Imported only where Optuna is needed.

The storage is the only truth. A trial is created there before it runs, and stays `RUNNING` there, whatever happens to
workers and drivers, until its outcome is known. The outcome is written as an attribute first and told to Optuna second:
a driver that is killed in between tells it when it goes on, and a trial that has an outcome never gets another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import TrialState

from ridgepole.sweeps.bands import Bands
from ridgepole.sweeps.kinds import Axis
from ridgepole.sweeps.objective import Tally, impute
from ridgepole.sweeps.outcome import Outcome
from ridgepole.sweeps.rows import BEGUN, OUTCOME, Row, rows_of, state_of
from ridgepole.sweeps.samplers import make_sampler
from ridgepole.sweeps.spec import SweepSpec
from ridgepole.sweeps.storage import Store
from ridgepole.sweeps.sweepdir import SweepDir


class Ledger:
    """The trials of a sweep.

    Args:
        directory: The sweep's directory, whose `driver.lock` this process holds.
        spec: The sweep.
        seed: Of the random draws.
        say: Is told when the storage has to be waited for.

    Attributes:
        rows: All trials that were ever begun, by number.

    Raises:
        SweepError: If the storage can't be used.
    """

    def __init__(
        self, directory: SweepDir, spec: SweepSpec, seed: int, say: Callable[[str], None] = lambda _line: None
    ) -> None:
        self._spec = spec
        self._store = Store(directory, spec, writes=True, say=say)
        # In a grid by position, since Optuna keeps all of a choice's values with each trial.
        self._axes = {name: each for name, each in spec.space.parameters.items() if isinstance(each, Axis)}
        self._distributions = _positions(self._axes) if spec.method == "grid" else spec.space.distributions()
        self.rows: dict[int, Row] = {row.number: row for row in rows_of(self._store, spec)}
        self._bands: Bands | None = None
        if spec.early_terminate is not None and spec.metric is not None:
            self._bands = Bands(spec.early_terminate, spec.metric, self.rows)
        self._store.study.sampler = make_sampler(spec, seed, first=len(self.rows))
        self._in_doubt = False
        grid = spec.grid() if spec.method == "grid" else None
        self._points = grid.remaining([row.values for row in self.rows.values()]) if grid else iter(())

    # --- begin

    def in_flight(self) -> list[Row]:
        """Trials that have begun and have no outcome; what a killed driver had not told Optuna is told first."""
        rows = sorted(self.rows.values(), key=lambda row: row.number)
        for row in rows:
            if row.outcome is not None and not row.told:
                self._tell(row)
            elif row.outcome is None and not row.values:
                self._draw(row, None)
        return [row for row in rows if row.outcome is None]

    def create(self, values: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Row | None:
        """Begins a new trial.

        Args:
            values: Its parameters, where somebody else has chosen them; drawn by the method when None.
            environ: Environment variables that belong to it.

        Returns:
            The trial; None where a grid has no further point.

        Raises:
            SweepError: If the storage can't be used.
        """
        if values is None and self._spec.method == "grid":
            values = next(self._points, None)
            if values is None:
                return None
        given = None if values is None else dict(values)
        row, trial = self._store.patiently(lambda: self._begin(given, dict(environ or {})))
        self.rows[row.number] = row
        if not row.values:
            self._draw(row, trial)
        return row

    def _begin(self, values: dict[str, Any] | None, environ: dict[str, str]) -> tuple[Row, optuna.Trial | None]:
        """Creates a trial in the storage; one whose parameters are known in one operation."""
        if self._in_doubt:  # a try before this one failed, and may have gone through all the same
            for row in rows_of(self._store, self._spec):
                if row.number not in self.rows:
                    self._in_doubt = False
                    return row, None
        self._in_doubt = True
        row, trial = Row(len(self.rows), -1, values or {}, environ=environ), None
        storage, study_id = self._store.storage, self._store.study_id
        if values is None:
            trial = self._store.study.ask()
            row.number = trial.number
            row.trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        else:
            params = self._encoded(values)
            template = optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions=self._distributions if params else {},
                user_attrs={BEGUN: row.begun()},
            )
            row.trial_id = storage.create_new_trial(study_id, template)
        self._in_doubt = False
        return row, trial

    def _encoded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What Optuna stores; nothing where somebody else's choice is none of the space. The values are kept anyway."""
        try:
            if self._spec.method != "grid":
                return self._spec.space.encode(values)
            return {name: axis.place(values[name]) for name, axis in self._axes.items()}
        except (KeyError, ValueError):
            return {}

    def _draw(self, row: Row, trial: optuna.Trial | None) -> None:
        """Draws the parameters; those that were drawn before a kill stay as they were."""

        def draw() -> dict[str, Any]:
            return self._spec.space.suggest(trial or optuna.Trial(self._store.study, row.trial_id))

        row.values = self._store.patiently(draw)

    def begin(self, row: Row) -> None:
        """Notes that an attempt of a trial begins; it is on the disk before anything runs.

        Raises:
            SweepError: If the storage can't be used.
        """
        row.attempts += 1
        self._note(row, BEGUN, row.begun())

    # --- while it runs

    def started(self, number: int, run: str) -> None:
        """Notes a run that a trial has made."""
        row = self.rows[number]
        if run not in row.runs:
            row.runs.append(run)
            self._note(row, BEGUN, row.begun())

    def report(self, number: int, values: Sequence[float], seen: int) -> bool:
        """Takes in values of the metric.

        Args:
            number: The trial.
            values: Finite values.
            seen: How many there were before; fewer than before where the trial went back to a checkpoint.

        Returns:
            Whether the trial is to stop, by the sweep's `early_terminate`.
        """
        row = self.rows[number]
        row.latest = values[-1]
        if self._bands is None:
            return False
        self._bands.cut(row, seen)
        for value in values:
            row.history.append(value)
            self._keep(row, len(row.history), value)
        if not row.pruning and self._bands.judge(row, seen):
            row.pruning = True
            self._note(row, BEGUN, row.begun())  # so that a stop, or a kill, does not undo it
        return row.pruning

    def failed_once(self, row: Row, outcome: Outcome) -> None:
        """Notes an attempt that failed and is tried again."""
        row.failures += 1
        row.settled = row.attempts
        row.runs += [run for run in outcome.runs if run not in row.runs]
        self._note(row, BEGUN, row.begun())

    def interrupted(self, row: Row, outcome: Outcome) -> None:
        """Notes that a trial was stopped and is left to a resume."""
        row.settled = row.attempts
        row.runs += [run for run in outcome.runs if run not in row.runs]
        self._note(row, BEGUN, row.begun())

    # --- end

    def record(self, row: Row, outcome: Outcome, *, stopped: bool = False) -> None:
        """Records how a trial ended, for good.

        Args:
            row: The trial.
            outcome: How.
            stopped: Whether it only ended because the sweep did.

        Raises:
            SweepError: If the storage can't be used.
        """
        assert row.outcome is None, f"trial {row.number} has an outcome already"
        row.runs += [run for run in outcome.runs if run not in row.runs]
        lacks = outcome.value is None and self._spec.metric is not None
        if not stopped and (outcome.status == "failed" or (outcome.status == "pruned" and lacks)):
            row.imputed = self._imputed(row, outcome)
        told = outcome.as_dict() | {"imputed": row.imputed, "stopped": stopped, "runs": row.runs}
        self._note(row, OUTCOME, told)
        row.outcome, row.stopped = replace(outcome, runs=tuple(row.runs)), stopped
        self._tell(row)
        self._store.sync()

    def _imputed(self, row: Row, outcome: Outcome) -> float | None:
        metric = self._spec.metric
        if metric is None:
            return None
        own = Tally(metric, [] if outcome.latest is None else [outcome.latest])
        others = [other.outcome for other in self.rows.values() if other is not row and other.outcome is not None]
        return impute(
            metric, own, [each.value for each in others if each.status == "finished" and each.value is not None]
        )

    def _tell(self, row: Row) -> None:
        """Tells Optuna what is recorded, unless it knows."""
        assert row.outcome is not None
        state, value = state_of(row, needs_value=self._spec.metric is not None)

        def tell() -> None:
            if not self._store.storage.get_trial(row.trial_id).state.is_finished():
                self._store.storage.set_trial_state_values(row.trial_id, state, None if value is None else [value])

        self._store.patiently(tell)
        row.told = True

    def _note(self, row: Row, name: str, value: Any) -> None:
        plain = json.loads(json.dumps(value))  # a copy, as the storage keeps what it is given
        self._store.patiently(lambda: self._store.storage.set_trial_user_attr(row.trial_id, name, plain))

    def _keep(self, row: Row, step: int, value: float) -> None:
        self._store.patiently(lambda: self._store.storage.set_trial_intermediate_value(row.trial_id, step, value))

    def close(self) -> None:
        """Closes the storage."""
        self._store.close()


def _positions(axes: Mapping[str, Axis]) -> dict[str, BaseDistribution]:
    return {name: IntDistribution(0, axis.size - 1) for name, axis in axes.items()}
