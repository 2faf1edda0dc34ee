"""Hyperband as W&B's sweeps have it: a run is stopped at a band when it is not among the best 1/eta of all runs there.

What is known of W&B's rule is on its page "Sweep configuration options"
(https://docs.wandb.ai/models/sweeps/sweep-config-keys): iterations are the values logged of the metric, whatever their
steps; at a bracket (here: a band) a run's metric is compared with what other runs reported; `eta` is 3 and `strict`
off unless given; strict prunes more, closer to the paper (https://arxiv.org/abs/1603.06560). The page leaves open what
exactly is compared and what strict changes. Here, each run is represented at a band by the best of its first values
up to the band, as the objective is the best value, too. A run is judged once, as it reaches the band, by the runs
that have been there by then; with `strict` it is judged with each value again, at every band that it has passed, so
that a run that was early and lucky gives way to better ones that come later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridgepole.sweeps.objective import Metric

if TYPE_CHECKING:
    import optuna

    from ridgepole.sweeps.spec import SweepSpec

_TINY = 1e-9  # a band of 3.0000000000000004 or 2.9999999999999996 is 3


@dataclass(frozen=True, slots=True)
class Hyperband:
    """The `early_terminate` table: either `min_iter`, or `max_iter` and `s`.

    Attributes:
        min_iter: The first band; the next ones are at `min_iter * eta**i`, without end.
        max_iter: How many values a run logs at most; the bands are at `max_iter / eta**i` for i = 1 .. `s`.
        s: How many bands there are below `max_iter`.
        eta: The best 1/eta of all runs go on; above 1.
        strict: Whether a run is judged again with each value, at every band that it has passed.
    """

    min_iter: int | None = None
    max_iter: int | None = None
    s: int | None = None
    eta: float = 3.0
    strict: bool = False

    def bands(self, upto: int) -> list[int]:
        """The bands up to a count of values, ascending; those between two counts lie at the lower one."""
        found: set[int] = set()
        if self.min_iter is not None:
            band = float(self.min_iter)
            while band <= upto + _TINY:
                found.add(math.floor(band + _TINY))
                band *= self.eta
        elif self.max_iter is not None:
            for power in range(1, (self.s or 0) + 1):
                band = self.max_iter / self.eta**power
                if band < 1 - _TINY:
                    break
                found.add(math.floor(band + _TINY))
        return sorted(band for band in found if 1 <= band <= upto)


def should_stop(
    rule: Hyperband,
    metric: Metric,
    history: Sequence[float],
    others: Sequence[Sequence[float]],
    judged: int | None = None,
) -> bool:
    """Whether a run is to stop now.

    Args:
        rule: The bands and how many go on.
        metric: Which values are good.
        history: The finite values that the run has logged, in order.
        others: The same of all other runs, whether they still run, have ended, failed or were stopped.
        judged: How many values the run had when it was judged last; bands up to there are not judged again, unless
            strictly. None: judged with each value.

    Returns:
        Whether at one of the bands at least `max(1, floor(n / eta))` of the n runs that have reached it were strictly
        better. A tie keeps a run, and so does being the first there.
    """
    count = len(history)
    bands = rule.bands(count)
    if not rule.strict:
        bands = [band for band in bands if band > (count - 1 if judged is None else judged)]
    return any(_loses(rule, metric, band, history, others) for band in bands)


def _loses(
    rule: Hyperband, metric: Metric, band: int, history: Sequence[float], others: Sequence[Sequence[float]]
) -> bool:
    own = metric.best(history[:band])
    rivals = [metric.best(other[:band]) for other in others if len(other) >= band]
    return own is not None and outranked(rule, metric, own, [rival for rival in rivals if rival is not None])


def outranked(rule: Hyperband, metric: Metric, own: float, rivals: Sequence[float]) -> bool:
    """Whether a run's value at a band is not among the best 1/eta of it and its rivals there."""
    places = max(1, math.floor((len(rivals) + 1) / rule.eta + _TINY))
    return sum(metric.better(rival, own) for rival in rivals) >= places


def make_pruner(spec: SweepSpec) -> optuna.pruners.BasePruner:
    """The pruner of a sweep; one that never prunes without `early_terminate`.

    It reads the trials' intermediate values, which are to be reported with the count of finite values as their step:
    1, 2, 3, …

    Raises:
        MissingExtraError: If Optuna is not installed.
    """
    from ridgepole.sweeps.extras import need

    need("optuna", "a sweep")
    from optuna.pruners import NopPruner

    if spec.early_terminate is None or spec.metric is None:
        return NopPruner()
    from ridgepole.sweeps.optunapruner import HyperbandPruner

    return HyperbandPruner(spec.early_terminate, spec.metric)
