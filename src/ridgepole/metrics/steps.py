"""Which step a record belongs to: one place decides it, for all loggers of a run."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ridgepole.metrics.record import STEP_POLICIES, MetricRecord
from ridgepole.metrics.values import PLAIN, Value, flatten, metric_name, plain_value, put

Metrics = Mapping[str, Any] | MetricRecord | Sequence[Mapping[str, Any] | MetricRecord]
"""What `log_metrics` takes."""

MAX_STEP = 2**63 - 2  # the step after it still fits a signed 64-bit column


class StepCounter:
    """Where a logger stands.

    Attributes:
        global_step: The step that the next advancing call takes; 0 at the start.
        last_step: The step of the latest advancing call, which `reuse_last` records take; 0 before any.
    """

    __slots__ = ("global_step", "last_step")

    def __init__(self, global_step: int = 0, last_step: int = 0) -> None:
        self.global_step = global_step
        self.last_step = last_step

    def adopt(self, plan: Plan) -> None:
        """Moves to where a plan leads, once what it says has happened; never backwards."""
        self.global_step = max(self.global_step, plan.global_step)
        self.last_step = plan.last_step


class Row:
    """All metrics of one call at one step; a line of the metrics file.

    Attributes:
        step: The step.
        metrics: Flat names and plain values; numbers that are not finite as they are.
        words: `pattern`, `stage` and `split` of those names that have one, where any has.
        reusing: The names whose step policy is `"reuse_last"`.
    """

    __slots__ = ("metrics", "reusing", "step", "words")

    def __init__(self, step: int) -> None:
        self.step = step
        self.metrics: dict[str, Value] = {}
        self.words: dict[str, dict[str, str]] = {}
        self.reusing: set[str] = set()

    def word(self, kind: str, name: str) -> str | None:
        """The pattern, stage or split of a metric."""
        return self.words.get(kind, {}).get(name)


@dataclass(slots=True)
class Plan:
    """What one call of `log_metrics` comes to, and where the counter stands after it."""

    rows: list[Row]
    global_step: int
    last_step: int


class Resolved(list[MetricRecord]):
    """Validated, flattened records with their steps: a plain list to a backend that knows no more than records.

    Attributes:
        plan: The rows behind it, and where the step stands after them.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(
            MetricRecord(
                name,
                value,
                row.word("pattern", name),
                row.word("stage", name),
                row.word("split", name),
                row.step,
                "reuse_last" if name in row.reusing else "advance",
            )
            for row in plan.rows
            for name, value in row.metrics.items()
        )
        self.plan = plan


def checked_step(step: object) -> int | None:
    """A step as a plain int, or None.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is negative or does not fit 63 bits.
    """
    if step is None:
        return None
    if type(step) is not int:
        if isinstance(step, bool) or not hasattr(step, "__index__"):
            raise TypeError(f"step must be an integer, not {type(step).__name__}")
        step = operator.index(step)
    if not 0 <= step <= MAX_STEP:
        raise ValueError(f"step must be between 0 and 2**63 - 2, not {step}")
    return step


def plan(metrics: Metrics, step: int | None, counter: StepCounter) -> Plan:
    """Validates and flattens what a call logs and gives each record its step; changes nothing.

    Without an explicit step, advancing records take the current step, which moves on by one for the whole call.
    `reuse_last` records take the step of the latest advancing call: this one, where it has an advancing record.
    An explicit step, a record's own before the call's, is kept as given, and the counter stands behind it afterwards.

    Args:
        metrics: What the user gave.
        step: The call's explicit step, or None.
        counter: Where the logger stands.

    Returns:
        One row for each distinct step, in order of appearance, and where the counter is to go.

    Raises:
        TypeError: If something can't be logged; it names the key.
        ValueError: If a name is given twice for one step, or a step is out of range.
    """
    given = None if step is None else checked_step(step)
    if type(metrics) is MetricRecord:  # exact types first: asking an abstract class costs more than all the rest
        return _plan_one(metrics, given, counter)
    if isinstance(metrics, Resolved):
        return metrics.plan
    now = counter.global_step
    if type(metrics) is list and len(metrics) == 1 and type(metrics[0]) is MetricRecord:
        return _plan_one(metrics[0], given, counter)
    if type(metrics) is not list and isinstance(metrics, Mapping):
        at = now if given is None else given
        row = Row(at)
        flatten(metrics, "", row.metrics)
        return Plan([row], max(now, at + 1), at)
    entries = _entries(metrics)
    explicit = [_explicit(entry, given) for entry in entries]
    last = counter.last_step
    for entry, own in zip(entries, explicit, strict=True):
        if not _reuses(entry):
            last = now if own is None else own
    rows: dict[int, Row] = {}
    behind = now
    for entry, own in zip(entries, explicit, strict=True):
        reuses = _reuses(entry)
        at = own if own is not None else last if reuses else now
        if at not in rows:
            rows[at] = Row(at)
        _add(entry, rows[at])
        if at >= behind and (own is not None or not reuses):
            behind = at + 1
    return Plan(list(rows.values()), behind, last)


def _entries(metrics: object) -> list[Mapping[str, Any] | MetricRecord]:
    if isinstance(metrics, MetricRecord):
        return [metrics]
    if not isinstance(metrics, list | tuple):
        raise TypeError(f"log_metrics takes a mapping, a MetricRecord or a list of them, not {type(metrics).__name__}")
    for index, entry in enumerate(metrics):
        if isinstance(entry, MetricRecord):
            _check_policy(entry)
        elif not isinstance(entry, Mapping):
            raise TypeError(f"log_metrics: item {index} of the list is a {type(entry).__name__}, not a MetricRecord")
    return list(metrics)


def _reuses(entry: Mapping[str, Any] | MetricRecord) -> bool:
    return isinstance(entry, MetricRecord) and entry.step_policy == "reuse_last"


def _plan_one(record: MetricRecord, given: int | None, counter: StepCounter) -> Plan:
    _check_policy(record)
    reuses = record.step_policy == "reuse_last"
    own = _explicit(record, given)
    at = own if own is not None else counter.last_step if reuses else counter.global_step
    row = Row(at)
    _add(record, row)
    behind = max(counter.global_step, at + 1) if own is not None or not reuses else counter.global_step
    return Plan([row], behind, counter.last_step if reuses else at)


def _check_policy(record: MetricRecord) -> None:
    if record.step_policy not in STEP_POLICIES:
        raise ValueError(
            f"metric {record.name!r}: step_policy must be 'advance' or 'reuse_last', not {record.step_policy!r}"
        )


def _explicit(entry: Mapping[str, Any] | MetricRecord, given: int | None) -> int | None:
    """The step that the user wrote: the record's own, else the call's."""
    if isinstance(entry, MetricRecord) and entry.step is not None:
        return checked_step(entry.step)
    return given


def _add(entry: Mapping[str, Any] | MetricRecord, row: Row) -> None:
    if not isinstance(entry, MetricRecord):
        flatten(entry, "", row.metrics)
        return
    name = entry.name
    if type(name) is not str or not name.isascii():
        name = metric_name(name)
    names: Sequence[str] = (name,)
    value = entry.value
    if type(value) is float and name not in row.metrics:
        row.metrics[name] = value
    elif type(value) not in PLAIN and not hasattr(value, "shape") and isinstance(value, Mapping):
        flat: dict[str, Value] = {}
        flatten(value, name + "/", flat)
        for key, plain in flat.items():
            put(key, plain, row.metrics)
        names = tuple(flat)
    else:
        put(name, plain_value(name, value), row.metrics)
    if entry.pattern is not None:
        _describe(row, "pattern", entry.pattern, names)
    if entry.stage is not None:
        _describe(row, "stage", entry.stage, names)
    if entry.split is not None:
        _describe(row, "split", entry.split, names)
    if entry.step_policy == "reuse_last":
        row.reusing.update(names)


def _describe(row: Row, kind: str, word: object, names: Sequence[str]) -> None:
    if type(word) is not str or not word.isascii():
        if not isinstance(word, str):
            raise TypeError(f"metric {names[0]!r}: {kind} must be text, not {type(word).__name__}")
        word = metric_name(word)
    words = dict.fromkeys(names, word)
    if kind in row.words:
        row.words[kind].update(words)
    else:
        row.words[kind] = words
