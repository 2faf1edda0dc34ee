"""The trials of a sweep, each recorded exactly once. Imported with Optuna.

The storage is the only truth. A trial is created there before it runs, and stays `RUNNING` there,
whatever happens to workers and drivers, until its outcome is known. The outcome is written as an
attribute first and told to Optuna second. If a driver is killed in between, the next one tells it.
A trial that has an outcome never gets another.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ridgepole.errors import SweepError
from ridgepole.sweeps.extras import need
from ridgepole.sweeps.spec.hyperband import Hyperband
from ridgepole.sweeps.spec.objective import imputed_value
from ridgepole.sweeps.spec.space import Space
from ridgepole.sweeps.spec.spec import SweepSpec, sampler_name
from ridgepole.sweeps.study.outcome import TrialOutcome
from ridgepole.sweeps.study.pruning import OptunaPruning, Pruning, Rungs
from ridgepole.sweeps.study.storage import StudyStorage
from ridgepole.sweeps.study.trial_record import BEGUN, OUTCOME, TrialRecord, read_records, stored_space
from ridgepole.sweeps.sweepdir import SweepDir

_SHOW_SECONDS = 1.0


class PerTrialRandomSampler(RandomSampler):
    """Independent draws, each seeded by the seed, the trial's number and the parameter's name.

    Optuna's `RandomSampler` draws from one stream. It begins again after a resume, and with it the
    trials.

    Args:
        space: The parameters, which are drawn by their own laws.
        seed: The seed; a fresh one when None.
    """

    def __init__(self, space: Space, seed: int | None = None) -> None:
        super().__init__()
        self._space = space
        self._seed = secrets.randbits(63) if seed is None else seed

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one value."""
        del study, param_distribution
        key = f"{self._seed}/{trial.number}/{param_name}"
        rng = random.Random(key)  # noqa: S311 - not a secret; Python promises that a text seeds the same everywhere
        return self._space.parameters[param_name].draw(rng)


def make_sampler(
    spec: SweepSpec,
    seed: int | None = None,
    *,
    first: int = 0,
    name: str | None = None,
    space: Space | None = None,
) -> BaseSampler:
    """Return the sampler of a sweep.

    A draw of a random sweep depends on the seed, the number of the trial and the name of the
    parameter, and on nothing else: on every executor, and after every resume, trial 17 of a seed is
    the same. A bayes sweep searches the same space with a model of Optuna's; its sequence differs
    from W&B's.

    Args:
        spec: The sweep.
        seed: The seed; the seed of the sweep's options where None, and a fresh one where the
            options have none.
        first: The number of the next trial, so that the random numbers of a model don't repeat
            after a resume.
        name: The sampler's name; `sampler_name` chooses where None.
        space: The parameters as the storage has them; those of the sweep when None.

    Raises:
        MissingExtraError: If a package that Optuna's Gaussian process needs is not installed.
    """
    if seed is None:
        seed = spec.options.seed
    if spec.method != "bayes":
        return PerTrialRandomSampler(space or spec.space, seed)
    own = None if seed is None else random.Random(f"{seed}/{first}").getrandbits(32)  # noqa: S311 - not a secret
    startup = spec.options.startup_trials
    name = name or sampler_name(spec)
    if name == "gp":
        for package in ("torch", "scipy"):
            need(package, "the sampler 'gp'")
        from optuna.samplers import GPSampler

        return GPSampler(seed=own, n_startup_trials=startup)
    if name == "nsga2":
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(seed=own)
    from optuna.samplers import TPESampler

    return TPESampler(seed=own, n_startup_trials=startup, constant_liar=True)


class TrialStore:
    """The trials of a sweep. Every method raises a SweepError if the storage can't be used.

    Args:
        directory: The sweep's directory, whose `driver.lock` this process holds.
        spec: The sweep.
        seed: The seed of random draws.
        say: Is told when the store waits for the storage.

    Attributes:
        rows: All trials that were ever begun, by number.
    """

    def __init__(
        self, directory: SweepDir, spec: SweepSpec, seed: int, say: Callable[[str], None] = lambda _line: None
    ) -> None:
        self._spec, self._say = spec, say
        self._storage = StudyStorage(directory, spec, writes=True, say=say)
        trials = self._storage.get_trials()
        self._space = stored_space(spec, trials, writes=True)
        self._distributions = self._space.distributions()
        self.rows = {row.number: row for row in read_records(self._storage, self._space, trials)}
        self._storage.study.sampler = make_sampler(spec, seed, first=len(self.rows), space=self._space)
        self._pruning = self._make_pruning()
        self._in_doubt = False
        self._enqueued: deque[TrialRecord] = deque()
        self._uncounted = sum(row.foreign or row.retried for row in self.rows.values())
        grid = spec.grid() if spec.method == "grid" else None
        self._points = grid.remaining([row.values for row in self.rows.values()]) if grid else iter(())

    def _make_pruning(self) -> Pruning | None:
        rule, metric = self._spec.early_terminate, self._spec.metric
        if rule is None or metric is None:
            return None
        if isinstance(rule, Hyperband):
            return Rungs(rule, metric, self.rows)
        return OptunaPruning(rule.create(), self._storage.study)

    # --- begin

    @property
    def count(self) -> int:
        """The number of trials that count to the limit of the sweep."""
        return len(self.rows) - self._uncounted - len(self._enqueued)

    def left_over(self) -> list[int]:
        """Return the trials that other programs have enqueued and that are still to be tried."""
        self._take_in()
        return [row.number for row in self._enqueued]

    def in_flight(self) -> list[TrialRecord]:
        """Return the trials without an outcome; tell Optuna what a killed driver had not told."""
        rows = sorted(self.rows.values(), key=lambda row: row.number)
        for row in rows:
            if row.outcome is not None and not row.reported:
                self._tell(row)
            elif row.enqueued:
                self._accept(row)
            elif row.outcome is None and not row.values:
                self._draw(row, None)
        return [row for row in rows if row.outcome is None]

    # --- trials that other programs put into the storage

    def _take_in(self) -> None:
        """Take in what other programs have put into the storage: try it, or refuse it in words."""
        if not self._storage.changed_from_outside(len(self.rows)):
            return
        trials = [trial for trial in self._storage.get_trials() if trial.number not in self.rows]
        for row in read_records(self._storage, self._space, trials):
            self.rows[row.number] = row
            if row.enqueued:
                if self._accept(row):
                    self._enqueued.append(row)
            elif row.outcome is None:
                self._refuse(row, "another program runs it; use enqueue_trial to have it tried")
            else:
                self._uncounted += row.foreign
                self._say(f"trial {row.number} was run by another program; it counts to no limit")

    def _accept(self, row: TrialRecord) -> bool:
        """Draw what an enqueued trial leaves open; return False after refusing it."""
        row.enqueued = False
        trial = self._storage.with_retry(lambda: self._storage.storage.get_trial(row.trial_id))
        for name, value in trial.system_attrs.get("fixed_params", {}).items():
            drawn = self._distributions.get(name)
            if drawn is None or not _contains(drawn, value):
                self._refuse(row, f"the sweep has no parameter {name!r} with the value {value!r}")
                return False
        set_state = self._storage.storage.set_trial_state_values
        self._storage.with_retry(lambda: set_state(row.trial_id, TrialState.RUNNING))
        self._draw(row, None)
        return True

    def _refuse(self, row: TrialRecord, reason: str) -> None:
        row.foreign = True
        self._uncounted += 1
        outcome = TrialOutcome("failed", error=f"refused: {reason}")
        self._say(f"trial {row.number}, which came from outside, is refused: {reason}")
        self._finish(row, outcome)

    # --- begin

    def create(
        self, values: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
    ) -> TrialRecord | None:
        """Create a trial.

        Args:
            values: Its parameters, where another service has chosen them; drawn by the method when
                None.
            environ: Environment variables that belong to it.

        Returns:
            The trial; None where a grid has no further point.
        """
        self._take_in()
        if values is None and self._enqueued:
            return self._enqueued.popleft()
        if values is None and self._spec.method == "grid":
            values = next(self._points, None)
            if values is None:
                return None
        given = None if values is None else dict(values)
        row, trial = self._storage.with_retry(lambda: self._create(given, dict(environ or {})))
        self.rows[row.number] = row
        if not row.values:
            self._draw(row, trial)
        return row

    def retry(self, number: int) -> TrialRecord:
        """Create a trial that runs a failed one again, from its last checkpoint.

        Raises:
            SweepError: If that trial does not exist, or has not failed.
        """
        old = self.rows.get(number)
        if old is None:
            raise SweepError(f"the sweep has no trial {number}")
        if old.retried or old.foreign or old.outcome is None or old.outcome.status != "failed":
            raise SweepError(f"trial {number} can't run again: it is {old.result(alive=False).status}, not failed")
        row, _ = self._storage.with_retry(lambda: self._create(dict(old.values), dict(old.environ)))
        row.retry_of, row.runs = number, list(old.runs)
        self._write(row, BEGUN, row.begun())
        self.rows[row.number] = row
        old.retried = True
        self._uncounted += 1
        return row

    def failed(self) -> list[int]:
        """Return the trials that have failed for good."""
        rows = [row for row in self.rows.values() if row.outcome is not None and not (row.retried or row.foreign)]
        return sorted(row.number for row in rows if row.outcome is not None and row.outcome.status == "failed")

    def _create(
        self, values: dict[str, Any] | None, environ: dict[str, str]
    ) -> tuple[TrialRecord, optuna.Trial | None]:
        """Create a trial in the storage; a trial whose parameters are known in one operation."""
        if self._in_doubt:  # the failed try before may have created the trial
            for found in read_records(self._storage, self._space, self._storage.get_trials()):
                if found.number not in self.rows and not found.enqueued and not found.foreign:
                    self._in_doubt = False
                    return found, None
        self._in_doubt = True
        row, trial = TrialRecord(number=len(self.rows), values=values or {}, environ=environ), None
        storage, study_id = self._storage.storage, self._storage.study_id
        if values is None:
            trial = self._storage.study.ask()
            row.number = trial.number
            row.trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        else:
            params = self._encoded(values)
            template = optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions={name: self._distributions[name] for name in params},
                user_attrs={BEGUN: row.begun()},
            )
            row.trial_id = storage.create_new_trial(study_id, template)
            row.number = storage.get_trial_number_from_id(row.trial_id)
        self._in_doubt = False
        return row, trial

    def _encoded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return Optuna's parameters; none for values outside the space."""
        try:
            return self._space.encode(values)
        except (KeyError, ValueError):
            return {}

    def _draw(self, row: TrialRecord, trial: optuna.Trial | None) -> None:
        """Draw the parameters; those that were drawn before a kill stay as they were."""

        def draw() -> dict[str, Any]:
            return self._space.suggest(trial or optuna.Trial(self._storage.study, row.trial_id))

        row.values = self._storage.with_retry(draw)

    def begin(self, row: TrialRecord) -> None:
        """Record that an attempt of a trial begins, before anything runs."""
        row.attempts += 1
        row.shown = time.monotonic()
        self._write(row, BEGUN, row.begun())

    # --- while it runs

    def started(self, number: int, run: str) -> None:
        """Record a run that a trial has made."""
        row = self.rows[number]
        if run not in row.runs:
            row.add_runs([run])
            self._write(row, BEGUN, row.begun())

    def report(
        self,
        number: int,
        values: Sequence[float],
        seen: int,
        *,
        judge: bool = True,
        running: Collection[TrialRecord] = (),
    ) -> list[TrialRecord]:
        """Record values of the metric.

        Args:
            number: The trial.
            values: Finite values.
            seen: The number of values before; fewer than recorded where the trial went back to a
                checkpoint.
            judge: Whether this sweep decides which trials stop early.
            running: All trials that run.

        Returns:
            The trials that must stop, by the sweep's `early_terminate`.
        """
        row = self.rows[number]
        row.latest = values[-1]
        if self._pruning is None:
            self._show(row, seen + len(values))
            return []
        self._pruning.cut(row, seen)
        stopping = {number: row} if row.pruning else {}
        for value in values:
            row.history.append(value)
            self._keep_value(row, len(row.history), value)
            for each in self._pruning.judge(row, running) if judge else ():
                if not each.pruning:
                    each.pruning = True
                    self._write(each, BEGUN, each.begun())  # so that a stop, or a kill, does not undo it
                    stopping[each.number] = each
        return list(stopping.values())

    def _show(self, row: TrialRecord, step: int) -> None:
        """Keep a running trial's last value, at most once a second, for those who look at it."""
        assert row.latest is not None
        now = time.monotonic()
        if now - row.shown >= _SHOW_SECONDS:
            row.shown = now
            self._keep_value(row, step, row.latest)

    def _keep_value(self, row: TrialRecord, step: int, value: float) -> None:
        set_value = self._storage.storage.set_trial_intermediate_value
        self._change(row, lambda: set_value(row.trial_id, step, value))

    def failed_once(self, row: TrialRecord, outcome: TrialOutcome) -> None:
        """Record an attempt that failed and is tried again."""
        row.failures += 1
        self.interrupted(row, outcome)

    def interrupted(self, row: TrialRecord, outcome: TrialOutcome) -> None:
        """Record the end of an attempt of a trial that continues later."""
        row.settled = row.attempts
        row.add_runs(outcome.runs)
        self._write(row, BEGUN, row.begun())

    # --- end

    def record(self, row: TrialRecord, outcome: TrialOutcome, *, stopped: bool = False) -> None:
        """Record how a trial ended, for good.

        Args:
            row: The trial.
            outcome: The end.
            stopped: Whether it only ended because the sweep did.
        """
        assert row.outcome is None, f"trial {row.number} has an outcome already"
        row.add_runs(outcome.runs)
        metric = self._spec.metric
        lacks_value = outcome.status == "failed" or (outcome.status == "pruned" and outcome.value is None)
        if metric is not None and lacks_value and not stopped:
            others = [each.outcome for each in self.rows.values() if each.outcome is not None]
            values = [each.value for each in others if each.status == "finished" and each.value is not None]
            row.imputed = imputed_value(metric, outcome.latest, values)
        row.stopped = stopped
        self._finish(row, outcome)

    def _finish(self, row: TrialRecord, outcome: TrialOutcome) -> None:
        more = {"imputed": row.imputed, "stopped": row.stopped, "runs": row.runs}
        self._write(row, OUTCOME, outcome.as_dict() | more | ({"foreign": True} if row.foreign else {}))
        row.outcome = replace(outcome, runs=tuple(row.runs))
        self._tell(row)
        self._storage.sync()

    def _tell(self, row: TrialRecord) -> None:
        """Tell Optuna the recorded end of a trial, unless it knows it."""
        state, values = row.optuna_state(self._spec.objectives)
        storage = self._storage.storage

        def tell() -> None:
            if not storage.get_trial(row.trial_id).state.is_finished():
                storage.set_trial_state_values(row.trial_id, state, values)

        self._storage.with_retry(tell)
        row.reported = True

    def _write(self, row: TrialRecord, name: str, value: Any) -> None:
        copied = json.loads(json.dumps(value))  # the storage keeps what it is given
        set_attribute = self._storage.storage.set_trial_user_attr
        self._change(row, lambda: set_attribute(row.trial_id, name, copied))

    def _change(self, row: TrialRecord, change: Callable[[], None]) -> None:
        """Change a trial in the storage, unless another program has told Optuna its end."""
        try:
            self._storage.with_retry(change)
        except UpdateFinishedTrialError:
            if not row.reported:
                self._say(f"another program has told Optuna the end of trial {row.number}; that is kept")
            row.reported = True

    def close(self) -> None:
        """Close the storage."""
        self._storage.close()


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a distribution has a value that another program has chosen."""
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))  # noqa: SLF001 - Optuna's own check
    except (TypeError, ValueError):
        return False
