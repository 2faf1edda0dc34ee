"""The objective of a sweep: the best value of one metric over a run, not its last."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
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
        impute: The value of a run that failed, or never logged the metric: the `worst` or the
            `best` value of the other runs, or the `latest` value that it logged itself.
    """

    name: str
    goal: Goal = "minimize"
    _: KW_ONLY
    target: float | None = None
    impute: Impute = "worst"

    @property
    def sign(self) -> int:
        """The factor that makes small values good: 1, or -1 where large ones are."""
        return 1 if self.goal == "minimize" else -1

    def better(self, one: float, other: float) -> bool:
        """Return whether one value is strictly better than another."""
        return one < other if self.goal == "minimize" else one > other

    def best(self, values: Iterable[float]) -> float | None:
        """Return the best of the finite values; None where no value is finite."""
        return (min if self.goal == "minimize" else max)(filter(math.isfinite, values), default=None)

    def worst(self, values: Iterable[float]) -> float | None:
        """Return the worst of the finite values; None where no value is finite."""
        return (max if self.goal == "minimize" else min)(filter(math.isfinite, values), default=None)

    def reached(self, value: float | None) -> bool:
        """Return whether a run's best value reaches the target."""
        if value is None or self.target is None or not math.isfinite(value):
            return False
        return not self.better(self.target, value)


def imputed_value(metric: Metric, latest: float | None, others: Iterable[float]) -> float | None:
    """Return the value that a run counts as if it failed, or ended without a value of the metric.

    Args:
        metric: The metric; its `impute` chooses.
        latest: The last finite value that the run itself has logged, if any.
        others: The objectives of the runs that ended well.

    Returns:
        The value. With `latest` and nothing logged, the worst of the others. None where no value is
        known.
    """
    if metric.impute == "latest" and latest is not None:
        return latest
    return metric.best(others) if metric.impute == "best" else metric.worst(others)
