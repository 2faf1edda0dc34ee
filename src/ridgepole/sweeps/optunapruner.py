"""`pruner.should_stop` as a pruner of Optuna. Imported only where Optuna is needed."""

from __future__ import annotations

import math

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from ridgepole.sweeps.objective import Metric
from ridgepole.sweeps.pruner import Hyperband, outranked


class HyperbandPruner(BasePruner):
    """Hyperband as W&B's sweeps have it, not Optuna's, which makes a study of each bracket.

    Bands that came by since a trial was asked about last are judged together, so that no report needs a question of
    its own. A trial's best value up to a band never changes, and is remembered.

    Args:
        rule: The bands and how many go on.
        metric: Which values are good.
    """

    def __init__(self, rule: Hyperband, metric: Metric) -> None:
        self._rule = rule
        self._metric = metric
        self._judged: dict[int, int] = {}
        self._best: dict[tuple[int, int], float] = {}

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether a trial is to stop, by the values that it and all others have reported."""
        count = _count(trial)
        bands = self._rule.bands(count)
        if not self._rule.strict:
            bands = [band for band in bands if band > self._judged.get(trial.number, 0)]
        self._judged[trial.number] = count
        if not bands:
            return False
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        counted = [(other, _count(other)) for other in others]
        for band in bands:
            rivals = [self._at(other, band) for other, reached in counted if reached >= band]
            if outranked(self._rule, self._metric, self._at(trial, band), rivals):
                return True
        return False

    def _at(self, trial: FrozenTrial, band: int) -> float:
        key = (trial.number, band)
        if key not in self._best:
            ordered = sorted((step, value) for step, value in trial.intermediate_values.items() if math.isfinite(value))
            best = self._metric.best(value for _, value in ordered[:band])
            assert best is not None, "a trial that has reached a band has a finite value"
            self._best[key] = best
        return self._best[key]


def _count(trial: FrozenTrial) -> int:
    return sum(map(math.isfinite, trial.intermediate_values.values()))
