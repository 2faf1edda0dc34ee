"""`ridgepole report`: the page of some runs as one file."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from ridgepole.cli.chosen import chosen_runs
from ridgepole.cli.output import counted, near, say, size
from ridgepole.cli.roots import runs_root
from ridgepole.errors import RunDirError
from ridgepole.rundir import list_runs
from ridgepole.sweeps.stored import StoredSweeps
from ridgepole.view.extra import need


def call(arguments: argparse.Namespace) -> int:
    """Write the page of the named runs, or of all runs."""
    need("ridgepole report", "numpy")
    from ridgepole.view.report import write_report

    root = runs_root(arguments, *arguments.runs)
    is_chosen = bool(arguments.runs) or arguments.filter is not None
    if is_chosen:
        runs = chosen_runs(arguments.runs, arguments.filter, root)
    else:
        runs = [run for run in list_runs(root) if not run.labels.archived]
    if not runs:
        if is_chosen:
            raise RunDirError(f"no run in {root} passes the filter")
        raise RunDirError(f"no runs in {root}; name another root with --runs-dir")
    output = Path(arguments.output)
    paths = [run.path for run in runs]
    ids = [run.fields.get("sweep", {}).get("id") for run in runs] if is_chosen else None
    count = write_report(paths, output, StoredSweeps({path.parent for path in paths}, ids))
    say(f"wrote {counted(len(runs), 'run')} to {near(output)}, {size(count)}")
    if arguments.open:
        webbrowser.open(output.absolute().as_uri())
    return 0
