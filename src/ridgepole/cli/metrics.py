"""`ridgepole runs metrics`: the values of a run, once or as a script follows it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.cli.output import cell, columns, complain, counted, say, say_json, when
from ridgepole.errors import RunDirError
from ridgepole.runs.follow import NewRecords, read_since


def print_metrics(arguments: argparse.Namespace, root: Path) -> int:
    """Print the records of a run after a cursor."""
    path = Path(arguments.run)
    status = None
    if (path / rundir.RUN).exists() or not any(path.glob(rundir.METRICS_GLOB)):
        run = rundir.find_run(arguments.run, root)
        path, status = run.path, run.status
    try:
        found = read_since(path, arguments.since, arguments.name)
    except ValueError as error:
        raise RunDirError(f"--since: {error}") from error
    if found.bad:
        complain(f"passed over {counted(found.bad, 'line')} that could not be read")
    if arguments.json:
        say_json(_as_json(path, status, found))
        return 0
    rows = [
        (str(line["seq"]), str(line["step"]), when(line["time"]), cell(name), cell(value))
        for line in found.records
        for name, value in line["metrics"].items()
    ]
    if rows:
        columns(rows, ("SEQ", "STEP", "TIME (UTC)", "METRIC", "VALUE"))
    elif arguments.since is not None:
        say(f"no values after {arguments.since}")
    elif arguments.name:
        names = {name for line in read_since(path, None, ()).records for name in line["metrics"]}
        say(f"no values of that name; the run has: {', '.join(map(cell, sorted(names))) or 'no metrics'}")
    else:
        say("no values")
    return 0


def _as_json(path: Path, status: str | None, found: NewRecords) -> dict[str, Any]:
    records = [
        {"seq": line["seq"], "time": line["time"], "step": line["step"], "metrics": _strict(line["metrics"])}
        for line in found.records
    ]
    hidden = [list(pair) for pair in found.hidden]
    return {"run": path.resolve().name, "status": status, "next": found.cursor, "hidden": hidden, "records": records}


def _strict(value: Any) -> Any:
    """Replace numbers that are not finite by their names: strict JSON has none of them."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return repr(value) if isinstance(value, float) and value - value != 0.0 else value
