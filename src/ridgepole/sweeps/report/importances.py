"""How much each parameter matters, by Optuna's PED-ANOVA."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridgepole.sweeps.extras import need
from ridgepole.sweeps.objective import Goal
from ridgepole.sweeps.report.axes import Axis

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

ENOUGH = 10
"""So many finished trials it takes; with fewer, chance decides which are the best."""
_TOP, _LEAST = 0.1, 5
"""The share of trials that count as the best, and how many that are at least, which is what Optuna's page advises."""


@dataclass(frozen=True, slots=True)
class Importances:
    """How much each parameter matters.

    Attributes:
        shares: Parameters and their shares of 1, the largest first; empty where that can't be told.
        note: What the shares are, or why there are none.
    """

    shares: tuple[tuple[str, float], ...]
    note: str


def importances(axes: Sequence[Axis], values: Sequence[float | None], goal: Goal) -> Importances:
    """How much each parameter matters for a trial to be among the best.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv:2304.10255) compares how a parameter is spread over the best
    trials with how it is spread over all. It draws nothing at random.

    Args:
        axes: The parameters.
        values: The objective of each trial; None leaves the trial out.
        goal: Which values are good.

    Raises:
        MissingExtraError: If Optuna is not installed.
    """
    rows = [row for row, value in enumerate(values) if value is not None]
    if len(rows) < ENOUGH:
        return Importances((), f"It takes {ENOUGH} finished trials to tell, not {len(rows)}.")
    told = [value for value in values if value is not None]
    if min(told) == max(told):
        return Importances((), "All finished trials have the same value: no parameter makes a difference.")
    used = [axis for axis in axes if len({axis.places[row] for row in rows}) > 1]
    used = [axis for axis in used if all(axis.places[row] is not None for row in rows)]
    if not used:
        return Importances((), "No parameter has more than one value: there is nothing to compare.")
    need("optuna", "the importances of a sweep's parameters")
    top = min(1.0, max(_TOP, _LEAST / len(rows)))
    found = _evaluated(used, rows, told, goal, top)
    total = math.fsum(found.values())
    if not 0 < total < math.inf:
        return Importances((), "The best trials are spread over the parameters as all are: none stands out.")
    shares = [(axis.name, found.get(str(index), 0.0) / total) for index, axis in enumerate(used)]
    shares += [(axis.name, 0.0) for axis in axes if axis not in used]
    shares.sort(key=lambda share: -share[1])
    note = f"What decides whether a trial is among the best {top:.0%} of {len(rows)} finished ones: PED-ANOVA, Optuna."
    return Importances(tuple(shares), note)


def _evaluated(
    axes: Sequence[Axis], rows: Sequence[int], values: Sequence[float], goal: Goal, top: float
) -> dict[str, float]:
    """What Optuna says of a study of these trials, in which each parameter is called by its number."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.trial import TrialState, create_trial

    laws = {str(index): _law(axis) for index, axis in enumerate(axes)}
    trials = [
        create_trial(
            state=TrialState.COMPLETE,
            params={name: _param(axis, row) for name, axis in zip(laws, axes, strict=True)},
            distributions=laws,
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
            except TypeError:  # what it is called in Optuna 4.0
                evaluator = PedAnovaImportanceEvaluator(baseline_quantile=top)  # type: ignore[call-arg]
            return {name: float(share) for name, share in evaluator.evaluate(study).items()}
        finally:
            optuna.logging.set_verbosity(before)


def _law(axis: Axis) -> BaseDistribution:
    """A place on the axis for numbers, so that logarithmic ones need no law of their own."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if axis.kind == "choice":
        return CategoricalDistribution(range(len(axis.ticks)))
    return FloatDistribution(0.0, 1.0)


def _param(axis: Axis, row: int) -> float | int | None:
    value = axis.values[row] if axis.kind == "choice" else axis.places[row]
    return int(value) if axis.kind == "choice" and value is not None else value
