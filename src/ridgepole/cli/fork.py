"""`ridgepole fork`."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ridgepole.cli.attempt import report_attempt
from ridgepole.cli.faults import show_problems
from ridgepole.cli.labels import labels_of
from ridgepole.cli.output import complain, working_directory
from ridgepole.cli.roots import run_and_checkpoint, runs_root
from ridgepole.errors import RunDirError
from ridgepole.pipeline.run.attempt import fork
from ridgepole.pipeline.stored_run import load_pipeline
from ridgepole.project import plain_path
from ridgepole.rundir import find_run, read_run


def call(arguments: argparse.Namespace) -> int:
    """Run a run's pipeline as a new run, from one of its checkpoints."""
    labels = labels_of(arguments)
    here = working_directory()  # importing the user's package may change it
    name, which = run_and_checkpoint(arguments.run)
    run = read_run(plain_path(find_run(name or "latest", runs_root(arguments, name or None)).path))
    if isinstance(run.fields.get("script"), dict):
        raise RunDirError(
            f"run {run.id} is a script's, which restores its own checkpoints; only a pipeline's run can be forked"
        )
    plan = replace(load_pipeline(run, arguments.overrides, complain).plan(), labels=labels)
    if plan.warnings:
        show_problems(list(plan.warnings))
    return report_attempt(
        plan,
        lambda announce: fork(
            plan, run.path, run.path.parent, which=which, announce=announce, say=complain, warn=complain, console=True
        ),
        here,
        debug=arguments.debug,
    )
