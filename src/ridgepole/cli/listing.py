"""`ridgepole runs ls`: the runs as a table, with what differs in their config."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
from ridgepole.runs.row import NOT_FINITE, TIMES, RunRow, best_of
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


def _default(table: RunTable, sorted_by: Sequence[str]) -> None:
    rows = table.rows
    heads = ["RUN", "PIPELINE", "STATUS", "STARTED (UTC)", "TIME", "BEST"]
    cells = [
        [
            row.id,
            cell(row.fields["pipeline"]),
            row.fields["status"],
            when(row.fields["started"]),
            seconds(row.fields["seconds"]),
            _best_text(row),
        ]
        for row in rows
    ]
    for name in ("name", "tags"):
        if any(row.fields[name] for row in rows):
            heads.append(name.upper())
            for line, row in zip(cells, rows, strict=True):
                line.append(_cell(name, row.fields[name] or None))
    sweeps = {row.fields["sweep"] for row in rows} - {None}
    if sweeps:
        heads.append("TRIAL")
        for line, row in zip(cells, rows, strict=True):
            sweep, trial = row.fields["sweep"], row.fields["trial"]
            line.append("-" if sweep is None else str(trial) if len(sweeps) == 1 else f"{sweep}/{trial}")
    # settings of Ridgepole's own say nothing about a run; types say less than parameters
    own = [column for column in table.columns() if column.kind == "config" and not column.key.startswith("pipeline.")]
    differing = sorted((column for column in own if column.differs), key=lambda column: column.key.endswith(".type"))
    shown = {column.label for column in differing[:_SHOWN]} | {head.lower() for head in heads}
    for name, get in table.select(",".join(sorted_by)) if any(sorted_by) else ():
        if name not in shown | {"id", "seconds", "started"}:
            heads.append(name)
            for line, row in zip(cells, rows, strict=True):
                line.append(_cell(name, get(row)))
    first = len(heads)
    for column in differing[:_SHOWN]:
        heads.append(column.label)
        for line, value, is_there in zip(cells, column.values, column.is_there, strict=True):
            line.append(cell(value) if is_there else "-")
    same = [1] if len({line[1] for line in cells}) == 1 else []
    gone = left_out(cells, heads, [*same, 3, 4, *reversed(range(first, len(heads))), 1])
    kept = [i for i in range(len(heads)) if i not in gone]
    columns([[line[i] for i in kept] for line in cells], [heads[i] for i in kept], STATUS_COLOURS)
    more = [*(heads[i] for i in sorted(gone) if i >= first), *(column.label for column in differing[_SHOWN:])]
    if more:
        such = f"{', '.join(more[:4])}{', …' if len(more) > 4 else ''}"
        complain(f"{counted(len(more), 'column')} left out: {such}; choose with --columns")


def _cell(name: str, value: Any) -> str:
    if name in TIMES:
        return when(value)
    if name == "seconds":
        return seconds(value)
    return cell(", ".join(value) or None if name == "tags" and value is not None else value)


def _best_text(row: RunRow) -> str:
    best = best_of(row)
    if best:
        return f"{cell(best['metric'])} {number(best['value'])}"
    diverged = [name for name, entry in row.metrics.items() if entry.get("nonfinite", 0) == entry.get("count")]
    return f"{cell(diverged[-1])} {NOT_FINITE}" if diverged else "-"


def _iso(stamp: Any) -> str | None:
    try:
        return datetime.fromtimestamp(stamp, UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):  # missing or damaged
        return None
