"""One metric value with what is known about it, and the patterns that make such records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

StepPolicy = Literal["advance", "reuse_last"]
"""`"advance"` takes the current step and moves it on; `"reuse_last"` stays at the step of the latest advancing call."""

STEP_POLICIES = frozenset(("advance", "reuse_last"))


@dataclass(frozen=True, slots=True)
class MetricRecord:
    """A value of a metric, as `log_metrics` takes it.

    Attributes:
        name: Name of the metric, such as `"validation/loss"`.
        value: A number, a 0-d array or tensor, a string, a bool, a small sequence, or a nested mapping of these.
        pattern: Name of the pattern that made the record, such as `"validation_loss"`.
        stage: What the run was doing: `"train"`, `"validation"`, `"test"`, or a word of your own.
        split: The part of the data that was measured.
        step: An explicit step; None lets the logger give one by the step policy.
        step_policy: What the record does to the logger's step where no explicit step is given.
    """

    name: str
    value: Any
    pattern: str | None = None
    stage: str | None = None
    split: str | None = None
    step: int | None = None
    step_policy: StepPolicy = "advance"


@dataclass(frozen=True, slots=True)
class MetricPattern:
    """A recipe for records of one kind; calling it with a value makes one.

    Attributes:
        name: Name of the pattern; stands in the `pattern` column.
        metric: Name of the metric; the pattern's own name where left out.
        stage: As in `MetricRecord`.
        split: As in `MetricRecord`.
        step_policy: As in `MetricRecord`.

    Example:
        ```python
        VALIDATION_DICE = MetricPattern("validation_dice", "validation/dice", "validation", "validation", "reuse_last")
        logger.log_metrics(VALIDATION_DICE(0.81))
        ```
    """

    name: str
    metric: str | None = None
    stage: str | None = None
    split: str | None = None
    step_policy: StepPolicy = "advance"

    def __post_init__(self) -> None:
        if self.step_policy not in STEP_POLICIES:
            raise ValueError(f"step_policy must be 'advance' or 'reuse_last', not {self.step_policy!r}")

    def __call__(self, value: Any, *, step: int | None = None) -> MetricRecord:
        """Makes a record of this pattern.

        Args:
            value: What `MetricRecord.value` takes.
            step: An explicit step, or None.

        Returns:
            The record.
        """
        metric = self.name if self.metric is None else self.metric
        return MetricRecord(metric, value, self.name, self.stage, self.split, step, self.step_policy)
