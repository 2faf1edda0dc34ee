"""The runs that a command is about: those that are named, and those that pass a filter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ridgepole import rundir
from ridgepole.rundir import RunInfo


def chosen_runs(named: Sequence[str], expression: str | None, root: Path) -> list[RunInfo]:
    """Return the named runs, then those that pass a filter and are not archived, each once.

    Raises:
        RunDirError: If a run is not found.
        ConfigError: If the filter is wrong.
    """
    runs = [rundir.find_run(spec, root) for spec in named]
    if expression is not None:
        from ridgepole.runs.table import RunTable

        table = RunTable.read(root).archived("no").filtered(expression)
        runs += [rundir.read_run(Path(row.path)) for row in table.rows]
    return list({run.path: run for run in runs}.values())
