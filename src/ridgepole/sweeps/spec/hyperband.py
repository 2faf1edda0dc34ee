"""Hyperband as W&B's own public controller decides it.

The source is `hyperband_stop_runs` of the package `sweeps` (https://github.com/wandb/sweeps), which
the tests use as an oracle. Iterations are the finite logged values of the metric, whatever their
steps. At a band, the values of all runs there are sorted; the value at the place int(n / eta) is
the threshold. A run is judged at the last band that it has reached, with the threshold of this
moment: it stops if its best value so far is worse, or with `strict`, if its value at the band is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from ridgepole.sweeps.spec.checker import Range
from ridgepole.sweeps.spec.objective import Metric

_MOST_BANDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperband:
    """The `early_terminate` table: either `min_iter`, or `max_iter` and `s`.

    Attributes:
        min_iter: The first band; the next ones are at `min_iter * eta**i`, 100 in all.
        max_iter: The most values that a run logs; the bands are at `max_iter / eta**i` for i = 1 ..
            `s`. With `s` it wins over `min_iter`.
        s: The number of bands below `max_iter`.
        eta: About the best 1/eta of all runs continue.
        strict: Whether a run's value at the band counts, instead of its best value so far.
    """

    min_iter: Annotated[int, Range(1)] | None = None
    max_iter: Annotated[int, Range(1)] | None = None
    s: Annotated[int, Range(1)] | None = None
    eta: Annotated[float, Range(above=1)] = 3.0
    strict: bool = True

    def bands(self, upto: int) -> list[int]:
        """Return the bands up to a count of values, ascending, rounded down to counts."""
        found: list[int] = []
        if self.max_iter is not None and self.s is not None:
            band = float(self.max_iter)
            for _ in range(self.s):
                band /= self.eta
                if band < 1:
                    break
                found.append(int(band))
        elif self.min_iter is not None:
            band = float(self.min_iter)
            while band < upto + 1 and len(found) < _MOST_BANDS:
                found.append(int(band))
                band *= self.eta
        return sorted(band for band in found if band <= upto)

    def place(self, count: int) -> int:
        """Return the place of the threshold among the sorted values of a number of runs."""
        return min(int(1.0 / self.eta * count), count - 1)


def should_stop(rule: Hyperband, metric: Metric, history: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Return whether a run must stop now.

    Args:
        rule: The bands and the share of runs that continue.
        metric: Which values are good.
        history: The finite values that the run has logged, in order.
        others: The finite values of all other runs, whether they still run, have ended, failed or
            were stopped.
    """
    bands = rule.bands(len(history))
    if not bands:
        return False
    band, sign = bands[-1], metric.sign
    at_band = sorted(sign * each[band - 1] for each in (history, *others) if len(each) >= band)
    own = sign * history[band - 1] if rule.strict else min(sign * value for value in history)
    return own > at_band[rule.place(len(at_band))]
