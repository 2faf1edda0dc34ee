"""`ridgepole runs ls|show|diff|rm|gc`."""

from __future__ import annotations

import argparse
import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.cli.output import STATUS_COLOURS, columns, counted, near, number, say, say_json, seconds, when
from ridgepole.errors import CheckpointError
from ridgepole.pipeline.comparison import flat
from ridgepole.rundir import RunInfo

_PICTURES = (".png", ".jpg", ".svg", ".html")


def call(arguments: argparse.Namespace) -> int:
    """Lists, shows, compares or removes runs."""
    root = Path(arguments.run_dir or "runs")
    if arguments.action in ("rm", "gc"):
        from ridgepole.cli import removal

        return (removal.remove if arguments.action == "rm" else removal.collect)(arguments, root)
    if arguments.action == "ls":
        _list(root, as_json=arguments.json)
    elif arguments.action == "show":
        _show(rundir.find_run(arguments.run, root), as_json=arguments.json)
    else:
        _diff(rundir.find_run(arguments.a, root), rundir.find_run(arguments.b, root), as_json=arguments.json)
    return 0


def _list(root: Path, *, as_json: bool) -> None:
    rows = [_row(run) for run in rundir.list_runs(root)]
    if as_json:
        say_json(rows)
    elif rows:
        shown = (
            (
                row["id"],
                str(row["pipeline"] or "-"),
                row["status"],
                when(_stamp(row["started"])),
                seconds(row["seconds"]),
                _best(row),
            )
            for row in rows
        )
        columns(shown, ("RUN", "PIPELINE", "STATUS", "STARTED (UTC)", "TIME", "BEST"), STATUS_COLOURS)
    else:
        say(f"no runs in {root}")


def _row(run: RunInfo) -> dict[str, Any]:
    return {
        "id": run.id,
        "pipeline": run.fields.get("pipeline"),
        "status": run.status,
        "started": _iso(run.fields.get("started")),
        "seconds": run.fields.get("seconds"),
        "best": _best_of(run),
        "path": str(run.path),
    }


def _iso(stamp: Any) -> str | None:
    try:
        return datetime.fromtimestamp(stamp, UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):  # missing or damaged
        return None


def _stamp(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _best_of(run: RunInfo) -> dict[str, Any] | None:
    """The best value of the metric by which checkpoints are ranked, else of the last that can be good or bad."""
    metrics = _summary(run).get("metrics", {})
    policy = run.json(rundir.RESOLVED).get("pipeline", {}).get("checkpoint", {})
    wanted = policy.get("keep_best") if isinstance(policy, dict) else None
    if wanted:
        value = metrics.get(wanted["metric"], {}).get(wanted["mode"])
        return None if value is None else {"metric": wanted["metric"], "value": value}
    telling = [(name, entry["best"]) for name, entry in metrics.items() if entry.get("best") is not None]
    return {"metric": telling[-1][0], "value": telling[-1][1]} if telling else None


def _summary(run: RunInfo) -> dict[str, Any]:
    """The run's summary; of one that is running or was killed, what its metric files say."""
    if run.status not in ("running", "crashed"):
        return run.json(rundir.SUMMARY)
    from ridgepole.metrics.codec import decode
    from ridgepole.metrics.segments import abandoned_segments
    from ridgepole.metrics.summary import Summary

    summary, abandoned = Summary(), abandoned_segments(run.path)
    for file in sorted(run.path.glob(rundir.METRICS_GLOB)):
        for line in file.read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):  # a torn or bad line
                record = decode(line)
                if not any(first <= record["seq"] < end for first, end in abandoned):
                    summary.update(record["metrics"], record["step"])
    return {"metrics": summary.as_dict()}


def _best(row: dict[str, Any]) -> str:
    return f"{row['best']['metric']} {number(row['best']['value'])}" if row["best"] else "-"


def _show(run: RunInfo, *, as_json: bool) -> None:
    summary = _summary(run)
    figures = sorted(path for path in (run.path / rundir.FIGURES).glob("*") if path.suffix in _PICTURES)
    if as_json:
        config = run.json(rundir.RESOLVED)
        fields = dict(run.fields) | {"processes": rundir.read_processes(run)}
        details = {"run": fields, "config": config, "summary": summary, "figures": [str(f) for f in figures]}
        say_json(_row(run) | details | {"attempts": rundir.read_attempts(run.path), "checkpoints": _checkpoints(run)})
        return
    provenance = run.json(rundir.PROVENANCE)
    git = provenance.get("git", {})
    say(f"run       {run.id}")
    say(f"pipeline  {run.fields.get('pipeline', '-')}")
    say(f"status    {run.status}")
    say(f"started   {when(run.fields.get('started'))} UTC, took {seconds(run.fields.get('seconds'))}")
    _show_attempts(run)
    say(f"seed      {run.fields.get('seed', '-')}")
    if provenance.get("overrides"):
        say(f"set       {' '.join(provenance['overrides'])}")
    if git.get("commit"):
        say(f"commit    {git['commit'][:12]}{' with changes, see ' + rundir.DIFF if git.get('changed') else ''}")
    error = run.fields.get("error")
    if isinstance(error, dict):
        say(f"error     {error.get('type')}: {error.get('message')}")
        for note in error.get("notes", []):
            say(f"          {note}")
    _show_processes(run)
    metrics = summary.get("metrics", {})
    if metrics:
        say()
        rows = (
            (name, *(number(entry.get(key)) for key in ("last", "min", "max", "count")))
            for name, entry in metrics.items()
        )
        columns(rows, ("METRIC", "LAST", "MIN", "MAX", "COUNT"))
    if figures:
        say("\nPICTURES")
        for figure in figures:
            say(near(figure))


def _checkpoints(run: RunInfo) -> int:
    from ridgepole.checkpoint import CheckpointStore

    with contextlib.suppress(CheckpointError):  # they are there but can't be read: `checkpoints ls` says why
        return len(CheckpointStore(run.path / rundir.CHECKPOINTS).list())
    return 0


def _show_attempts(run: RunInfo) -> None:
    """Says how often a run was resumed, and from where, and how many checkpoints it has."""
    attempts = rundir.read_attempts(run.path)
    for line in attempts if len(attempts) > 1 else ():
        place = "from the beginning"
        if line.get("checkpoint"):
            place = f"from {line['checkpoint']}, step {line.get('step', '-')}"
        say(f"attempt   {line['attempt']}, {when(line.get('time'))} UTC, {place}")
    count = _checkpoints(run)
    if count:
        say(f"kept      {counted(count, 'checkpoint')}, see ridgepole checkpoints ls {run.id}")


def _show_processes(run: RunInfo) -> None:
    rows = [
        (item["name"], item["status"], seconds(item["seconds"]), item["reason"]) for item in rundir.read_processes(run)
    ]
    if rows:
        say()
        columns(rows, ("PROCESS", "STATUS", "TIME", ""))


def _diff(a: RunInfo, b: RunInfo, *, as_json: bool) -> None:
    parts = {
        "config": _differences(a.json(rundir.RESOLVED), b.json(rundir.RESOLVED)),
        "metrics": _differences(_last_values(a), _last_values(b)),
        "code": _differences(_code(a), _code(b)),
        "packages": _differences(
            a.json(rundir.PROVENANCE).get("packages", {}), b.json(rundir.PROVENANCE).get("packages", {})
        ),
    }
    if as_json:
        say_json({"a": a.id, "b": b.id} | parts)
        return
    rows = [(part, row["key"], number(row["a"]), number(row["b"])) for part, found in parts.items() for row in found]
    if rows:
        columns(rows, ("", "KEY", a.id, b.id))
    else:
        say("no differences")


def _code(run: RunInfo) -> dict[str, Any]:
    git = run.json(rundir.PROVENANCE).get("git", {})
    return {key: git.get(key) for key in ("commit", "branch", "changed")} if git else {}


def _last_values(run: RunInfo) -> dict[str, Any]:
    return {name: entry.get("last") for name, entry in _summary(run).get("metrics", {}).items()}


def _differences(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    left, right = dict(flat(a)), dict(flat(b))
    keys = [*left, *(key for key in right if key not in left)]
    return [{"key": key, "a": left.get(key), "b": right.get(key)} for key in keys if left.get(key) != right.get(key)]
