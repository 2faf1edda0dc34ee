"""`ridgepole resume`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ridgepole.cli.faults import show_problems
from ridgepole.cli.output import complain
from ridgepole.cli.run import conduct
from ridgepole.launch import is_launched
from ridgepole.pipeline.comparison import has_begun, unfinished
from ridgepole.pipeline.reopen import pipeline_of
from ridgepole.pipeline.runner import resume
from ridgepole.rundir import RunInfo, find_run, list_runs, read_run

if TYPE_CHECKING:
    from ridgepole.pipeline.ranks.team import Team


def call(arguments: argparse.Namespace) -> int:
    """Lets a run go on from its newest checkpoint."""
    return go_on(find_run(arguments.run, Path(arguments.run_dir or "runs")), arguments)


def go_on(run: RunInfo, arguments: argparse.Namespace, team: Team | None = None) -> int:
    """Resumes a run and says how it went; together with the ranks that have met already, if any."""
    if not is_launched():  # of several ranks, rank 0 says for all what is wrong, once they have met
        unfinished(run.path)
    plan = pipeline_of(run, arguments.overrides if arguments.verb == "resume" else ()).plan()
    if plan.warnings:
        show_problems(list(plan.warnings))
    return conduct(
        plan,
        lambda announce: resume(
            plan, run.path, allow=arguments.allow_change, announce=announce, warn=complain, team=team
        ),
        debug=arguments.debug,
    )


def newest_unfinished(root: Path, file: Path, team: Team | None = None) -> RunInfo | None:
    """The newest run of a pipeline's file that can go on, by rank 0's choice; trials of a sweep are left to it."""
    if team is not None:
        found = None if team.rank else newest_unfinished(root, file)
        name = team.share("the run to resume", found and found.id)
        return name and read_run(root / name)
    for run in list_runs(root):
        mine = run.fields.get("file") == str(file.absolute())
        stopped = run.status in ("failed", "interrupted", "crashed") and has_begun(run)
        if mine and stopped and not run.fields.get("sweep"):
            return run
    return None
