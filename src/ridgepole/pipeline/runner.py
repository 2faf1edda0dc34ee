"""One run from start to end: directory, provenance, permanences, processes, clean-up, final status."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.checkpoint.rng import draw_seed, seeded
from ridgepole.errors import TrialPruned, join_errors
from ridgepole.permanence import current_run, global_rank
from ridgepole.pipeline.checkpoints import Resumption, newest_resumption
from ridgepole.pipeline.comparison import changed_code, check_config, unfinished
from ridgepole.pipeline.controller import Controller
from ridgepole.pipeline.executor import Executor
from ridgepole.pipeline.outcome import Outcome
from ridgepole.pipeline.plan import Plan
from ridgepole.pipeline.record import Record
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.rundir import RunDir


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that finished.

    Attributes:
        id: The run id.
        path: The run directory.
        status: `"finished"`.
        seconds: Wall time.
        metrics: What the logger's summary says of each metric, as in `summary.json`.
        processes: How each process went.
    """

    id: str
    path: Path
    status: str
    seconds: float
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    processes: Sequence[Outcome] = ()


def run(plan: Plan, root: Path, announce: Callable[[Path], None] | None = None) -> RunResult:
    """Runs a plan in a directory of its own below a root.

    Args:
        plan: What to run.
        root: The directory that holds runs.
        announce: Is told the run directory as soon as it exists.

    Returns:
        The result.

    Raises:
        RunDirError: If the run directory can't be made or written.
        BaseException: What the run failed with, unchanged but for notes of where.
    """
    seed = draw_seed() if plan.settings.seed is None else plan.settings.seed
    # One run, however many ranks: what the others must keep for themselves is no run of its own.
    directory = RunDir.create(root / rundir.RANKS if global_rank() else root)
    return _attempt(plan, directory, seed, None, announce)


def resume(
    plan: Plan,
    path: Path,
    *,
    allow: Sequence[str] = (),
    announce: Callable[[Path], None] | None = None,
    warn: Callable[[str], None] = lambda _line: None,
) -> RunResult:
    """Lets a run go on from its newest checkpoint, in a new attempt.

    Args:
        plan: The pipeline as it is described today.
        path: The run directory.
        allow: Keys of the resolved description that may differ from the stored one, such as
            `processes.train.params.epochs`; a shorter one stands for all below it.
        announce: Is told the run directory before anything runs.
        warn: Is told what has changed in the user's code.

    Returns:
        The result.

    Raises:
        RunDirError: If it is no run, has finished, runs elsewhere, or can't be written.
        ConfigError: If the description differs from the stored one; the message shows how.
        CheckpointError: If a checkpoint was written by a newer Ridgepole.
        BaseException: What the run failed with, unchanged but for notes of where.
    """
    stored = unfinished(path)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(contextlib.closing(RunDir.reopen(stored.path)))
        stored = unfinished(path, owned=True)  # who owned it a moment ago may have finished it
        seed = int(stored.fields.get("seed", 0)) if plan.settings.seed is None else plan.settings.seed
        check_config(stored, plan.resolved(seed), allow)
        for line in changed_code(stored, plan):
            warn(line)
        resumption = newest_resumption(stored.path, int(stored.fields.get("attempt", 1)) + 1)
        stack.pop_all()  # from here on the attempt gives the ownership back
    return _attempt(plan, directory, seed, resumption, announce)


def _attempt(
    plan: Plan,
    directory: RunDir,
    seed: int,
    resumption: Resumption | None,
    announce: Callable[[Path], None] | None,
) -> RunResult:
    clock = time.monotonic()
    config = plan.resolved(seed)
    errors: list[BaseException] = []
    outcomes: list[Outcome] = []
    guard = SignalGuard(plan.settings.grace_seconds)
    with contextlib.closing(directory), guard.installed():
        record = Record(plan, directory, seed, resumption)
        late = False
        try:
            if announce is not None:
                announce(directory.path)
            record.start(config)
            controller = Controller(plan, directory.path, config, seed, guard, resumption)
            executor = Executor(plan, controller, guard)
            outcomes = controller.outcomes
            with seeded(seed, deterministic=plan.settings.deterministic):
                errors, late = _live(controller, executor)
        except BaseException as error:
            if record.is_forked:
                raise
            errors.append(error)
        status = _status(errors, failed_in_cleanup=late)
        try:
            record.end(status, errors, outcomes)
        except OSError as error:
            errors.append(error)
    if errors:
        raise join_errors(errors, f"run {directory.id} failed, and so did its clean-up")
    metrics = rundir.read_run(directory.path).json(rundir.SUMMARY).get("metrics", {})
    return RunResult(directory.id, directory.path, status, time.monotonic() - clock, metrics, outcomes)


def _live(controller: Controller, executor: Executor) -> tuple[list[BaseException], bool]:
    """The part of a run in which permanences exist. Returns its errors, and whether only the clean-up had any."""
    pid = os.getpid()
    token = current_run.set(controller)
    errors: list[BaseException] = []
    try:
        try:
            controller.open()
            executor.run()
        except BaseException as error:
            if os.getpid() != pid:  # a forked child that leaves by an exception: all of this is its parent's
                raise
            errors.append(error)
        controller.failed = bool(errors)
        late = controller.close()
    finally:
        current_run.reset(token)
    return errors + late, not errors and bool(late)


def _status(errors: Sequence[BaseException], *, failed_in_cleanup: bool) -> str:
    if not errors:
        return "finished"
    if failed_in_cleanup:
        return "finished_with_cleanup_errors"
    first = errors[0]
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, TrialPruned):
        return "pruned"
    if isinstance(first, SystemExit) and not first.code:
        return "interrupted"  # the user's own code ended the run, and called it no failure
    return "interrupted" if isinstance(first, KeyboardInterrupt) else "failed"
