"""What a sweep is after: the best value of one metric over a run, not its last."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Goal: TypeAlias = Literal["minimize", "maximize"]
Impute: TypeAlias = Literal["worst", "best", "latest"]


@dataclass(frozen=True, slots=True)
class Metric:
    """The metric that a sweep optimises.

    Attributes:
        name: The name under which it is logged, such as `validation/loss`.
        goal: Whether small or large values are good.
        target: Once a run's best value is as good as this, no further run is started.
        impute: What a run that failed, or never logged the metric, counts as: the `worst` or the `best` value of the
            other runs, or the `latest` value that it logged itself.
    """

    name: str
    goal: Goal = "minimize"
    target: float | None = None
    impute: Impute = "worst"

    def better(self, one: float, other: float) -> bool:
        """Whether one value is strictly better than another."""
        return one < other if self.goal == "minimize" else one > other

    def best(self, values: Iterable[float]) -> float | None:
        """The best of the finite values; None where there is none."""
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return None
        return min(finite) if self.goal == "minimize" else max(finite)

    def worst(self, values: Iterable[float]) -> float | None:
        """The worst of the finite values; None where there is none."""
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return None
        return max(finite) if self.goal == "minimize" else min(finite)

    def reached(self, value: float | None) -> bool:
        """Whether a run's best value reaches the target."""
        if value is None or self.target is None or not math.isfinite(value):
            return False
        return not self.better(self.target, value)


class Tally:
    """What one run has logged of the metric.

    A value that is not finite is skipped: it is no value to compare, and it does not move the counter of Hyperband.

    Args:
        metric: The metric.
        values: What was logged already, such as before a resume.

    Attributes:
        values: The finite values, in order.
        best: The best of them: the run's objective; None before the first.
    """

    __slots__ = ("best", "metric", "values")

    def __init__(self, metric: Metric, values: Iterable[float] = ()) -> None:
        self.metric = metric
        self.values: list[float] = []
        self.best: float | None = None
        for value in values:
            self.add(value)

    def add(self, value: float) -> bool:
        """Takes in a logged value.

        Returns:
            Whether it was finite and therefore counts.
        """
        if not math.isfinite(value):
            return False
        self.values.append(value)
        if self.best is None or self.metric.better(value, self.best):
            self.best = value
        return True

    @property
    def count(self) -> int:
        """How many finite values there are; bands of Hyperband are counted in these."""
        return len(self.values)

    @property
    def latest(self) -> float | None:
        """The last finite value; None before the first."""
        return self.values[-1] if self.values else None


def impute(metric: Metric, tally: Tally | None, others: Iterable[float]) -> float | None:
    """What a run counts as that failed, or ended without a value of the metric.

    Args:
        metric: The metric; its `impute` chooses.
        tally: What the run itself has logged, if anything.
        others: The objectives of the runs that ended well.

    Returns:
        The value. With `latest` and nothing logged, the worst of the others. None where nothing is known to take.
    """
    others = list(others)
    own = tally.latest if tally is not None else None
    if metric.impute == "latest" and own is not None:
        return own
    return metric.best(others) if metric.impute == "best" else metric.worst(others)
