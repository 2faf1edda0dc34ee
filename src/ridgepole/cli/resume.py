"""`ridgepole resume`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ridgepole.cli.attempt import report_attempt
from ridgepole.cli.faults import show_problems
from ridgepole.cli.output import complain, working_directory
from ridgepole.cli.roots import runs_root
from ridgepole.cli.script import resume_script
from ridgepole.launch import is_launched
from ridgepole.mirror.settings import is_url
from ridgepole.pipeline.run.attempt import resume
from ridgepole.pipeline.run.comparison import unfinished
from ridgepole.pipeline.stored_run import load_pipeline
from ridgepole.project import plain_path
from ridgepole.rundir import find_run, read_run


def call(arguments: argparse.Namespace) -> int:
    """Resume a run from its newest checkpoint; start a script again, which may do the same."""
    here = working_directory()  # importing the user's package may change it
    if is_url(arguments.run):
        from ridgepole.mirror.download import fetch_run

        arguments.run = str(fetch_run(arguments.run, Path(arguments.runs_dir or "runs"), complain))
    found = find_run(arguments.run, runs_root(arguments, arguments.run))
    run = read_run(plain_path(found.path))
    if isinstance(run.fields.get("script"), dict):
        return resume_script(run, arguments)
    if not is_launched():  # with several ranks, rank 0 reports problems for all, once they have met
        unfinished(run.path)
    plan = load_pipeline(run, arguments.overrides, complain).plan()
    if plan.warnings:
        show_problems(list(plan.warnings))
    return report_attempt(
        plan,
        lambda announce: resume(
            plan,
            run.path,
            allow=arguments.allow_change,
            which=arguments.start,
            skip_batches=arguments.skip_batches,
            announce=announce,
            warn=complain,
            console=True,
        ),
        here,
        debug=arguments.debug,
    )
