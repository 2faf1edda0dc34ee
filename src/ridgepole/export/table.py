"""A run's metrics as a file for pandas, R, a spreadsheet or DuckDB."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ridgepole.errors import RunDirError
from ridgepole.export.local_record import Line, LocalRecord
from ridgepole.export.places import Exported
from ridgepole.metrics.reader import load_metrics, number_of_value, text_of_value
from ridgepole.rundir import RunInfo

_KEYS = ("step", "time")
_WHOLE = 2**53  # up to here a float holds every whole number
_NEEDS_QUOTES = re.compile('[,"\r\n]')


def to_csv(run: RunInfo, path: Path) -> Exported:
    """Write `metrics.csv`: one row for each step and one column for each metric."""
    record = LocalRecord(run.path, media=False)
    table = _WideTable()
    for line in record:
        table.add(line)
    _refuse_empty(table.count, run)
    with (path / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
        file.writelines(table.lines())
    return Exported(to="csv", path=path, records=table.count, bad=record.bad + record.torn, hidden=record.hidden_values)


def to_parquet(run: RunInfo, path: Path) -> Exported:
    """Write `metrics.parquet`: the frame of `read_metrics`."""
    table = load_metrics(run.path)
    _refuse_empty(table.frame.height, run)
    table.frame.write_parquet(path / "metrics.parquet")
    return Exported(
        to="parquet", path=path, records=table.frame.height, bad=table.bad + table.torn, hidden=table.hidden
    )


def _refuse_empty(count: int, run: RunInfo) -> None:
    if not count:
        raise RunDirError(f"{run.path} holds no metrics yet: there is nothing to make a table of")


class _Row:
    __slots__ = ("cells", "time")

    def __init__(self, time: float) -> None:
        self.time = time
        self.cells: dict[str, Any] = {}


class _WideTable:
    """One row for each step and one column for each metric.

    A second value of a metric at one step is in a second row of that step, so that no value is
    lost.
    A column has floats. If one of its values is a bool, a string, a sequence, or a whole number too
    large for a float, it has text as in the `text` column of `read_metrics`.
    """

    def __init__(self) -> None:
        self.count = 0
        self._has_text: dict[str, bool] = {}  # by metric, in the order of appearance
        self._steps: dict[int, list[_Row]] = {}

    def add(self, line: Line) -> None:
        """Add a line of a metrics file."""
        rows = self._steps.setdefault(line["step"], [])
        time = float(line["time"])
        for name, value in line["metrics"].items():
            # The rows that have this metric come first.
            index = bisect_left(rows, True, key=lambda row: name not in row.cells)
            if index == len(rows):
                rows.append(_Row(time))
            rows[index].cells[name] = value
            rows[index].time = min(rows[index].time, time)
            if type(value) is not float:
                self._has_text[name] = self._has_text.get(name, False) or text_of_value(value) is not None
            elif name not in self._has_text:
                self._has_text[name] = False
        self.count += len(line["metrics"])

    def lines(self) -> Iterator[str]:
        """Yield the lines of a CSV file; a missing value is an empty cell."""
        names = list(self._has_text)
        yield _csv_line([*_KEYS, *_labels(names)])
        writers = [(name, _as_text if self._has_text[name] else _as_number) for name in names]
        for step in sorted(self._steps):
            for row in self._steps[step]:
                cells = [write(row.cells[name]) if name in row.cells else None for name, write in writers]
                yield _csv_line([str(step), repr(row.time), *cells])


def _csv_line(cells: list[str | None]) -> str:
    """Join cells by RFC 4180; only a missing value has no quotes and no text."""
    return ",".join(map(_quoted, cells)) + "\n"


def _quoted(cell: str | None) -> str:
    if cell is None:
        return ""
    return '"' + cell.replace('"', '""') + '"' if not cell or _NEEDS_QUOTES.search(cell) else cell


def _as_number(value: Any) -> str | None:
    """Format a number; `NaN` and `inf` are words that pandas reads as numbers."""
    number = number_of_value(value)
    if number is None:
        return None
    return "NaN" if number != number else repr(number)


def _as_text(value: Any) -> str | None:
    """Format a value of a column of text; whole numbers have no fraction."""
    text = text_of_value(value)
    if text is None and isinstance(value, int | float) and abs(value) < _WHOLE and value == int(value):
        return str(int(value))
    return _as_number(value) if text is None else text


def _labels(names: list[str]) -> list[str]:
    """Return the titles of columns: a metric that is called `step` or `time` gets a prefix."""
    taken = {*names, *_KEYS}
    labels = []
    for name in names:
        label = name
        if name in _KEYS:
            label = f"metrics/{name}"
            while label in taken:
                label = f"metrics/{label}"
            taken.add(label)
        labels.append(label)
    return labels
