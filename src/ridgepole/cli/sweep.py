"""`ridgepole sweep start|resume|ls|status|best|report`."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ridgepole.cli.faults import exit_code, explain, show_problems
from ridgepole.cli.output import (
    STATUS_COLOURS,
    columns,
    complain,
    near,
    number,
    paint,
    say,
    say_json,
    seconds,
    when,
)
from ridgepole.cli.roots import runs_root
from ridgepole.errors import RunDirError, SweepError
from ridgepole.extras import install_command
from ridgepole.sweeps.api import load_sweep, pipeline_of, resume_sweep, sweep_pipeline, sweep_program
from ridgepole.sweeps.edit import edit_sweep
from ridgepole.sweeps.report.axes import masked, printable
from ridgepole.sweeps.result import NO_METRIC, SweepResult
from ridgepole.sweeps.run.program import program_of
from ridgepole.sweeps.spec.spec import read_sweep
from ridgepole.sweeps.study.outcome import TrialResult
from ridgepole.sweeps.sweepdir import SweepDir, list_sweeps

_ERRORS = 5
"""The number of failed trials whose errors the status shows."""


def call(arguments: argparse.Namespace) -> int:
    """Start, resume, list, show or report sweeps."""
    if arguments.action == "start":
        return _start(arguments)
    root = runs_root(arguments, *([] if arguments.action == "ls" else [arguments.sweep]))
    if arguments.action == "ls":
        _list(root, as_json=arguments.json)
        return 0
    if arguments.action == "edit":
        return _edit(arguments, root)
    if arguments.action in ("resume", "retry"):
        if arguments.action == "resume" and arguments.max_trials is None:
            _tell_finished(load_sweep(arguments.sweep, root), root)
        return _drive(
            lambda on_start: resume_sweep(
                arguments.sweep,
                root=root,
                executor=arguments.executor,
                workers=arguments.workers,
                count=arguments.max_trials,
                overrides=arguments.overrides,
                allow_change=arguments.allow_change,
                on_start=on_start,
                retry=arguments.trials if arguments.action == "retry" else None,
            ),
            arguments,
            root,
        )
    result = load_sweep(arguments.sweep, root)
    if arguments.action == "best":
        return _best(result, as_json=arguments.json)
    if arguments.action == "report":
        return _report(result, arguments.output, as_json=arguments.json)
    if arguments.json:
        say_json(result.as_dict())
    else:
        _show(result)
    return 0


def _tell_finished(result: SweepResult, root: Path) -> None:
    """Say what can be done with a sweep that has nothing left to resume."""
    if result.status == "finished" and sum(result.counts.values()) - result.counts.get("retried", 0) >= result.limit:
        complain(f"sweep {result.id} has finished: there is nothing to resume")
        complain(f"give it more trials: ridgepole sweep edit {result.id} --max-trials N{_where(root)}")
        if "failed" in result.counts:
            complain(f"run failed ones again: ridgepole sweep retry {result.id}{_where(root)}")


def _edit(arguments: argparse.Namespace, root: Path) -> int:
    lines = edit_sweep(
        arguments.sweep, arguments.overrides, root=root, count=arguments.max_trials, note=arguments.note or ""
    )
    if arguments.json:
        say_json(lines)
    else:
        for line in lines:
            say(line)
        complain(f"continue with: ridgepole sweep resume{_where(root)}")
    return 0


def _list(root: Path, *, as_json: bool) -> None:
    """List the sweeps below a run root, newest first; skip those that can't be read."""
    rows = []
    for directory in list_sweeps(root):
        try:
            rows.append(_summary(load_sweep(str(directory.path)), directory.record().get("created")))
        except (SweepError, RunDirError) as error:
            complain(f"sweep {directory.id} can't be read: {error}")
    if as_json:
        say_json(rows)
        return
    if not rows:
        say(f"no sweeps in {root}")
        return
    shown = (
        (
            row["id"],
            row["name"] or "-",
            row["status"],
            when(row["started"]),
            f"{row['trials']}/{row['limit']}" + (f" ({row['failed']} failed)" if row["failed"] else ""),
            f"{row['metric'] or 'value'} {number(row['best'])}" if row["best"] is not None else "-",
        )
        for row in rows
    )
    columns(shown, ("SWEEP", "NAME", "STATUS", "STARTED (UTC)", "TRIALS", "BEST"), STATUS_COLOURS)


def _summary(result: SweepResult, started: Any) -> dict[str, Any]:
    best = result.best
    return {
        "id": result.id,
        "name": result.name,
        "status": result.status,
        "started": started,
        "trials": len(result.trials),
        "limit": result.limit,
        "failed": result.counts.get("failed", 0),
        "metric": None if result.metric is None else result.metric.name,
        "best": None if best is None else best.value,
        "path": str(result.path),
    }


def _start(arguments: argparse.Namespace) -> int:
    spec = read_sweep(arguments.file)
    if spec.warnings:
        show_problems(list(spec.warnings))
    if arguments.pipeline is None and program_of(spec) is not None:
        return _start_program(arguments)
    file = pipeline_of(spec, arguments.pipeline)
    root = Path(arguments.runs_dir) if arguments.runs_dir else file.parent / "runs"
    return _drive(
        lambda on_start: sweep_pipeline(
            arguments.file,
            file,
            overrides=arguments.overrides,
            root=root,
            executor=arguments.executor,
            workers=arguments.workers,
            count=arguments.max_trials,
            on_start=on_start,
        ),
        arguments,
        root,
    )


def _start_program(arguments: argparse.Namespace) -> int:
    if arguments.overrides:
        raise SweepError("-s overrides a pipeline's values, and this sweep runs a program")
    root = Path(arguments.runs_dir) if arguments.runs_dir else runs_root(arguments)
    return _drive(
        lambda on_start: sweep_program(
            arguments.file,
            root=root,
            executor=arguments.executor,
            workers=arguments.workers,
            count=arguments.max_trials,
            on_start=on_start,
        ),
        arguments,
        root,
    )


def _drive(begin: Callable[[Callable[[str], None]], SweepResult], arguments: argparse.Namespace, root: Path) -> int:
    """Run a sweep, and end with one line: its outcome, and how to resume it."""
    code = 0
    begun: list[str] = []
    try:
        # a trial in this process may print, which is not part of the result
        with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
            result = begin(begun.append)
    except BaseException as error:
        if not begun:
            raise  # nothing was started
        explain(error, debug=arguments.debug)
        code = exit_code(error)
        result = load_sweep(begun[0], root)
    if set(result.counts) == {"failed"}:
        code = code or 1
    wanted = arguments.report and code in (0, 1)  # after a signal every second counts
    if arguments.json:
        if wanted:
            _page(result)
        say_json(result.as_dict())
        return code
    _close(result, root, failed=code != 0)
    page = _page(result) if wanted else None
    if page is not None:
        (complain if code else say)(f"report: {near(page)}")
    return code


def _page(result: SweepResult) -> Path | None:
    """Write the page of a sweep that has ended; warn if it can't be written."""
    try:
        return result.report(pictures=False)[0]
    except Exception as error:  # noqa: BLE001 - the sweep has ended, with or without a page
        reason = str(error).partition("\n")[0] or type(error).__name__
        complain(f"{paint('warning', 'yellow', sys.stderr)}: no report was written: {reason}")
        return None


def _report(result: SweepResult, output: str | None, *, as_json: bool) -> int:
    written = result.report(output)
    if as_json:
        say_json({"sweep": result.id, "files": [str(path.absolute()) for path in written]})
    else:
        for path in written:
            say(near(path))
    if len(written) == 1:
        complain(f"the page alone: pictures need matplotlib: {install_command('plots')}")
    return 0


def _close(result: SweepResult, root: Path, *, failed: bool) -> None:
    best = result.best
    took = "" if result.seconds is None else f" in {seconds(result.seconds)}"
    all_failed = set(result.counts) == {"failed"}
    parts = [f"{'no trial finished' if all_failed else result.status}{took}", _counted(result)]
    if best is not None and best.value is not None and result.metric is not None:
        parts.append(f"best {result.metric.name} {number(best.value)} (trial {best.number})")
    parts.append(near(result.path))
    line = " · ".join(parts)
    if not failed:
        say(line)
        if result.reason:
            say(f"ended early: {result.reason}")
        return
    complain(paint(line, "red", sys.stderr))
    if result.reason == NO_METRIC:
        complain("correct the file and start a new sweep: a resume runs the stored one")
    elif len(result.trials) < result.limit or {"running", "waiting"} & set(result.counts):
        complain(f"resume with: ridgepole sweep resume {result.id}{_where(root)}")
    elif all_failed:
        complain(f"run failed ones again: ridgepole sweep retry {result.id}{_where(root)}")


def _where(root: Path) -> str:
    return "" if root.absolute() == Path("runs").absolute() else f" --runs-dir {shlex.quote(near(root))}"


def _counted(result: SweepResult) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in result.counts.items())
    return f"{len(result.trials)} of {max(result.limit, len(result.trials))} trials{f' ({counts})' if counts else ''}"


def _show(result: SweepResult) -> None:
    say(f"sweep     {result.id}{f'  {result.name}' if result.name else ''}")
    reason = result.reason if result.reason != result.status else ""
    say(f"status    {result.status}{f': {reason}' if reason else ''}")
    if result.metric is not None:
        say(f"metric    {result.metric.name}, {result.metric.goal}")
    for metric in result.metrics:
        say(f"metric    {metric.name}, {metric.goal}")
    say(f"trials    {_counted(result)}")
    for change in SweepDir(result.path).record().get("history", ()):
        note = f": {change['note']}" if change.get("note") else ""
        say(f"changed   {when(change['time'])}  {', '.join(change['changes'])}{note}")
    page = SweepDir(result.path).page
    if page is not None:
        say(f"report    {near(page)}")
    if not result.trials:
        return
    say()
    names = list(dict.fromkeys(name for trial in result.trials for name in trial.params))
    best = result.pareto if result.metrics else [result.best]
    metrics = [metric.name for metric in result.metrics]
    rows = [_row(trial, names, metrics, is_best=any(trial is each for each in best)) for trial in result.trials]
    colours = STATUS_COLOURS | {"waiting": "yellow", "stopped": "yellow", "retried": "yellow"}
    columns(rows, ("TRIAL", "STATUS", *(metrics or ["VALUE"]), *names, "TIME", "RUN"), colours)
    failed = [trial for trial in result.trials if trial.status == "failed"]
    if failed:
        say()
    for trial in failed[:_ERRORS]:
        say(f"trial {trial.number} failed: {printable(trial.error.partition(chr(10))[0])}")
    if len(failed) > _ERRORS:
        say(f"and {len(failed) - _ERRORS} more: --json has all")


def _row(trial: TrialResult, names: list[str], metrics: list[str], *, is_best: bool) -> tuple[str, ...]:
    one = trial.value if trial.value is not None else trial.latest
    values = [trial.values.get(name) for name in metrics] if metrics else [one]
    return (
        f"{trial.number}{'*' if is_best else ''}",
        trial.status,
        *map(number, values),
        *(_cell(masked(name, trial.params[name])) if name in trial.params else "-" for name in names),
        seconds(trial.seconds),
        trial.run or "-",
    )


def _cell(value: Any) -> str:
    """Format a parameter as its file has it: plain text, or JSON."""
    plain = isinstance(value, str | float)
    text = printable(number(value) if plain else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 24 else f"{text[:23]}…"


def _best(result: SweepResult, *, as_json: bool) -> int:
    if result.metrics:
        return _pareto(result, as_json=as_json)
    best = result.best
    if as_json:
        told = None if best is None else best.as_dict()
        settings = [] if best is None else result.settings(best)
        say_json({"sweep": result.id, "trial": told, "settings": settings, "command": result.command()})
        return 0 if best is not None else 1
    if best is None:
        say(f"no trial of sweep {result.id} has finished with a value: {_counted(result)}")
        return 1
    name = result.metric.name if result.metric is not None else "value"
    width = max(9, len(name))
    say(f"{'trial':<{width}} {best.number} of sweep {result.id}")
    say(f"{name:<{width}} {number(best.value)}")
    if best.run:
        say(f"{'run':<{width}} {best.run}")
    shown = replace(best, params={key: masked(key, value) for key, value in best.params.items()})
    settings = result.settings(shown)
    if settings:
        say()
    for line in settings:
        say(f"-s {shlex.quote(line)}")
    if result.command(shown):
        say(f"\n{result.command(shown)}")
    return 0


def _pareto(result: SweepResult, *, as_json: bool) -> int:
    """Show the trials that no other one beats in all metrics, best first by the first metric."""
    first = result.metrics[0]
    front = sorted(result.pareto, key=lambda trial: first.sign * trial.values[first.name])
    if as_json:
        told = [
            {"trial": trial.as_dict(), "settings": result.settings(trial), "command": result.command(trial)}
            for trial in front
        ]
        say_json({"sweep": result.id, "pareto": told})
        return 0 if front else 1
    if not front:
        say(f"no trial of sweep {result.id} has finished with a value: {_counted(result)}")
        return 1
    metrics = [metric.name for metric in result.metrics]
    names = list(dict.fromkeys(name for trial in front for name in trial.params))
    columns(
        [_row(trial, names, metrics, is_best=False) for trial in front],
        ("TRIAL", "STATUS", *metrics, *names, "TIME", "RUN"),
        STATUS_COLOURS,
    )
    for trial in front:
        shown = replace(trial, params={key: masked(key, value) for key, value in trial.params.items()})
        if result.command(shown):
            say(f"\ntrial {trial.number}: {result.command(shown)}")
    return 0
