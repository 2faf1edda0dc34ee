"""`ridgepole runs ls`: the runs as a table, with what differs in their config."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ridgepole.cli.output import (
    STATUS_COLOURS,
    cell,
    columns,
    complain,
    counted,
    left_out,
    number,
    say,
    say_json,
    seconds,
    when,
)
from ridgepole.runs.keys import names_of
from ridgepole.runs.row import FIELDS, NOT_FINITE, TIMES, RunRow, best_of, goal_in, last_of, most_telling
from ridgepole.runs.table import RunTable

_SHOWN = 8
"""The most columns of the config that are shown without being asked for."""


def list_runs(arguments: argparse.Namespace, root: Path) -> int:
    """Print the runs of a root, filtered and sorted."""
    every = RunTable.read(root)
    table = every.archived("only" if arguments.archived else "yes" if arguments.all else "no")
    archived = 0 if arguments.archived else len(every.rows) - len(table.rows)
    hidden = not table.rows
    table = table.filtered(arguments.filter).sorted(arguments.sort)
    sorted_by = [name.strip(" -") for name in (arguments.sort or "").split(",")]
    if arguments.columns:
        _chosen(table, arguments.columns, as_json=arguments.json)
    elif arguments.json:
        say_json([row_json(row) for row in table.rows])
    elif table.rows:
        _default(table, sorted_by)
        if archived:
            complain(f"{counted(archived, 'archived run')} left out; --all shows them")
    elif not hidden:
        say(f"no run in {root} passes the filter")
    elif arguments.runs_dir and not root.is_dir():
        say(f"the directory {root} does not exist")
    else:
        say(f"no runs in {root}")
    return 0


def row_json(row: RunRow) -> dict[str, Any]:
    """Return a run as plain JSON values, with times as ISO texts."""
    fields: dict[str, Any] = dict(row.fields) | {key: _iso(row.fields[key]) for key in TIMES}
    metrics = {name: entry.get("last") for name, entry in row.metrics.items()}
    return fields | {"best": best_of(row), "path": row.path, "config": dict(row.config), "metrics": metrics}


def _chosen(table: RunTable, names: str, *, as_json: bool) -> None:
    selected = table.select(names)
    if as_json:
        say_json([{name: get(row) for name, get in selected} for row in table.rows])
        return
    rows = [[_cell(name, get(row)) for name, get in selected] for row in table.rows]
    columns(rows, [name for name, _ in selected], STATUS_COLOURS)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A column of the table.

    Attributes:
        name: The name that `--columns` takes.
        head: Its head.
        cells: The text of each run.
        rank: The place in the order in which columns are left out where a terminal is too narrow;
            None for one that stays.
    """

    name: str
    head: str
    cells: Sequence[str]
    rank: int | None = None


def _default(table: RunTable, sorted_by: Sequence[str]) -> None:
    best = _best_runs(table.rows)
    every = [*_fields(table.rows, sorted_by, best.values()), *_sorting(table, sorted_by)]
    # settings of Ridgepole's own say nothing about a run; types say less than parameters
    own = [column for column in table.columns() if column.kind == "config" and not column.key.startswith("pipeline.")]
    differing = sorted((column for column in own if column.differs), key=lambda column: column.key.endswith(".type"))
    differing = [column for column in differing if not {*names_of(column.key)} & {*sorted_by}]
    for column in differing[:_SHOWN]:
        values = zip(column.values, column.is_there, strict=True)
        cells = [cell(value) if is_there else "-" for value, is_there in values]
        every.append(_Shown(column.label, cell(column.label), cells, 5))
    lines = list(zip(*(column.cells for column in every), strict=True))
    by_rank = sorted((each.rank, -at) for at, each in enumerate(every) if each.rank is not None)
    gone = left_out(lines, [each.head for each in every], [-at for _, at in by_rank])
    kept = [at for at in range(len(every)) if at not in gone]
    columns([[line[at] for at in kept] for line in lines], [every[at].head for at in kept], STATUS_COLOURS)
    more = [*(every[at].name for at in sorted(gone)), *(column.label for column in differing[_SHOWN:])]
    if more:
        such = f"{', '.join(map(cell, more[:5]))}{', …' if len(more) > 5 else ''}"
        complain(f"{counted(len(more), 'column')} left out: {such}; choose with --columns")
    if any(every[at].name == "best" for at in gone):
        return
    if len(best) > 1:
        complain("* the best of the runs with this metric")
    for metric, row in best.items() if len(best) == 1 else ():
        downwards = "-" if goal_in(row, metric) == "max" else ""
        complain(f"* the best {cell(metric)} of any step; --sort={downwards}{cell(metric)}.best ranks the runs by it")


def _best_runs(rows: Sequence[RunRow]) -> dict[str, RunRow]:
    """Return the best run of each metric that tells how good several runs are."""
    found: dict[str, list[tuple[float, RunRow]]] = {}
    for row in rows:
        best = best_of(row)
        if best is not None and goal_in(row, best["metric"]) is not None:
            found.setdefault(best["metric"], []).append((best["value"], row))
    choose = {"min": min, "max": max}
    return {
        metric: choose[str(goal_in(ranked[0][1], metric))](ranked, key=lambda pair: pair[0])[1]
        for metric, ranked in found.items()
        if len(ranked) > 1
    }


def _fields(rows: Sequence[RunRow], sorted_by: Sequence[str], best: Iterable[RunRow]) -> Iterator[_Shown]:
    """Yield the columns of fields; one that the table is sorted by stays."""

    def rank(name: str, place: int) -> int | None:
        return None if name in sorted_by else place

    pipelines = [cell(row.fields["pipeline"]) for row in rows]
    yield _Shown("id", "RUN", [row.id for row in rows])
    yield _Shown("pipeline", "PIPELINE", pipelines, rank("pipeline", 1 if len({*pipelines}) == 1 else 6))
    yield _Shown("status", "STATUS", [row.fields["status"] for row in rows])
    yield _Shown("started", "STARTED (UTC)", [when(row.fields["started"]) for row in rows], rank("started", 2))
    yield _Shown("seconds", "TIME", [seconds(row.fields["seconds"]) for row in rows], rank("seconds", 3))
    marked = {row.path for row in best}
    is_ranked = any(name and name not in FIELDS for name in sorted_by)  # by a column that says more
    best_cells = [_best_text(row) + " *" * (row.path in marked) for row in rows]
    yield _Shown("best", "BEST", best_cells, 4 if is_ranked else None)
    for name in ("name", "tags"):
        if any(row.fields[name] for row in rows):
            cells = [_cell(name, row.fields[name] or None) for row in rows]
            yield _Shown(name, name.upper(), cells, rank(name, 1) if len(rows) > 1 and len({*cells}) == 1 else None)
    sweeps = {row.fields["sweep"] for row in rows} - {None}
    if sweeps:
        trials = [(row.fields["sweep"], row.fields["trial"]) for row in rows]
        one = len(sweeps) == 1
        cells = ["-" if sweep is None else str(trial) if one else f"{sweep}/{trial}" for sweep, trial in trials]
        yield _Shown("trial", "TRIAL", cells)


def _sorting(table: RunTable, names: Sequence[str]) -> Iterator[_Shown]:
    """Yield the columns that the table is sorted by, beside those of fields that it has anyway."""
    there = {"id", "pipeline", "status", "started", "seconds", "name", "tags"}
    for name in dict.fromkeys(each for each in names if each and each not in there):
        ((_, get),) = table.select(name)
        yield _Shown(name, cell(name), [_cell(name, get(row)) for row in table.rows])


def _cell(name: str, value: Any) -> str:
    if name in TIMES:
        return when(value)
    if name == "seconds":
        return seconds(value)
    return cell(", ".join(value) or None if name == "tags" and value is not None else value)


def _best_text(row: RunRow) -> str:
    best, name = best_of(row), most_telling(row)
    if name is None:
        lost = [name for name, entry in row.metrics.items() if entry.get("nonfinite", 0) == entry.get("count")]
        return f"{cell(lost[-1])} {NOT_FINITE}" if lost else "-"
    is_lost = last_of(row.metrics[name]) == NOT_FINITE
    if best is None:
        return f"{cell(name)} {NOT_FINITE}" if is_lost else "-"
    return f"{cell(name)} {number(best['value'])}{f', then {NOT_FINITE}' if is_lost else ''}"


def _iso(stamp: Any) -> str | None:
    try:
        return datetime.fromtimestamp(stamp, UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):  # missing or damaged
        return None
