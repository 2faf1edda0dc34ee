"""The data of a report, computed once for the page and the pictures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from ridgepole.sweeps.extras import need
from ridgepole.sweeps.report.axes import Axis, make_axes
from ridgepole.sweeps.report.scale import Scale, Tick, objective_scale
from ridgepole.sweeps.spec.objective import Goal, Metric
from ridgepole.sweeps.spec.space import Space
from ridgepole.sweeps.study.outcome import TrialResult

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# Nine steps of viridis (Smith and van der Walt 2015, CC0), whose lightness rises all the way.
_VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")

# Colours that stay apart for colour-blind eyes: Okabe and Ito, "Color Universal Design" (2008).
# A ramp goes from bad, or early, to good, or late.
LIGHT: Final = {
    "point": "#0072B2",
    "best": "#D55E00",
    "target": "#009E73",
    "failed": "#CC79A7",
    "ramp": _VIRIDIS[7::-1],  # without the yellow, which hardly shows on white
}
QUIET: Final = "#62626b"
"""The colour of axes and notes in the pictures."""

_ENOUGH = 10
"""The least finished trials for importances; with fewer, chance decides which are the best."""
_TOP, _LEAST = 0.1, 5
"""The share of trials that count as the best, and their least number, as Optuna's page advises."""


@dataclass(frozen=True, slots=True)
class Importances:
    """The importance of each parameter.

    Attributes:
        shares: Parameters and their shares of 1, the largest first; empty if unknown.
        note: An explanation of the shares, or of their absence.
    """

    shares: tuple[tuple[str, float], ...]
    note: str


def importances(axes: Sequence[Axis], values: Sequence[float | None], goal: Goal) -> Importances:
    """Return how much each parameter matters for a trial to be among the best.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv:2304.10255) compares the distribution of a
    parameter over the best trials with that over all. It draws nothing at random.

    Args:
        axes: The parameters.
        values: The objective of each trial; None leaves the trial out.
        goal: Which values are good.

    Raises:
        MissingExtraError: If Optuna is not installed.
    """
    rows = [row for row, value in enumerate(values) if value is not None]
    if len(rows) < _ENOUGH:
        return Importances((), f"It takes {_ENOUGH} finished trials to tell, not {len(rows)}.")
    finite = [value for value in values if value is not None]
    if min(finite) == max(finite):
        return Importances((), "All finished trials have the same value: no parameter makes a difference.")
    used = [axis for axis in axes if len({axis.places[row] for row in rows}) > 1]
    used = [axis for axis in used if all(axis.places[row] is not None for row in rows)]
    if not used:
        return Importances((), "No parameter has more than one value: there is nothing to compare.")
    need("optuna", "the importances of a sweep's parameters")
    top = min(1.0, max(_TOP, _LEAST / len(rows)))
    found = _evaluate(used, rows, finite, goal, top)
    total = math.fsum(found.values())
    if not 0 < total < math.inf:
        return Importances((), "The best trials are spread over the parameters as all are: none stands out.")
    shares = [(axis.name, found.get(str(index), 0.0) / total) for index, axis in enumerate(used)]
    shares += [(axis.name, 0.0) for axis in axes if axis not in used]
    shares.sort(key=lambda share: -share[1])
    note = f"What decides whether a trial is among the best {top:.0%} of {len(rows)} finished ones: PED-ANOVA, Optuna."
    return Importances(tuple(shares), note)


def _evaluate(
    axes: Sequence[Axis], rows: Sequence[int], values: Sequence[float], goal: Goal, top: float
) -> dict[str, float]:
    """Return Optuna's importances for these trials, with parameters named by their index."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.trial import TrialState, create_trial

    distributions = {str(index): _distribution(axis) for index, axis in enumerate(axes)}
    trials = [
        create_trial(
            state=TrialState.COMPLETE,
            params={name: _param(axis, row) for name, axis in zip(distributions, axes, strict=True)},
            distributions=distributions,
            value=value,
        )
        for row, value in zip(rows, values, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator was experimental once
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            study = optuna.create_study(direction=goal)
            study.add_trials(trials)
            try:
                evaluator = PedAnovaImportanceEvaluator(target_quantile=top)
            except TypeError:  # its name in Optuna 4.0
                evaluator = PedAnovaImportanceEvaluator(baseline_quantile=top)  # type: ignore[call-arg]
            return {name: float(share) for name, share in evaluator.evaluate(study).items()}
        finally:
            optuna.logging.set_verbosity(before)


def _distribution(axis: Axis) -> BaseDistribution:
    """Return the distribution of positions on an axis, whether it is logarithmic or not."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if axis.kind == "choice":
        return CategoricalDistribution(range(len(axis.ticks)))
    return FloatDistribution(0.0, 1.0)


def _param(axis: Axis, row: int) -> float | int | None:
    value = axis.values[row] if axis.kind == "choice" else axis.places[row]
    return int(value) if axis.kind == "choice" and value is not None else value


@dataclass(frozen=True, kw_only=True)
class View:
    """The data of a report: the fields as given, the properties computed once."""

    id: str
    title: str  # the sweep's name, or its id
    status: str
    reason: str  # why it stopped
    limit: int  # the number of trials in all
    counts: Mapping[str, int]  # of trials by status
    metric: Metric
    trials: Sequence[TrialResult]  # by number
    space: Space | None  # the search space if known; else each parameter that varies is shown
    best_trial: int | None  # its number
    metrics: Sequence[Metric] = ()  # of a search for trade-offs; the first is `metric`
    front: Sequence[int] = ()  # the numbers of the trials that no other one beats in all of them
    command: str = field(repr=False)  # reproduces the best trial: a command, or parameters as JSON

    @cached_property
    def values(self) -> tuple[float | None, ...]:
        """For each trial, its finite objective, or None."""
        return tuple(None if trial.status == "failed" else _finite(trial.value) for trial in self.trials)

    @cached_property
    def best(self) -> tuple[float | None, ...]:
        """For each trial, the best objective of the finished trials up to it, or None."""
        return tuple(_best_so_far(self._finished, self.metric))

    @cached_property
    def scale(self) -> Scale:
        """The axis of the objective."""
        values = [value for value in self.values if value is not None]
        return objective_scale(values, self.metric.goal, self.metric.target)

    def values_of(self, metric: Metric) -> list[float | None]:
        """Return the finite values of one of several metrics, for each trial."""
        return [_finite(trial.values.get(metric.name)) for trial in self.trials]

    @property
    def axes(self) -> list[Axis]:
        """The axes of the parameters that are searched."""
        return self._parameters[0]

    @property
    def constants(self) -> dict[str, str]:
        """The other parameters, as texts."""
        return self._parameters[1]

    @cached_property
    def importances(self) -> Importances:
        """The importance of each parameter."""
        return importances(self.axes, self._finished, self.metric.goal)

    @property
    def ticks(self) -> list[Tick]:
        """The ticks of the objective's axis; none if no trial has a value."""
        return self.scale.ticks() if any(value is not None for value in self.values) else []

    def place(self, value: float | None) -> float | None:
        """Return the position of an objective on its axis, from 0 to 1."""
        return None if value is None else self.scale.place(value)

    def is_beyond(self, value: float | None) -> bool:
        """Return whether an objective is beyond the end of its axis, where it is drawn."""
        return value is not None and not self.scale.low <= value <= self.scale.high

    @cached_property
    def _finished(self) -> list[float | None]:
        pairs = zip(self.trials, self.values, strict=True)
        return [value if trial.status == "finished" else None for trial, value in pairs]

    @cached_property
    def _parameters(self) -> tuple[list[Axis], dict[str, str]]:
        return make_axes([trial.params for trial in self.trials], self.space)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _best_so_far(values: Sequence[float | None], metric: Metric) -> list[float | None]:
    best: float | None = None
    found = []
    for value in values:
        if value is not None and (best is None or metric.better(value, best)):
            best = value
        found.append(best)
    return found
