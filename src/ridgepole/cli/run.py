"""`ridgepole run`."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.cli.attempt import report_attempt
from ridgepole.cli.faults import show_problems
from ridgepole.cli.labels import labels_of
from ridgepole.cli.output import complain, near, say, working_directory
from ridgepole.cli.script import is_script, run_script
from ridgepole.errors import RunDirError
from ridgepole.pipeline.api import Pipeline
from ridgepole.pipeline.run.attempt import JoinedRanks, resume
from ridgepole.pipeline.run.attempt import run as start
from ridgepole.pipeline.run.comparison import change
from ridgepole.pipeline.run.unfinished import Choice, choose_unfinished, makes_no_progress
from ridgepole.pipeline.spec.plan import Plan
from ridgepole.project import plain_path

if TYPE_CHECKING:
    from ridgepole.pipeline.distributed.coordinator import Coordinator


def call(arguments: argparse.Namespace) -> int:
    """Run a pipeline or a script, and end with one line: its outcome and its directory."""
    if is_script(arguments):
        return run_script(arguments)
    if arguments.arguments:
        raise RunDirError(f"{arguments.file} is a pipeline, which takes -s KEY=VALUE and no arguments behind --")
    if arguments.allow_change:
        raise RunDirError(
            "run --resume takes a run of the same configuration only; "
            f"to change one, write ridgepole resume RUN --allow-change {arguments.allow_change[0]}"
        )
    labels = labels_of(arguments)
    here = working_directory()  # importing the user's package may change it
    given = plain_path(arguments.runs_dir) if arguments.runs_dir else None
    pipeline = Pipeline.from_toml(arguments.file, arguments.overrides)
    root, plan = pipeline.root(given), replace(pipeline.plan(), labels=labels)
    if plan.warnings:
        show_problems(list(plan.warnings))
    if arguments.dry_run:
        _show(plan)
        if arguments.resume:
            _tell_choice(choose_unfinished(root, plan), here)
        return 0
    if not arguments.resume:
        return report_attempt(
            plan, lambda announce: start(plan, root, announce, console=True), here, debug=arguments.debug
        )
    # First: the newest unfinished run changes as soon as one rank resumes it
    with JoinedRanks(root) as ranks:
        run = _run_to_resume(root, plan, here, ranks)
        return report_attempt(
            plan,
            lambda announce: (
                start(plan, root, announce, ranks, console=True)
                if run is None
                else resume(plan, run, announce=announce, warn=complain, coordinator=ranks, console=True)
            ),
            here,
            debug=arguments.debug,
        )


def _run_to_resume(root: Path, plan: Plan, here: Path | None, ranks: Coordinator | None) -> Path | None:
    """Choose the run to resume, and say why none is; rank 0 chooses for all ranks."""
    if ranks is not None and ranks.rank:
        name: str | None = ranks.share("the run to resume")
        return root / name if name else None
    choice = choose_unfinished(root, plan)
    for line in _reasons(choice, here) if choice.run is None else ():
        complain(line)
    stuck = makes_no_progress(choice.run) if choice.run is not None else ""
    if choice.run is not None and stuck:
        run = near(choice.run.path, here)
        raise RunDirError(
            f"{run} makes no progress: {stuck}. Give the job more time, or take checkpoints more often; "
            f"ridgepole resume {shlex.quote(run)} starts it in any case"
        )
    if ranks is not None:
        ranks.share("the run to resume", choice.run.id if choice.run else None)
    return choice.run.path if choice.run else None


def _tell_choice(choice: Choice, here: Path | None) -> None:
    """Say which run `--resume` would resume."""
    if choice.run is not None:
        complain(f"would resume {near(choice.run.path, here)}")
        return
    for line in _reasons(choice, here) or ["no run is unfinished: a new run starts"]:
        complain(line)


def _reasons(choice: Choice, here: Path | None) -> list[str]:
    """Say which runs are not resumed, and why."""
    lines = []
    if choice.running is not None:
        lines.append(f"{near(choice.running.path, here)} is not resumed: it is running ({choice.owner})")
    if choice.different is not None:
        run, pairs = near(choice.different.path, here), list(choice.changes.items())
        shown = ", ".join(f"{key}: {change(*pair)}" for key, pair in pairs[:3])
        more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
        lines.append(f"{run} is not resumed: its configuration differs ({shown}{more})")
        lines.append(f"to resume it as it was: ridgepole resume {shlex.quote(run)}")
    elif choice.finished is not None and not lines:
        lines.append(f"nothing is unfinished: {near(choice.finished.path, here)} has {choice.finished.status}")
    return [*lines, "a new run starts"] if lines else []


def _show(plan: Plan) -> None:
    import tomli_w

    def without_null(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_null(item) for key, item in value.items() if item is not None}
        if isinstance(value, list):
            return [without_null(item) for item in value if item is not None]
        return value

    say(tomli_w.dumps(without_null(plan.resolved())).rstrip())
