"""Metric records, and the patterns that make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

StepPolicy = Literal["advance", "reuse_last"]
"""`"advance"` takes the current step and increments it; `"reuse_last"` takes the last one."""

STEP_POLICIES = frozenset(("advance", "reuse_last"))


@dataclass(frozen=True, slots=True)
class MetricRecord:
    """A value of a metric, as `log_metrics` takes it.

    Attributes:
        name: Name of the metric, such as `"validation/loss"`.
        value: A number, a 0-d array or tensor, a string, a bool, a small sequence, or a nested
            mapping of these.
        pattern: Name of the pattern that made the record, such as `"validation_loss"`.
        stage: The stage of the run: `"train"`, `"validation"`, `"test"`, or a word of your own.
        split: The measured part of the data.
        step: An explicit step; None lets the logger choose it by the step policy.
        step_policy: The effect on the logger's step without an explicit step.
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
    """A template for records of one kind; call it with a value to make one.

    Attributes:
        name: Name of the pattern, for the `pattern` column.
        metric: Name of the metric; by default the pattern's name.
        stage: As in `MetricRecord`.
        split: As in `MetricRecord`.
        step_policy: As in `MetricRecord`.

    Example:
        ```python
        VALIDATION_DICE = MetricPattern(
            "validation_dice", "validation/dice", "validation", "validation", "reuse_last"
        )
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
        """Make a record of this pattern; see `MetricRecord` for value and step."""
        metric = self.name if self.metric is None else self.metric
        return MetricRecord(metric, value, self.name, self.stage, self.split, step, self.step_policy)
