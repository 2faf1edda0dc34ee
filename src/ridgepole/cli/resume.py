"""`ridgepole resume`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ridgepole.cli.faults import show_problems
from ridgepole.cli.output import complain
from ridgepole.cli.run import conduct
from ridgepole.pipeline.comparison import has_begun, unfinished
from ridgepole.pipeline.reopen import pipeline_of
from ridgepole.pipeline.runner import resume
from ridgepole.rundir import RunInfo, find_run, list_runs


def call(arguments: argparse.Namespace) -> int:
    """Lets a run go on from its newest checkpoint."""
    return go_on(find_run(arguments.run, Path(arguments.run_dir or "runs")), arguments)


def go_on(run: RunInfo, arguments: argparse.Namespace) -> int:
    """Resumes a run and says how it went."""
    unfinished(run.path)
    plan = pipeline_of(run, arguments.overrides if arguments.verb == "resume" else ()).plan()
    if plan.warnings:
        show_problems(list(plan.warnings))
    return conduct(
        plan,
        lambda announce: resume(plan, run.path, allow=arguments.allow_change, announce=announce, warn=complain),
        debug=arguments.debug,
    )


def newest_unfinished(root: Path, file: Path) -> RunInfo | None:
    """The newest run of a pipeline's file that can go on; trials of a sweep are left to it."""
    for run in list_runs(root):
        mine = run.fields.get("file") == str(file.absolute())
        stopped = run.status in ("failed", "interrupted", "crashed") and has_begun(run)
        if mine and stopped and not run.fields.get("sweep"):
            return run
    return None
