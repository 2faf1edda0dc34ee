"""`ridgepole runs`: the action that was called, and `runs show`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.cli.listing import row_json
from ridgepole.cli.output import cell, columns, counted, near, number, say, say_json, seconds, when
from ridgepole.cli.roots import runs_root
from ridgepole.errors import CheckpointError
from ridgepole.rundir import RunInfo
from ridgepole.runs.keys import flat
from ridgepole.runs.row import last_of, read_row, summary_of
from ridgepole.watch import steptime
from ridgepole.watch.killed import TITLE, find_kill

_ELSEWHERE = {
    "ls": "ridgepole.cli.listing:list_runs",
    "diff": "ridgepole.cli.comparing:diff",
    "compare": "ridgepole.cli.comparing:compare",
    "alerts": "ridgepole.cli.alerts:print_alerts",
    "metrics": "ridgepole.cli.metrics:print_metrics",
    "tag": "ridgepole.cli.labels:tag",
    "note": "ridgepole.cli.labels:note",
    "rename": "ridgepole.cli.labels:rename",
    "archive": "ridgepole.cli.labels:archive",
    "rm": "ridgepole.cli.removal:remove",
    "gc": "ridgepole.cli.removal:collect",
}
_PARAMS = 20
"""The most parameters of a script that are shown."""
_PICTURES = (".png", ".jpg", ".svg", ".html")


def call(arguments: argparse.Namespace) -> int:
    """List, show, compare or remove runs."""
    if arguments.action == "ls" and arguments.url:
        from ridgepole.cli.listing import list_runs
        from ridgepole.cli.mirror import local_root

        with contextlib.ExitStack() as stack:
            return list_runs(arguments, local_root(arguments.url, stack))
    root = runs_root(arguments, *_named(arguments))
    if arguments.action in _ELSEWHERE:
        module, _, name = _ELSEWHERE[arguments.action].partition(":")
        body: Callable[[argparse.Namespace, Path], int] = getattr(importlib.import_module(module), name)
        return body(arguments, root)
    _show(rundir.find_run(arguments.run, root), as_json=arguments.json)
    return 0


def _named(arguments: argparse.Namespace) -> list[str]:
    """Return the runs that the arguments name."""
    if arguments.action in ("rm", "archive", "compare"):
        return list(arguments.runs)
    return [getattr(arguments, key) for key in ("run", "a", "b") if hasattr(arguments, key)]


def _show(run: RunInfo, *, as_json: bool) -> None:
    summary, row = summary_of(run), row_json(read_row(run))
    figures = sorted(path for path in (run.path / rundir.FIGURES).glob("*") if path.suffix in _PICTURES)
    kill = find_kill(run.path) if run.status == "crashed" else None
    if as_json:
        config = run.json(rundir.RESOLVED)
        fields = dict(run.fields) | {"processes": rundir.read_processes(run)}
        times = steptime.read(run.path)
        details: dict[str, Any] = {
            "step_time": [each.described() for each in times],
            "verdict": steptime.verdict(times),
            "killed": kill.text if kill is not None else "",
        }
        details |= {"run": fields, "config": config, "summary": summary, "figures": [str(f) for f in figures]}
        say_json(row | details | {"attempts": rundir.read_attempts(run.path), "checkpoints": _checkpoints(run)})
        return
    provenance = run.json(rundir.PROVENANCE)
    git = provenance.get("git", {})
    say(f"run       {run.id}")
    _show_labels(run)
    say(f"path      {near(run.path)}")
    say(f"pipeline  {run.fields.get('pipeline', '-')}")
    parent = run.fields.get("parent")
    if isinstance(parent, dict):
        say(f"parent    {parent.get('run', '-')} at {parent.get('checkpoint', '-')}")
    say(f"status    {run.status}")
    if kill is not None:
        say(f"killed    {TITLE}: {kill.text}")
    say(f"started   {when(run.fields.get('started'))} UTC, took {seconds(row['seconds'])}")
    _show_attempts(run)
    say(f"seed      {'-' if run.fields.get('seed') is None else run.fields['seed']}")
    _show_script(run)
    if provenance.get("overrides"):
        say(f"set       {' '.join(provenance['overrides'])}")
    if git.get("commit"):
        say(f"commit    {git['commit'][:12]}{' with changes, see ' + rundir.DIFF if git.get('changed') else ''}")
    error = run.fields.get("error")
    if isinstance(error, dict):
        say(f"error     {error.get('type')}: {error.get('message')}")
        for note in error.get("notes", []):
            say(f"          {note}")
    for word, line in steptime.lines(steptime.read(run.path)):
        say(f"{word:<10}{line}")
    _show_processes(run)
    metrics = summary.get("metrics", {})
    if metrics:
        say()
        rows = (
            (name, number(last_of(entry)), *(number(entry.get(key)) for key in ("min", "max", "count")))
            for name, entry in metrics.items()
        )
        columns(rows, ("METRIC", "LAST", "MIN", "MAX", "COUNT"))
    if figures:
        say("\nPICTURES")
        for figure in figures:
            say(near(figure))


def _show_labels(run: RunInfo) -> None:
    labels = run.labels
    for word, lines in (
        ("name", [labels.name]),
        ("tags", [", ".join(labels.tags)]),
        ("note", labels.note.splitlines()),
    ):
        for line in filter(None, lines):
            say(f"{word}      {cell(line)}")


def _checkpoints(run: RunInfo) -> int:
    from ridgepole.checkpoint import CheckpointStore

    # There are some that can't be read: `checkpoints ls` says why
    with contextlib.suppress(CheckpointError):
        return len(CheckpointStore(run.path / rundir.CHECKPOINTS).list())
    return 0


def _show_attempts(run: RunInfo) -> None:
    """Print the attempts of a run that was resumed, and the number of its checkpoints."""
    attempts = rundir.read_attempts(run.path)
    ended = {each.get("attempt"): each for each in run.fields.get("attempts") or ()}
    for line in attempts if len(attempts) > 1 or any(line.get("changes") for line in attempts) else ():
        place = "from the beginning"
        if line.get("checkpoint"):
            place = f"from {line['checkpoint']}, step {line.get('step', '-')}"
        end = ended.get(line["attempt"])
        took = f"; {end['status'].replace('_', ' ')} after {seconds(end['seconds'])}" if end else ""
        say(f"attempt   {line['attempt']}, {when(line.get('time'))} UTC, {place}{took}")
        for key, pair in (line.get("changes") or {}).items():
            before, after = (", ".join(map(repr, value)) or "(not there)" for value in pair)
            restored = (line.get("restored") or {}).get(key)
            note = "" if restored is None else f"; the state restored {restored!r}"
            say(f"          {key}: {before} -> {after}{note}")
    count = _checkpoints(run)
    if count:
        say(f"kept      {counted(count, 'checkpoint')}, see ridgepole checkpoints ls {shlex.quote(near(run.path))}")
    from_file = run.fields.get("file") or run.fields.get("script")  # one from code is resumed by its program
    if run.status in rundir.UNFINISHED and from_file and not run.fields.get("sweep"):
        say(f"resume    ridgepole resume {shlex.quote(near(run.path))}")


def _show_script(run: RunInfo) -> None:
    """Print the command and the exit code of a script's run."""
    script = run.fields.get("script")
    if isinstance(script, dict):
        say(f"command   {shlex.join(map(str, script.get('command', [])))}")
        params = list(flat(run.json(rundir.RESOLVED).get("params") or {}))
        for key, value in params[:_PARAMS]:
            say(f"param     {cell(key)} = {cell(value)}")
        if len(params) > _PARAMS:
            say(f"          and {len(params) - _PARAMS} more, see {rundir.RESOLVED}")
        if run.fields.get("exit_code") is not None:
            say(f"exit code {run.fields['exit_code']}")


def _show_processes(run: RunInfo) -> None:
    rows = [
        (item["name"], item["status"], seconds(item["seconds"]), item["reason"]) for item in rundir.read_processes(run)
    ]
    if rows:
        say()
        columns(rows, ("PROCESS", "STATUS", "TIME", ""))
