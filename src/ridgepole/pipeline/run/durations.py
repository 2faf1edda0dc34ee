"""Find out how long the processes of a pipeline took last time."""

from __future__ import annotations

import itertools
from pathlib import Path

from ridgepole import project, rundir
from ridgepole.pipeline.spec.plan import Plan
from ridgepole.rundir import RunInfo

SEARCHED_RUNS = 100


def expected_seconds(plan: Plan, run_dir: Path) -> list[float] | None:
    """Return the seconds that each process of a plan took last time.

    They are those of the newest run of the same pipeline that finished in one attempt: a resumed
    run records only what its last attempt took.

    Args:
        plan: The plan.
        run_dir: The directory of the run that begins.

    Returns:
        A number for each process; None if that run lacks one of them, or does not exist among the
        newest `SEARCHED_RUNS`.
    """
    for run in itertools.islice(rundir.list_runs(run_dir.parent), SEARCHED_RUNS):
        if run.status == "finished" and run.fields.get("attempt") == 1 and _is_of_plan(run, plan):
            took = _seconds(run)
            known = all(process.name in took for process in plan.processes)
            return [took[process.name] for process in plan.processes] if known else None
    return None


def _is_of_plan(run: RunInfo, plan: Plan) -> bool:
    root = run.path.parent
    if plan.file is not None:
        return project.is_of_file(run.fields, root, plan.file)
    place = project.describe(None, plan.directory, root) | {"pipeline": plan.settings.name}
    return all(run.fields.get(key) == value for key, value in place.items())


def _seconds(run: RunInfo) -> dict[str, float]:
    found = {}
    for process in rundir.read_processes(run):
        seconds = process.get("seconds")
        if isinstance(seconds, int | float):
            found[str(process.get("name"))] = float(seconds)
    return found
