"""The trials of a sweep as the storage keeps them. Imported with Optuna."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import FrozenTrial, TrialState

from ridgepole.errors import SweepError
from ridgepole.sweeps.spec.objective import Metric
from ridgepole.sweeps.spec.parameter_types import (
    Choice,
    FiniteParameter,
    FloatRange,
    Json,
    Parameter,
    Quantile,
    WeightedChoice,
)
from ridgepole.sweeps.spec.space import Space
from ridgepole.sweeps.spec.spec import SweepSpec
from ridgepole.sweeps.study.outcome import Ending, TrialOutcome, TrialResult
from ridgepole.sweeps.study.storage import StudyStorage
from ridgepole.sweeps.sweepdir import SweepDir

BEGUN, OUTCOME = "ridgepole", "outcome"
"""Names of a trial's attributes in the storage: its parameters and attempts, and its end."""
_RARE = ("environ", "settled", "pruning")
_BEGUN_FIELDS = ("values", "attempts", "failures", "runs", *_RARE)
_MANY_CHOICES = 200
_DRAWN_HERE = (FloatRange, Quantile, WeightedChoice)
"""Parameters that an older random sweep stored as a model still needs them."""


@dataclass(slots=True, kw_only=True)
class TrialRecord:
    """A trial, as the driver knows it.

    Attributes:
        number: Its number.
        trial_id: The storage's number of it.
        values: Its parameters; empty until all are drawn.
        attempts: The number of times it was begun.
        failures: The number of these attempts that failed by themselves, which retries count.
        settled: The last attempt whose end is recorded, and must not count again.
        pruning: Whether the sweep has decided to stop it early.
        runs: Ids of its runs.
        environ: Environment variables that belong to it.
        history: Finite values of the metric, where pruning needs them.
        latest: The last of them.
        outcome: How it ended for good; None while it is in flight.
        imputed: The value that Optuna was told in place of a missing one.
        stopped: Whether it ended only because the sweep did.
        reported: Whether Optuna knows its end.
        enqueued: Whether another program has put it into the storage, and it was not begun yet.
        foreign: Whether another program has run it, or it was refused: it counts to no limit.
        shown: The time when its last value was stored for others to see.
        retry_of: The number of the failed trial that it runs again.
        retried: Whether another trial runs it again.
        stuck: The number of times in a row that it was preempted soon after its start.
    """

    number: int
    trial_id: int = -1
    values: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0
    failures: int = 0
    settled: int = 0
    pruning: bool = False
    runs: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    history: list[float] = field(default_factory=list)
    latest: float | None = None
    outcome: TrialOutcome | None = None
    imputed: float | None = None
    stopped: bool = False
    reported: bool = False
    enqueued: bool = False
    foreign: bool = False
    shown: float = 0.0
    retry_of: int | None = None
    retried: bool = False
    stuck: int = 0

    def begun(self) -> dict[str, Any]:
        """Return the attribute that the storage keeps before the trial has ended."""
        retry = {} if self.retry_of is None else {"retry_of": self.retry_of}
        return retry | {name: getattr(self, name) for name in _BEGUN_FIELDS if getattr(self, name) or name not in _RARE}

    def add_runs(self, runs: Sequence[str]) -> None:
        """Add runs of the trial, each once."""
        self.runs += [run for run in runs if run not in self.runs]

    def optuna_state(self, metrics: Sequence[Metric]) -> tuple[TrialState, list[float] | None]:
        """Return the state and the values that Optuna is told of a trial that has ended."""
        outcome = self.outcome
        assert outcome is not None
        value = self.imputed if outcome.value is None or outcome.status == "failed" else outcome.value
        values = None if value is None else [value]
        if len(metrics) > 1 and outcome.status == "finished":
            values = [outcome.values[metric.name] for metric in metrics]
        if self.stopped:
            return TrialState.FAIL, None
        if outcome.status == "pruned":
            return TrialState.PRUNED, values
        if values is None and (metrics or outcome.status == "failed"):
            return TrialState.FAIL, None
        return TrialState.COMPLETE, values

    def result(self, *, alive: bool) -> TrialResult:
        """Return the trial for users.

        Args:
            alive: Whether a driver is at work.
        """
        ended = self.outcome or TrialOutcome("interrupted", latest=self.latest)
        status = ("running" if alive and not self.enqueued else "waiting") if self.outcome is None else ended.status
        return TrialResult(
            number=self.number,
            status="retried" if self.retried else "stopped" if self.stopped else status,
            value=ended.value,
            params=dict(self.values),
            run=self.runs[-1] if self.runs else None,
            runs=tuple(self.runs),
            attempts=self.attempts,
            error=ended.error,
            values=dict(ended.values),
            imputed=self.imputed,
            latest=ended.latest,
            seconds=None if self.outcome is None else ended.seconds,
        )


@dataclass(frozen=True, slots=True)
class _ByNumber(Parameter):
    """A parameter of which Optuna stores the number of the value in place of the value.

    Ridgepole stored all choices, multiples and grids so until it stored the values. Sweeps that
    began so continue so. A grid over a long list still does, as Optuna keeps the whole list with
    each trial.
    """

    parameter: FiniteParameter
    drawn: BaseDistribution

    @property
    def _first(self) -> int:
        return self.drawn.low if isinstance(self.drawn, IntDistribution) else 0

    def optuna_distribution(self) -> BaseDistribution:
        """Return the numbers."""
        return self.drawn

    def decode(self, stored: Any) -> Json:
        """Return the value with a number."""
        return self.parameter.at(int(stored) - self._first)

    def encode(self, value: Json) -> int:
        """Return the number of a value."""
        return self.parameter.position(value) + self._first


def stored_space(spec: SweepSpec, trials: Sequence[FrozenTrial], *, writes: bool) -> Space:
    """Return the space of a sweep as its storage has it.

    Args:
        spec: The sweep.
        trials: The trials of the storage.
        writes: Whether new trials are to be stored.

    Raises:
        SweepError: If new trials can't be stored beside the others, because an unknown version
            began the sweep.
    """
    stored: dict[str, BaseDistribution] = {}
    for trial in trials:
        stored = trial.distributions | stored
    parameters: list[Parameter] = []
    for name, each in spec.space.parameters.items():
        drawn = stored.get(name)
        if drawn is None and spec.method == "grid" and isinstance(each, Choice) and each.size > _MANY_CHOICES:
            drawn = IntDistribution(0, each.size - 1)
        if drawn is None or _is_same(drawn, each) or _is_narrower(each.optuna_distribution(), drawn):
            parameters.append(each)
        elif isinstance(each, _DRAWN_HERE) and _is_same(drawn, transformed := replace(each, as_is=False)):
            parameters.append(transformed)
        elif isinstance(each, FiniteParameter) and _size(drawn) == each.size:
            parameters.append(_ByNumber(name, each, drawn))
        elif writes:
            message = f"the sweep's storage has another distribution of the parameter {name!r}: {drawn}"
            raise SweepError(f"{message}; resume the sweep with the version of Ridgepole that began it")
        else:
            parameters.append(each)
    return spec.space.with_parameters(parameters)


def _is_same(drawn: BaseDistribution, parameter: Parameter) -> bool:
    return distribution_to_json(drawn) == distribution_to_json(parameter.optuna_distribution())


def _is_narrower(new: BaseDistribution, old: BaseDistribution) -> bool:
    """Return whether a range lies within a stored one, as after `sweep edit`. Optuna takes both."""
    kinds = (IntDistribution, FloatDistribution)
    if type(new) is not type(old) or not isinstance(new, kinds) or not isinstance(old, kinds):
        return False
    return (new.log, new.step) == (old.log, old.step) and old.low <= new.low and new.high <= old.high


def _size(drawn: BaseDistribution) -> int | None:
    if isinstance(drawn, CategoricalDistribution):
        return len(drawn.choices)
    return drawn.high - drawn.low + 1 if isinstance(drawn, IntDistribution) else None


def read_records(storage: StudyStorage, space: Space, trials: Sequence[FrozenTrial]) -> list[TrialRecord]:
    """Return the records of all trials of a storage."""
    find = partial(storage.storage.get_trial_id_from_study_id_trial_number, storage.study_id)
    records = [
        _record(trial, storage.with_retry(partial(find, trial.number)), space, storage.metrics) for trial in trials
    ]
    retried = {record.retry_of for record in records} - {None}
    for record in records:
        record.retried = record.number in retried
    return records


def _record(trial: FrozenTrial, trial_id: int, space: Space, metrics: Sequence[Metric]) -> TrialRecord:
    begun, ended = trial.user_attrs.get(BEGUN, {}), trial.user_attrs.get(OUTCOME)
    history = [value for _, value in sorted(trial.intermediate_values.items())]
    record = TrialRecord(
        number=trial.number,
        trial_id=trial_id,
        history=history,
        latest=history[-1] if history else None,
        reported=trial.state.is_finished(),
        enqueued=trial.state is TrialState.WAITING,
        **{name: copy.deepcopy(begun[name]) for name in (*_BEGUN_FIELDS, "retry_of") if name in begun},
    )
    if not record.values:
        with contextlib.suppress(KeyError, ValueError):  # not all are drawn yet, or another program has chosen them
            record.values = space.decode(trial.params)
    if ended is not None:
        record.outcome = outcome = TrialOutcome.from_dict(ended)
        record.imputed, record.stopped = ended.get("imputed"), bool(ended.get("stopped"))
        record.runs = list(ended.get("runs", record.runs))
        record.foreign = bool(ended.get("foreign"))
        del history[outcome.count :]  # an attempt before had logged more values
    elif trial.state.is_finished():  # another program has told Optuna its end
        record.foreign = not begun
        record.outcome = _told_outcome(trial, record.latest, metrics)
    return record


def _told_outcome(trial: FrozenTrial, latest: float | None, metrics: Sequence[Metric]) -> TrialOutcome:
    """Return the outcome of a trial whose end another program has told Optuna."""
    values = trial.values or [None]
    if trial.state is TrialState.FAIL:
        return TrialOutcome("failed", latest=latest, error="another program has told Optuna that it failed")
    status: Ending = "pruned" if trial.state is TrialState.PRUNED else "finished"
    count = len(trial.intermediate_values)
    if len(metrics) > 1:
        names = [metric.name for metric in metrics]
        return TrialOutcome(
            status, values=dict(zip(names, trial.values or (), strict=False)), count=count, latest=latest
        )
    return TrialOutcome(status, values[0], count=count, latest=latest)


def read_trials(directory: SweepDir, spec: SweepSpec, *, alive: bool) -> list[TrialResult]:
    """Return the trials of a sweep, without changing anything.

    Args:
        directory: The sweep's directory.
        spec: The sweep.
        alive: Whether a driver is at work on it.

    Raises:
        SweepError: If the storage can't be read.
    """
    if spec.options.storage is None and not directory.journal.exists():
        return []
    try:
        storage = StudyStorage(directory, spec, writes=False)
    except KeyError:  # killed before it had a study
        return []
    try:
        trials = storage.get_trials()
        space = stored_space(spec, trials, writes=False)
        return [record.result(alive=alive) for record in read_records(storage, space, trials)]
    finally:
        storage.close()
