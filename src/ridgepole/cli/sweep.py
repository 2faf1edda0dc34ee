"""`ridgepole sweep start|resume|status|best|report`."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ridgepole.cli.faults import exit_code, explain, show_problems
from ridgepole.cli.output import STATUS_COLOURS, columns, complain, near, number, paint, say, say_json, seconds
from ridgepole.sweeps.engine import load_sweep, pipeline_of, resume_sweep, sweep_pipeline
from ridgepole.sweeps.report.axes import masked, printable
from ridgepole.sweeps.result import SweepResult, TrialResult
from ridgepole.sweeps.spec import read_sweep
from ridgepole.sweeps.sweepdir import SweepDir

_ERRORS = 5
"""Of how many failed trials the status says why."""


def call(arguments: argparse.Namespace) -> int:
    """Starts a sweep, lets one go on, or shows what one has come to."""
    if arguments.action == "start":
        return _start(arguments)
    root = Path(arguments.run_dir or "runs")
    if arguments.action == "resume":
        return _conduct(
            lambda: resume_sweep(
                arguments.sweep,
                root=root,
                executor=arguments.executor,
                workers=arguments.workers,
                count=arguments.count,
                overrides=arguments.overrides,
                allow_change=arguments.allow_change,
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


def _start(arguments: argparse.Namespace) -> int:
    spec = read_sweep(arguments.file)
    if spec.warnings:
        show_problems(list(spec.warnings))
    file = pipeline_of(spec, arguments.pipeline)
    root = Path(arguments.run_dir) if arguments.run_dir else file.parent / "runs"
    return _conduct(
        lambda: sweep_pipeline(
            arguments.file,
            file,
            overrides=arguments.overrides,
            root=root,
            executor=arguments.executor,
            workers=arguments.workers,
            count=arguments.count,
        ),
        arguments,
        root,
    )


def _conduct(begin: Callable[[], SweepResult], arguments: argparse.Namespace, root: Path) -> int:
    """Drives a sweep and ends with a line that says how it went and how it goes on."""
    started, code = time.monotonic(), 0
    try:
        # what a trial in this process prints is no part of the result
        with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
            result = begin()
    except BaseException as error:
        name = getattr(error, "sweep_id", None)
        if name is None:
            raise  # nothing was started
        explain(error, debug=arguments.debug)
        code = exit_code(error)
        result = load_sweep(name, root)
    if set(result.counts) == {"failed"}:
        code = code or 1
    took = time.monotonic() - started
    wanted = arguments.report and code in (0, 1)  # after a signal every second counts
    if arguments.json:
        if wanted:
            _page(result)
        say_json(result.as_dict())
        return code
    _close(result, took, root, failed=code != 0)
    page = _page(result) if wanted else None
    if page is not None:
        (complain if code else say)(f"report: {near(page)}")
    return code


def _page(result: SweepResult) -> Path | None:
    """Writes the page of a sweep that has ended; one that can't be written changes nothing about how it went."""
    try:
        return result.report(pictures=False)[0]
    except Exception as error:  # noqa: BLE001 - whatever it is, the sweep has ended well
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
        complain("the page alone: pictures need matplotlib: pip install 'ridgepole[plots]'")
    return 0


def _close(result: SweepResult, took: float, root: Path, *, failed: bool) -> None:
    best = result.best
    parts = [f"{result.status} in {seconds(took)}", _counted(result)]
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
    if len(result.trials) < result.limit or {"running", "waiting"} & set(result.counts):
        complain(f"go on with: ridgepole sweep resume {result.id}{_where(root)}")


def _where(root: Path) -> str:
    return "" if root.absolute() == Path("runs").absolute() else f" --run-dir {shlex.quote(near(root))}"


def _counted(result: SweepResult) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in result.counts.items())
    return f"{len(result.trials)} of {max(result.limit, len(result.trials))} trials{f' ({counts})' if counts else ''}"


def _show(result: SweepResult) -> None:
    say(f"sweep     {result.id}{f'  {result.name}' if result.name else ''}")
    reason = result.reason if result.reason != result.status else ""
    say(f"status    {result.status}{f': {reason}' if reason else ''}")
    if result.metric is not None:
        say(f"metric    {result.metric.name}, {result.metric.goal}")
    say(f"trials    {_counted(result)}")
    page = SweepDir(result.path).page
    if page is not None:
        say(f"report    {near(page)}")
    if not result.trials:
        return
    say()
    names = list(dict.fromkeys(name for trial in result.trials for name in trial.params))
    best = result.best
    rows = [_row(trial, names, is_best=trial is best) for trial in result.trials]
    colours = STATUS_COLOURS | {"waiting": "yellow", "stopped": "yellow"}
    columns(rows, ("TRIAL", "STATUS", "VALUE", *names, "TIME", "RUN"), colours)
    failed = [trial for trial in result.trials if trial.status == "failed"]
    if failed:
        say()
    for trial in failed[:_ERRORS]:
        say(f"trial {trial.number} failed: {printable(trial.error.partition(chr(10))[0])}")
    if len(failed) > _ERRORS:
        say(f"and {len(failed) - _ERRORS} more: --json has all")


def _row(trial: TrialResult, names: list[str], *, is_best: bool) -> tuple[str, ...]:
    value = trial.value if trial.value is not None else trial.latest
    return (
        f"{trial.number}{'*' if is_best else ''}",
        trial.status,
        number(value),
        *(_cell(masked(name, trial.params.get(name))) for name in names),
        seconds(trial.seconds),
        trial.run or "-",
    )


def _cell(value: Any) -> str:
    text = printable(number(value))
    return text if len(text) <= 24 else f"{text[:23]}…"


def _best(result: SweepResult, *, as_json: bool) -> int:
    best = result.best
    if as_json:
        told = None if best is None else best.as_dict()
        settings = [] if best is None else result.settings(best)
        say_json({"sweep": result.id, "trial": told, "settings": settings, "command": result.command()})
        return 0
    if best is None:
        say(f"no trial of sweep {result.id} has finished with a value: {_counted(result)}")
        return 0
    name = result.metric.name if result.metric is not None else "value"
    width = max(9, len(name))
    say(f"{'trial':<{width}} {best.number} of sweep {result.id}")
    say(f"{name:<{width}} {number(best.value)}")
    if best.run:
        say(f"{'run':<{width}} {best.run}")
    say()
    shown = replace(best, params={key: masked(key, value) for key, value in best.params.items()})
    for line in result.settings(shown):
        say(f"-s {shlex.quote(line)}")
    if result.command(shown):
        say(f"\n{result.command(shown)}")
    return 0
