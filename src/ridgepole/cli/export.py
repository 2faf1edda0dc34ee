"""`ridgepole export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ridgepole import rundir
from ridgepole.cli.output import complain, near, say
from ridgepole.cli.roots import runs_root
from ridgepole.export import Exported, export_run, find_exporter

_FILES = {"csv": "metrics.csv", "parquet": "metrics.parquet"}


def call(arguments: argparse.Namespace) -> int:
    """Export a run, and print the place of the result."""
    try:
        find_exporter(arguments.to)
    except ValueError as error:
        complain(f"error: {error}")
        return 2
    source = _find(arguments.run, arguments)
    if (source / rundir.RUN).exists() and rundir.read_run(source).status == "running":
        complain(f"{source.name} is still running: what it logs from now on is not exported")
    _show(source, export_run(source, arguments.to, arguments.output))
    return 0


def _find(spec: str, arguments: argparse.Namespace) -> Path:
    """Return the directory of a run, or the log directory of a plain script."""
    path = Path(spec)
    if not (path / rundir.RUN).exists() and any(path.glob(rundir.METRICS_GLOB)):
        return path
    return rundir.find_run(spec, runs_root(arguments, spec)).path


def _show(source: Path, done: Exported) -> None:
    for reason in done.skipped:
        complain(f"left out: {reason}")
    if done.bad:
        complain(f"passed over {_count(done.bad, 'line')} that could not be read")
    what = _count(done.records, "value" if done.to in _FILES else "record")
    if done.media:
        what += f" and {done.media} of media"
    if done.hidden:
        what += f" ({done.hidden} of abandoned segments left out)"
    where = done.path / _FILES.get(done.to, "")
    say(f"exported {what} of {source.resolve().name} to {near(where)}")
    if done.to == "tensorboard":
        say(f"see it with: tensorboard --logdir {near(where)}")
    elif done.url:
        say(f"see it at: {done.url}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
