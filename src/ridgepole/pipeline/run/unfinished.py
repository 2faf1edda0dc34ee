"""Choose the run that `run --resume` continues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgepole import project, rundir
from ridgepole.files import Flock
from ridgepole.pipeline.lifecycle.checkpointing import where_to_resume
from ridgepole.pipeline.run.comparison import changes, has_begun
from ridgepole.pipeline.spec.plan import Plan
from ridgepole.rundir import UNFINISHED, RunInfo, list_runs


@dataclass(slots=True)
class Choice:
    """The run to resume, and the runs of the same file that were not chosen.

    Attributes:
        run: The newest unfinished run of this file and configuration; None starts a new one.
        different: The newest unfinished run of another configuration, if no run is resumed.
        changes: What differs there: old and new value by key.
        running: A run of this configuration that is running, if no run is resumed.
        owner: The process that owns it.
        finished: The newest finished run of this file, if nothing of it is unfinished.
    """

    run: RunInfo | None = None
    different: RunInfo | None = None
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    running: RunInfo | None = None
    owner: str = ""
    finished: RunInfo | None = None


def choose_unfinished(root: Path, plan: Plan) -> Choice:
    """Find the newest unfinished run of a plan's file and configuration.

    Trials of a sweep are left to the sweep.

    Args:
        root: The directory that holds runs.
        plan: The plan, from a file.
    """
    choice = Choice()
    for run in list_runs(root):
        if plan.file is None or run.fields.get("sweep") or not project.is_of_file(run.fields, root, plan.file):
            continue
        if run.status not in ("running", *UNFINISHED):
            choice.finished = choice.finished or run
        elif has_begun(run):
            found = changes(run.json(rundir.RESOLVED), plan.resolved(_seed(run, plan)), plan.environ)
            if run.status == "running":
                if not found and choice.running is None:
                    choice.running, choice.owner = run, Flock(run.path / rundir.OWNER).who()
            elif not found:
                return Choice(run)
            elif choice.different is None:
                choice.different, choice.changes = run, found
    return choice


def _seed(run: RunInfo, plan: Plan) -> Any:
    return run.fields.get("seed") if plan.settings.seed is None else plan.settings.seed


def makes_no_progress(run: RunInfo) -> str:
    """Return why starting a job again for a run would only repeat work, or "".

    It would if the last two attempts began where the next one would begin, came further, and were
    stopped by a signal other than Ctrl-C before they left anything to resume from.
    """
    found, reason = where_to_resume(run.path)
    here = (0, 0) if found is None else ((found.meta or {}).get("position"), found.step)
    begun = {line["attempt"]: line for line in rundir.read_attempts(run.path)}
    ended = run.fields.get("attempts") or []
    for each in ended[-2:]:
        line = begun.get(each.get("attempt"), {})
        start = (line.get("position", 0 if not line.get("checkpoint") else None), line.get("step") or 0)
        if start != here or "signal" not in each or not each.get("step", 0) > here[1]:
            return ""
    if len(ended) < 2:
        return ""
    signals = " and ".join(dict.fromkeys(str(each["signal"]) for each in ended[-2:]))
    steps = ", ".join(str(each["step"]) for each in ended[-2:])
    return (
        f"its last two attempts began at step {here[1]}, came to step {steps}, and were stopped by {signals} with "
        f"nothing to resume from{'; ' + reason if reason else ''}"
    )
