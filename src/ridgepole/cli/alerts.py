"""`ridgepole runs alerts`: the alerts of a run, once or as a script follows them."""

from __future__ import annotations

import argparse
from pathlib import Path

from ridgepole import rundir
from ridgepole.cli.output import cell, columns, say, say_json, when
from ridgepole.watch.killed import alerts_of


def print_alerts(arguments: argparse.Namespace, root: Path) -> int:
    """Print the alerts of a run after the first `--since`."""
    run = rundir.find_run(arguments.run, root)
    alerts, after = alerts_of(run, arguments.since)
    if arguments.json:
        say_json({"run": run.id, "status": run.status, "next": str(after), "alerts": alerts})
        return 0
    rows = [
        (when(line.get("time")), *(cell(line.get(key, "-")) for key in ("level", "kind", "step", "title")))
        for line in alerts
    ]
    if rows:
        columns(rows, ("TIME (UTC)", "LEVEL", "KIND", "STEP", "TITLE"))
    else:
        say(f"no alerts after the first {arguments.since}" if arguments.since else "no alerts")
    return 0
