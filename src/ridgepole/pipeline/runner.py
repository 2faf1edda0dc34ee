"""One run from start to end: directory, provenance, permanences, processes, clean-up, final status."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ridgepole import rundir
from ridgepole.checkpoint.rng import draw_seed, seeded
from ridgepole.errors import TrialPruned, join_errors
from ridgepole.launch import is_launched
from ridgepole.permanence import current_run
from ridgepole.pipeline.checkpoints import Resumption, newest_resumption, resumption_of
from ridgepole.pipeline.comparison import changed_code, check_config, check_place, unfinished
from ridgepole.pipeline.controller import Controller
from ridgepole.pipeline.executor import Executor
from ridgepole.pipeline.outcome import Outcome
from ridgepole.pipeline.plan import Plan
from ridgepole.pipeline.record import Record
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.rundir import RunDir

if TYPE_CHECKING:
    from ridgepole.pipeline.ranks.team import Team


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


def run(plan: Plan, root: Path, announce: Callable[[Path], None] | None = None, team: Team | None = None) -> RunResult:
    """Runs a plan in a directory of its own below a root.

    Args:
        plan: What to run.
        root: The directory that holds runs.
        announce: Is told the run directory as soon as it exists.
        team: The ranks of this launch, where they have met already.

    Returns:
        The result.

    Raises:
        RunDirError: If the run directory can't be made or written.
        RankError: If another rank of a distributed run failed or did not come.
        BaseException: What the run failed with, unchanged but for notes of where.
    """

    def begin() -> Beginning:
        seed = draw_seed() if plan.settings.seed is None else plan.settings.seed
        return Beginning(RunDir.create(root), seed)

    with Joined(root, team) as ranks:
        return _attempt(plan, _begun(begin, root.absolute(), ranks), announce, ranks)


def resume(
    plan: Plan,
    path: Path,
    *,
    allow: Sequence[str] = (),
    announce: Callable[[Path], None] | None = None,
    warn: Callable[[str], None] = lambda _line: None,
    team: Team | None = None,
) -> RunResult:
    """Lets a run go on from its newest checkpoint, in a new attempt.

    Args:
        plan: The pipeline as it is described today.
        path: The run directory.
        allow: Keys of the resolved description that may differ from the stored one, such as
            `processes.train.params.epochs`; a shorter one stands for all below it.
        announce: Is told the run directory before anything runs.
        warn: Is told what has changed in the user's code.
        team: The ranks of this launch, where they have met already.

    Returns:
        The result.

    Raises:
        RunDirError: If it is no run, has finished, runs elsewhere, or can't be written.
        ConfigError: If the description differs from the stored one; the message shows how.
        CheckpointError: If a checkpoint was written by a newer Ridgepole, or another number of ranks.
        RankError: If another rank of a distributed run failed or did not come.
        BaseException: What the run failed with, unchanged but for notes of where.
    """
    with Joined(path.absolute().parent, team) as ranks:

        def begin() -> Beginning:
            return _reopened(plan, path, allow, warn, 1 if ranks is None else ranks.size)

        return _attempt(plan, _begun(begin, path.absolute().parent, ranks), announce, ranks)


def _reopened(plan: Plan, path: Path, allow: Sequence[str], warn: Callable[[str], None], size: int) -> Beginning:
    stored = unfinished(path)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(contextlib.closing(RunDir.reopen(stored.path)))
        stored = unfinished(path)  # who owned it a moment ago may have finished it
        seed = int(stored.fields.get("seed", 0)) if plan.settings.seed is None else plan.settings.seed
        check_config(stored, plan.resolved(seed), allow)
        resumption = newest_resumption(stored.path, int(stored.fields.get("attempt", 1)) + 1, size)
        check_place(stored, plan, resumption)
        for line in changed_code(stored, plan):
            warn(line)
        stack.pop_all()  # from here on the attempt gives the ownership back
    return Beginning(directory, seed, resumption)


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where an attempt begins.

    Attributes:
        directory: The run directory.
        seed: The seed in use.
        resumption: Where it goes on; None for a fresh run.
    """

    directory: RunDir
    seed: int
    resumption: Resumption | None = None


class Joined:
    """The ranks of this launch, for as long as the block lasts; None where this process is alone.

    A class rather than a generator: `contextlib` sets attributes of the exceptions that pass through, and a user's
    exception may refuse that.

    Args:
        root: The directory that holds runs, which all ranks see.
        team: The ranks, where they have met already.
    """

    def __init__(self, root: Path, team: Team | None = None) -> None:
        self._root, self._team = root, team
        self._met: Team | None = None

    def __enter__(self) -> Team | None:
        """Meets them.

        Raises:
            RankError: If not all of them came.
            RunDirError: If nothing can be written to the directory.
        """
        if self._team is not None or not is_launched():
            return self._team
        from ridgepole.pipeline.ranks.meeting import meet  # nothing of it is imported for a process alone

        self._met = meet(self._root)
        return self._met

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._met is not None:
            self._met.end(error)


def _begun(begin: Callable[[], Beginning], root: Path, team: Team | None) -> Beginning:
    """Begins an attempt, on rank 0 alone where there are several: the others take over what it has decided."""
    if team is None:
        return begin()
    if team.rank:
        told = team.share("the beginning of the run")
        directory = RunDir(root / told["run"])  # which rank 0 owns
        resumption = None
        if told["attempt"] is not None:
            resumption = resumption_of(directory.path, told["attempt"], told["checkpoint"], team.rank)
        return Beginning(directory, told["seed"], resumption)
    begun = begin()
    told = {"run": begun.directory.id, "seed": begun.seed, "attempt": None, "checkpoint": None}
    if begun.resumption is not None:
        told |= {"attempt": begun.resumption.attempt, "checkpoint": begun.resumption.name}
    team.share("the beginning of the run", told)
    return begun


def _attempt(plan: Plan, beginning: Beginning, announce: Callable[[Path], None] | None, team: Team | None) -> RunResult:
    clock = time.monotonic()
    directory, seed, resumption = beginning.directory, beginning.seed, beginning.resumption
    config = plan.resolved(seed)
    errors: list[BaseException] = []
    outcomes: list[Outcome] = []
    guard = SignalGuard(plan.settings.grace_seconds)
    with contextlib.closing(directory), guard.installed():
        record = Record(plan, directory, seed, resumption, writes=team is None or not team.rank)
        late: list[BaseException] = []
        try:
            if announce is not None:
                announce(directory.path)
            record.start(config)
            controller = Controller(plan, directory.path, config, seed, guard, resumption, team)
            if team is not None:
                team.attach(guard, partial(_last_words, controller, record))
            executor = Executor(plan, controller, guard, record.note)
            outcomes = controller.outcomes
            with seeded(seed, deterministic=plan.settings.deterministic):
                errors, late = _live(controller, executor, record, team)
        except BaseException as error:
            if record.is_forked:
                raise
            errors.append(error if team is None else team.settle(error))
        if team is not None:
            late += team.leave(errors, late)
        status = _status(errors or late, failed_in_cleanup=not errors and bool(late))
        errors += late
        try:
            record.end(status, errors, outcomes)
        except OSError as error:
            errors.append(error)
    if errors:
        raise join_errors(errors, f"run {directory.id} failed, and so did its clean-up")
    if team is not None:
        team.over()
    metrics = rundir.read_run(directory.path).json(rundir.SUMMARY).get("metrics", {})
    return RunResult(directory.id, directory.path, status, time.monotonic() - clock, metrics, outcomes)


def _last_words(controller: Controller, record: Record, error: BaseException) -> None:
    """What is left to do where the main thread does not come back."""
    controller.failed = True
    errors = [error, *controller.close()]
    record.end(_status(errors, failed_in_cleanup=False), errors, controller.outcomes)


def _live(
    controller: Controller, executor: Executor, record: Record, team: Team | None
) -> tuple[list[BaseException], list[BaseException]]:
    """The part of a run in which permanences exist. Returns what it failed with, and the errors of the clean-up."""
    pid = os.getpid()
    token = current_run.set(controller)
    errors: list[BaseException] = []
    try:
        try:
            controller.open()
            if team is not None:
                team.barrier("the start of the processes")
            record.adopt()
            executor.run()
        except BaseException as error:
            if os.getpid() != pid:  # a forked child that leaves by an exception: all of this is its parent's
                raise
            errors.append(error if team is None else team.settle(error))
        controller.failed = bool(errors)
        late = controller.close()
    finally:
        current_run.reset(token)
    return errors, late


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
