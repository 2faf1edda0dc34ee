"""The step rule: one function gives each record its step, for all loggers of a run."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ridgepole.metrics.record import STEP_POLICIES, MetricRecord
from ridgepole.metrics.values import PLAIN, DeviceScalar, Value, flatten, metric_name, plain_value, put, settle
from ridgepole.ticks import Ticks

Entry = Mapping[str, Any] | MetricRecord
Metrics = Entry | Sequence[Entry]
"""The argument of `log_metrics`."""

MAX_STEP = 2**63 - 2  # the step after it still fits a signed 64-bit column


class StepCounter:
    """The step of a logger.

    Attributes:
        global_step: The step of the next advancing call; 0 at the start.
        last_step: The step of the latest advancing call, which `reuse_last` records take; 0 before
            any.
        ticks: The steps of the run that the logger belongs to; None outside of a run.
    """

    __slots__ = ("_begun", "_names", "_now", "global_step", "last_step", "ticks")

    def __init__(self, global_step: int = 0, last_step: int = 0, ticks: Ticks | None = None) -> None:
        self.global_step = global_step
        self.last_step = last_step
        self.ticks = ticks
        self._begun = -1  # the run's step in which `last_step` was taken, and its names
        self._names: set[str] = set()
        self._now = -1  # the run's step at the last call of `step_for`

    def step_for(self, names: Iterable[str]) -> int:
        """Return the step of an advancing call that logs these flat names.

        That is the next one. Within one step of the run, names that are new stay at the last one.
        """
        if self.ticks is None:
            return self.global_step
        now = self._now = self.ticks.begun
        if now == self._begun and self.last_step + 1 == self.global_step and self._names.isdisjoint(names):
            return self.last_step
        return self.global_step

    def took(self, step: int, names: Iterable[str]) -> None:
        """Note what an advancing call, after `step_for`, has logged; move behind its step."""
        if step == self.last_step and self._now == self._begun:
            self._names.update(names)
        else:
            self._begun, self._names = self._now, set(names)
        self.last_step = step
        if step >= self.global_step:
            self.global_step = step + 1

    def adopt(self, plan: Plan) -> None:
        """Move to the step after a written plan, never backwards."""
        if self.ticks is not None:
            names = {name for row in plan.rows if row.step == plan.last_step for name in row.metrics}
            if plan.last_step == self.last_step and self._is_open():
                self._names |= names
            elif plan.advances:
                self._begun, self._names = self.ticks.begun, names
        self.global_step = max(self.global_step, plan.global_step)
        self.last_step = plan.last_step

    def state_dict(self) -> dict[str, Any]:
        """Return the steps, and what the run's present step has logged."""
        state: dict[str, Any] = {"global_step": self.global_step, "last_step": self.last_step}
        return state | {"begun": self._begun, "names": sorted(self._names)} if self._is_open() else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Return to a state of `state_dict`; an empty one is the beginning."""
        self.global_step, self.last_step = int(state.get("global_step", 0)), int(state.get("last_step", 0))
        self._begun, self._names = int(state.get("begun", -1)), set(state.get("names", ()))

    def _is_open(self) -> bool:
        """Return whether the run is still in the step in which the last one was taken."""
        return self.ticks is not None and self.ticks.begun == self._begun

    def advance_to(self, step: int) -> None:
        """Move behind a step that was logged; a lower one does not move the counter back."""
        self.last_step = step
        if step >= self.global_step:
            self.global_step = step + 1


class StepRow:
    """All metrics of one call at one step; a line of the metrics file.

    Attributes:
        step: The step.
        metrics: Flat names and plain values, including numbers that are not finite.
        words: `pattern`, `stage` and `split` by name; a kind is present only where a name has it.
        reusing: The names whose step policy is `"reuse_last"`.
    """

    __slots__ = ("metrics", "reusing", "step", "words")

    def __init__(self, step: int) -> None:
        self.step = step
        self.metrics: dict[str, Value] = {}
        self.words: dict[str, dict[str, str]] = {}
        self.reusing: set[str] = set()

    def word(self, kind: str, name: str) -> str | None:
        """Return the pattern, stage or split of a metric."""
        return self.words.get(kind, {}).get(name)


@dataclass(slots=True)
class Plan:
    """The rows of one call of `log_metrics`, and the counter after it.

    Attributes:
        rows: One row for each distinct step.
        global_step: The step of the next advancing call.
        last_step: The step of the latest advancing call.
        notes: Name and type of each value that is stored as text in its place.
        advances: Whether the call has an entry that is not `reuse_last`.
    """

    rows: list[StepRow]
    global_step: int
    last_step: int
    notes: Sequence[tuple[str, str]] = ()
    advances: bool = True


class Resolved(list[MetricRecord]):
    """Validated, flattened records with their steps, in a list for backends.

    Attributes:
        plan: The rows behind the records, and the counter after them.
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
    """Return a step as a plain int, or None.

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
    """Validate and flatten the metrics of a call and give each record its step; change nothing.

    - A record's own step wins over the call's. An explicit step is kept, and the counter moves
    behind it.
    - Without one, an advancing record takes the current step, which increases by one for the whole
    call. A name that the step has already, from an earlier entry of the list, is of the next step.
    - In a run, a call whose names are all new since the run's step began takes the step of the
    latest advancing call of that step, and moves nothing.
    - A `reuse_last` record takes the step of the latest advancing call, which may be this one.

    Args:
        metrics: The argument of `log_metrics`.
        step: The call's explicit step, or None.
        counter: The step of the logger.

    Returns:
        One row for each distinct step, in order of appearance, and the counter after the call.

    Raises:
        TypeError: If the metrics are not mappings or records, or a name is not text.
        ValueError: If a name is empty, a step has a name twice, or a step is out of range.
    """
    given = None if step is None else checked_step(step)
    if isinstance(metrics, Resolved):
        return metrics.plan
    entries = [_normalise(entry, given) for entry in _as_list(metrics)]
    now, last = counter.global_step, counter.last_step
    after = now
    if counter.ticks is not None:
        now = counter.step_for(_names(entry for entry, explicit, reuses in entries if explicit is None and not reuses))
    for _, explicit, reuses in entries:
        if not reuses:
            last = now if explicit is None else explicit
    rows: dict[int, StepRow] = {}
    for entry, explicit, reuses in entries:
        if explicit is None and not reuses and now in rows and _repeats(entry, rows[now]):
            now = last = after
        at = explicit if explicit is not None else last if reuses else now
        row = rows.get(at)
        if row is None:
            row = rows[at] = StepRow(at)
        _add(entry, row)
        if at >= after and not (reuses and explicit is None):
            after = at + 1
    notes = [note for row in rows.values() for note in settle(row.metrics)]
    advances = not all(reuses for _, _, reuses in entries)
    return Plan(list(rows.values()), after, last, notes, advances)


def is_pending(plan: Plan) -> bool:
    """Return whether a value of the plan is still on its way from a GPU."""
    return any(isinstance(value, DeviceScalar) for row in plan.rows for value in row.metrics.values())


def has_arrived(plan: Plan) -> bool:
    """Return whether `arrived` would not wait."""
    values = (value for row in plan.rows for value in row.metrics.values())
    return all(value.has_arrived() for value in values if isinstance(value, DeviceScalar))


def arrived(plan: Plan) -> Plan:
    """Wait for all values, and return a copy of the plan with plain ones."""
    rows = []
    for row in plan.rows:
        plain = StepRow(row.step)
        plain.words, plain.reusing = row.words, row.reusing
        for name, value in row.metrics.items():
            plain.metrics[name] = value.value(name) if isinstance(value, DeviceScalar) else value
        rows.append(plain)
    return Plan(rows, plan.global_step, plan.last_step, plan.notes, plan.advances)


def _as_list(metrics: object) -> Sequence[Entry]:
    """Check the types of a call's entries; exact types first, as abstract classes are slow."""
    if type(metrics) is dict or type(metrics) is MetricRecord or isinstance(metrics, MetricRecord | Mapping):
        return (metrics,)
    if not isinstance(metrics, list | tuple):
        raise TypeError(f"log_metrics takes a mapping, a MetricRecord or a list of them, not {type(metrics).__name__}")
    for index, entry in enumerate(metrics):
        if type(entry) is not MetricRecord and not isinstance(entry, MetricRecord | Mapping):
            raise TypeError(f"log_metrics: item {index} of the list is a {type(entry).__name__}, not a MetricRecord")
    return metrics


def _normalise(entry: Entry, given: int | None) -> tuple[Entry, int | None, bool]:
    """Return an entry with its explicit step, and whether it reuses the last step."""
    if not isinstance(entry, MetricRecord):
        return entry, given, False
    if entry.step_policy not in STEP_POLICIES:
        raise ValueError(
            f"metric {entry.name!r}: step_policy must be 'advance' or 'reuse_last', not {entry.step_policy!r}"
        )
    explicit = given if entry.step is None else checked_step(entry.step)
    return entry, explicit, entry.step_policy == "reuse_last"


def _names(entries: Iterable[Entry]) -> Iterable[str]:
    """Return the flat names of entries."""
    names: dict[str, Any] = {}
    for entry in entries:
        flat: dict[str, Any] = {}  # one each: a list may repeat a name
        flatten({entry.name: entry.value} if isinstance(entry, MetricRecord) else entry, "", flat)
        names |= flat
    return names


def _repeats(entry: Entry, row: StepRow) -> bool:
    """Return whether a step has a name of an entry already."""
    return not row.metrics.keys().isdisjoint(_names([entry]))


def _add(entry: Entry, row: StepRow) -> None:
    if not isinstance(entry, MetricRecord):
        flatten(entry, "", row.metrics)
        return
    name = entry.name
    if not name or type(name) is not str or not name.isascii():
        name = metric_name(name)
    names: Sequence[str] = (name,)
    value = entry.value
    if type(value) is float and name not in row.metrics:
        row.metrics[name] = value
    elif type(value) not in PLAIN and not hasattr(type(value), "shape") and isinstance(value, Mapping):
        flat: dict[str, Any] = {}
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


def _describe(row: StepRow, kind: str, word: object, names: Sequence[str]) -> None:
    if type(word) is not str or not word.isascii():
        if not isinstance(word, str):
            raise TypeError(f"metric {names[0]!r}: {kind} must be text, not {type(word).__name__}")
        word = metric_name(word)
    row.words.setdefault(kind, {}).update(dict.fromkeys(names, word))
