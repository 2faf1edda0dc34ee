"""A table of runs: the columns that they have, the names of these columns, filters and sorting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ridgepole import rundir
from ridgepole.errors import ConfigError, Place, Problem, did_you_mean
from ridgepole.metrics.summary import goal_of
from ridgepole.runs.expression import Getter, Moment, UnknownNameError, compile_filter
from ridgepole.runs.keys import names_of
from ridgepole.runs.row import FIELDS, TIMES, RunRow, read_row, same

ENTRIES = ("last", "min", "max", "best", "count", "last_step", "min_step", "max_step", "best_step")
"""The parts of a metric's summary, which a name takes as `loss.min`."""

Kind = Literal["field", "config", "metric"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table of runs.

    Attributes:
        kind: The source of its values.
        key: The field, the dotted key of the config, or the name of the metric.
        label: The shortest name that stands for this column alone.
        values: The value of each run; None where it has none.
        is_there: Whether each run has a value, which may be None.
    """

    kind: Kind
    key: str
    label: str
    values: Sequence[Any]
    is_there: Sequence[bool]

    @property
    def varies(self) -> bool:
        """Return whether runs differ in it; a run without it differs from one with it."""
        return not all(self.is_there) or self.differs

    @property
    def differs(self) -> bool:
        """Return whether two runs that have it differ in it."""
        present = [value for value, is_there in zip(self.values, self.is_there, strict=True) if is_there]
        first = present[0]
        return present.count(first) < len(present) or not all(same(value, first) for value in present)


class RunTable:
    """Runs as rows.

    Args:
        rows: The runs, the newest first.
        known: More rows whose names filters and columns may use, such as those that a filter has
            left out.
    """

    def __init__(self, rows: Iterable[RunRow], known: Sequence[RunRow] = ()) -> None:
        self.rows = list(rows)
        self._known = known or self.rows

    @classmethod
    def read(cls, root: Path) -> RunTable:
        """Read all runs of a root."""
        return cls(map(read_row, rundir.list_runs(root)))

    def filtered(self, text: str | None, source: str = "--filter") -> RunTable:
        """Return the runs that pass a filter.

        Raises:
            ConfigError: If the filter is wrong.
        """
        if text is None:
            return self
        passes = compile_filter(text, self.getter, source)
        return RunTable([row for row in self.rows if passes(row)], self._known)

    def archived(self, which: Literal["no", "yes", "only"]) -> RunTable:
        """Return the runs without the archived ones, all of them, or only these."""
        if which == "yes":
            return self
        return RunTable([row for row in self.rows if row.fields["archived"] == (which == "only")], self._known)

    def sorted(self, names: str | None, source: str = "--sort") -> RunTable:
        """Return the runs in the order of columns: names with commas, `-` before one for downwards.

        Runs without a value come last. Texts come after numbers.

        Raises:
            ConfigError: If a name is unknown.
        """
        rows = list(self.rows)
        for name in reversed(_names(names)):
            downwards = name.startswith("-")
            get = self._named(name.removeprefix("-"), source)
            there = [row for row in rows if get(row) is not None]
            there.sort(key=lambda row: _order(get(row)), reverse=downwards)
            rows = there + [row for row in rows if get(row) is None]
        return RunTable(rows, self._known)

    def select(self, names: str, source: str = "--columns") -> list[tuple[str, Getter]]:
        """Return columns by name, each with the function that gives its value of a row.

        Raises:
            ConfigError: If a name is unknown, or there is none.
        """
        chosen = [(name, self._named(name, source)) for name in _names(names)]
        if not chosen:
            raise ConfigError([Problem("no column is named", Place(source), "write some, such as id,status,lr")])
        return chosen

    def columns(self) -> Iterator[Column]:
        """Yield the columns of the config and the metrics, in the order of their appearance."""
        labels = self._names.labels
        found: dict[Kind, list[Mapping[str, Any]]] = {
            "config": [row.config for row in self.rows],
            "metric": [row.metrics for row in self.rows],
        }
        for kind, key in self._names.keys:
            is_there = [key in each for each in found[kind]]
            values = [each.get(key) for each in found[kind]]
            if kind == "metric":
                values = [None if value is None else value.get("last") for value in values]
            if any(is_there):
                yield Column(kind=kind, key=key, label=labels[kind, key], values=values, is_there=is_there)

    def getter(self, name: str) -> Getter:
        """Return the function that gives a row's value under a name; see `Names.find`."""
        return self._names.find(name)

    @cached_property
    def _names(self) -> Names:
        return Names(self._known)

    def _named(self, name: str, source: str) -> Getter:
        try:
            return self.getter(name)
        except UnknownNameError as error:
            raise ConfigError([Problem(str(error), Place(source), error.hint)]) from None


class Names:
    """The names of columns.

    A field has its name. A key of the config has its last part as its name, or more of it where
    that is not enough: `lr`, `train.lr`, `processes.train.params.lr`. A metric has its own name,
    with `.min`, `.max`, `.best` and so on after it. `config.` and `metrics.` before a name say
    which of the two is meant.

    Attributes:
        keys: Kind and key of each column of the config and the metrics.
    """

    def __init__(self, rows: Iterable[RunRow]) -> None:
        config: dict[str, None] = {}
        metrics: dict[str, None] = {}
        for row in rows:
            config.update(dict.fromkeys(row.config))
            metrics.update(dict.fromkeys(row.metrics))
        self.keys: list[tuple[Literal["config", "metric"], str]] = [
            *(("config", key) for key in config),
            *(("metric", name) for name in metrics),
        ]
        self._metrics = metrics
        self._by_form: dict[str, list[str]] = {}
        for key in config:
            for form in names_of(key):
                self._by_form.setdefault(form, []).append(key)

    @cached_property
    def labels(self) -> dict[tuple[str, str], str]:
        """Return the shortest name of each column that no other column has."""
        taken = Counter(form for kind, key in self.keys for form in (names_of(key) if kind == "config" else (key,)))
        found: dict[tuple[str, str], str] = {}
        for kind, key in self.keys:
            forms = [*(names_of(key) if kind == "config" else (key,)), f"{_PREFIXES[kind]}{key}"]
            free = (form for form in forms if taken[form] <= 1 and form not in FIELDS)
            found[kind, key] = next(free, forms[-1])
        return found

    def find(self, name: str) -> Getter:
        """Return the function that gives a row's value under a name.

        Raises:
            UnknownNameError: If there is no such column, or there are several.
        """
        if name in FIELDS:
            return _time(name) if name in TIMES else lambda row: row.fields.get(name)
        wants_config, wants_metric = name.startswith("config."), name.startswith("metrics.")
        bare = name.partition(".")[2] if wants_config or wants_metric else name
        keys = [] if wants_metric else self._by_form.get(bare, [])
        keys = [key for key in keys if key == bare] or keys
        metric = None if wants_config else self._metric(bare)
        if metric is not None and not keys:
            return _entry(*metric)
        if len(keys) == 1 and metric is None:
            return _config(keys[0])
        if not keys:
            raise self._unknown(name)
        choices = [*keys[:4], *([f"metrics.{bare}"] if metric else [])]
        raise UnknownNameError(f"{name!r} could be {' or '.join(choices)}", "write more of the name")

    def _metric(self, name: str) -> tuple[str, str] | None:
        if name in self._metrics:
            return name, "last"
        base, _, entry = name.rpartition(".")
        return (base, entry) if base in self._metrics and entry in ENTRIES else None

    def _unknown(self, name: str) -> UnknownNameError:
        hint = did_you_mean(name, [*FIELDS, *self.labels.values()])
        return UnknownNameError(f"no run has anything called {name!r}", hint)


_PREFIXES = {"config": "config.", "metric": "metrics."}


def _time(name: str) -> Getter:
    def get(row: RunRow) -> Moment | None:
        value = row.fields.get(name)
        return None if value is None else Moment(value)

    return get


def _config(key: str) -> Getter:
    return lambda row: row.config.get(key)


def _entry(metric: str, entry: str) -> Getter:
    return lambda row: row.metrics.get(metric, {}).get(entry)


def _names(text: str | None) -> list[str]:
    return [name for part in (text or "").split(",") if (name := part.strip()) and name != "-"]


def _order(value: Any) -> tuple[int, Any]:
    if isinstance(value, int | float):
        return (2, 0.0) if value != value else (0, value)
    return (1, str(value))


def goal(column: Column) -> str | None:
    """Return whether small or large values of a metric are good, if its name tells."""
    return goal_of(column.key) if column.kind == "metric" else None
