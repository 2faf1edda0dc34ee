"""One attempt of a run: directory, permanences, processes, clean-up, final status."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from ridgepole import rundir
from ridgepole.config import variable_looks_secret
from ridgepole.data.ranges import Ranges, merged
from ridgepole.errors import RunDirError, TrialPruned, join_errors, text_of, user_traceback
from ridgepole.launch import is_launched, local_place
from ridgepole.mirror.monitor import Mirror
from ridgepole.mirror.settings import policy_of
from ridgepole.permanence import current_run
from ridgepole.pipeline.lifecycle.checkpointing import ResumePoint, newest_resume_point, resume_point_of_rank
from ridgepole.pipeline.lifecycle.output import EnduringOutput
from ridgepole.pipeline.lifecycle.process_run import ProcessOutcome
from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.pipeline.run.changed import ChangedParameters
from ridgepole.pipeline.run.comparison import (
    MISSING,
    changed_code,
    changed_environment,
    changes,
    check_config,
    check_position,
    check_ranks,
    in_use,
    listed,
    unchanged,
    unfinished,
)
from ridgepole.pipeline.run.controller import Controller
from ridgepole.pipeline.run.executor import Executor
from ridgepole.pipeline.run.fork import find_fork, go_back
from ridgepole.pipeline.run.left_out import leave_out, read_left_out
from ridgepole.pipeline.run.run_record import RunRecord
from ridgepole.pipeline.spec.plan import Plan, plain_json
from ridgepole.rundir import RunDir, RunInfo
from ridgepole.seeding import draw_seed, seeded
from ridgepole.watch.alerts import Level
from ridgepole.watch.helper import Orders
from ridgepole.watch.monitor import Watch
from ridgepole.watch.notify import kinds_of
from ridgepole.watch.policy import NO_GUARD
from ridgepole.watch.recorder import Recorder, WatchedRun
from ridgepole.watch.settings import interval
from ridgepole.watch.stall import FIRST_STEPS

if TYPE_CHECKING:
    from ridgepole.pipeline.distributed.coordinator import Coordinator


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A run that finished.

    Attributes:
        id: The run id.
        path: The run directory.
        status: `"finished"`.
        seconds: Wall time of all attempts.
        attempts: Wall time of each attempt.
        metrics: The logger's summary of each metric, as in `summary.json`.
        processes: The outcome of each process.
    """

    id: str
    path: Path
    status: str
    seconds: float
    attempts: Sequence[float]
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    processes: Sequence[ProcessOutcome] = ()


def run(
    plan: Plan,
    root: Path,
    announce: Callable[[Path], None] | None = None,
    coordinator: Coordinator | None = None,
    *,
    console: bool = False,
) -> RunResult:
    """Run a plan in a new run directory.

    Args:
        plan: The plan.
        root: The directory that holds runs.
        announce: Called with the run directory as soon as it exists.
        coordinator: The ranks of this launch, if they have joined already.
        console: Whether to keep what this process prints, if the plan wants it: the process is the
            run's own.

    Raises:
        RunDirError: If the run directory can't be created or written.
        RankError: If another rank of a distributed run failed or did not join.
        BaseException: The error of the run, unchanged except for notes of its place.
    """

    def start(_guard: SignalGuard) -> AttemptStart:
        seed = draw_seed() if plan.settings.seed is None else plan.settings.seed
        return AttemptStart(RunDir.create(root), seed)

    with JoinedRanks(root, coordinator) as ranks:
        return _Attempt(plan, start, root.absolute(), ranks, console=console).execute(announce)


def resume(
    plan: Plan,
    path: Path,
    *,
    allow: Sequence[str] = (),
    which: str | None = None,
    skip_batches: Sequence[str] | None = None,
    announce: Callable[[Path], None] | None = None,
    warn: Callable[[str], None] = lambda _line: None,
    coordinator: Coordinator | None = None,
    console: bool = False,
) -> RunResult:
    """Resume a run from its newest checkpoint, or a chosen one, in a new attempt.

    Args:
        plan: The pipeline as it is described today.
        path: The run directory.
        allow: Keys of the resolved description that may differ from the stored one, such as
            `processes.train.params.epochs`; a shorter key stands for all keys below it.
        which: A checkpoint to go back to: `best`, a name or a number. Newer ones are put aside.
        skip_batches: Ranges of batches that the loop which continues leaves out, such as `120:130`;
            by default those of an earlier attempt that began at the same checkpoint.
        announce: Called with the run directory before anything runs.
        warn: Called with each change of the user's code.
        coordinator: The ranks of this launch, if they have joined already.
        console: As for `run`.

    Raises:
        RunDirError: If the directory is not a run, or the run has finished, is running, or can't be
            written.
        ConfigError: If the description differs from the stored one; the message shows the
            differences.
        CheckpointError: If a checkpoint was written by a newer Ridgepole, or another number of
            ranks, or the chosen one does not exist, is damaged or can't be continued from.
        RankError: If another rank of a distributed run failed or did not join.
        BaseException: The error of the run, unchanged except for notes of its place.
    """
    ranges = None if skip_batches is None else read_left_out(skip_batches)
    with JoinedRanks(path.absolute().parent, coordinator) as ranks:

        def start(guard: SignalGuard) -> AttemptStart:
            return _reopen(plan, path, allow, which, ranges, warn, ranks, guard)

        return _Attempt(plan, start, path.absolute().parent, ranks, console=console).execute(announce)


def fork(
    plan: Plan,
    path: Path,
    root: Path,
    *,
    which: str = "latest",
    announce: Callable[[Path], None] | None = None,
    say: Callable[[str], None] = lambda _line: None,
    warn: Callable[[str], None] = lambda _line: None,
    console: bool = False,
) -> RunResult:
    """Run a plan in a new run directory, from a checkpoint of another run.

    Args:
        plan: The pipeline of the new run.
        path: The directory of the run to fork.
        root: The directory that holds runs.
        which: The checkpoint: `latest`, `best`, a name or a number.
        announce: Called with the new run directory before anything runs.
        say: Called with a line for the fork and for each change of the config.
        warn: Called with each change of the user's code.
        console: Whether to keep what this process prints, if the plan wants it: the process is the
            run's own.

    Raises:
        RunDirError: If the run is running or had not begun, or the new directory can't be written.
        ConfigError: If a change does not fit the checkpoint, or nothing is left to run.
        CheckpointError: If the checkpoint does not exist, is damaged, can't be continued from, or
            was stored by several ranks.
        BaseException: The error of the run, unchanged except for notes of its place.
    """
    if is_launched():
        raise RunDirError("a fork runs in one process: start it without torchrun, MPI or srun")
    plan = replace(plan, trial=None)  # a fork of a sweep's trial does not belong to the sweep

    def start(guard: SignalGuard) -> AttemptStart:
        with guard.user_code():  # it may read and write gigabytes
            found = find_fork(plan, path, which)
            for line in found.lines():
                say(line)
            for line in changed_code(found.parent, plan):
                warn(line)
            directory = found.create(root, plan)
        return AttemptStart(directory, found.seed, found.point, found.changes, found.lineage(), found.restored)

    return _Attempt(plan, start, root.absolute(), None, console=console).execute(announce)


@dataclass(frozen=True, slots=True)
class AttemptStart:
    """The run directory, the seed, where an attempt resumes, and what has changed since.

    Attributes:
        resume_point: None for a fresh run.
        changes: The stored and the new value of each key that was allowed to change.
        parent: The run and the checkpoint that a new run is forked from.
        restored: The values in use that states of this parent had brought back.
    """

    directory: RunDir
    seed: int
    resume_point: ResumePoint | None = None
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    parent: Mapping[str, Any] | None = None
    restored: Mapping[str, Any] = field(default_factory=dict)


def _reopen(
    plan: Plan,
    path: Path,
    allow: Sequence[str],
    which: str | None,
    ranges: Ranges | None,
    warn: Callable[[str], None],
    coordinator: Coordinator | None,
    guard: SignalGuard,
) -> AttemptStart:
    stored = unfinished(path)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(contextlib.closing(RunDir.reopen(stored.path)))
        stored = unfinished(path)  # the process that owned it a moment ago may have finished it
        seed = int(stored.fields.get("seed", 0)) if plan.settings.seed is None else plan.settings.seed
        config = plan.resolved(seed)
        check_config(stored, plan, config, allow)
        with guard.user_code():  # it may read gigabytes: a Ctrl-C need not wait for them
            if which is not None:
                go_back(stored, which, 1 if coordinator is None else coordinator.size, warn)
            point = _find_resume_point(plan, stored, coordinator)
        check_position(stored, plan, point)
        point = leave_out(ranges, point, stored)
        changed = in_use(stored, changes(stored.json(rundir.RESOLVED), config))
        lines = (
            *changed_environment(stored, plan, config),
            *changed_code(stored, plan),
            *unchanged(stored.json(rundir.RESOLVED), config, allow),
        )
        for line in lines:
            warn(line)
        stack.pop_all()  # from here on the attempt closes the directory
    return AttemptStart(directory, seed, point, changed)


def _find_resume_point(plan: Plan, stored: RunInfo, coordinator: Coordinator | None) -> ResumePoint:
    """Find the newest sound checkpoint; several ranks verify it together."""
    size = 1 if coordinator is None else coordinator.size
    verify = None
    if coordinator is not None:
        from ridgepole.pipeline.distributed.synchronized import JointVerification

        verify = JointVerification(coordinator).verify
    attempt = int(stored.fields.get("attempt", 1)) + 1
    return newest_resume_point(
        stored.path, attempt, size, fits=lambda info: check_ranks(plan, info, size), verify=verify
    )


class JoinedRanks:
    """The ranks of this launch, for as long as the block lasts; None if this process is alone.

    A class rather than a generator: `contextlib` sets attributes of the exceptions that pass
    through, and a user's exception may refuse that.

    Args:
        root: The directory that holds runs, which all ranks see.
        coordinator: The ranks, if they have joined already.
    """

    def __init__(self, root: Path, coordinator: Coordinator | None = None) -> None:
        self._root, self._given = root, coordinator
        self._joined: Coordinator | None = None

    def __enter__(self) -> Coordinator | None:
        """Join them.

        Raises:
            RankError: If not all of them joined.
            RunDirError: If the directory can't be written.
        """
        if self._given is not None or not is_launched():
            return self._given
        # A single process imports nothing of it
        from ridgepole.pipeline.distributed.rendezvous import join_ranks

        self._joined = join_ranks(self._root)
        return self._joined

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._joined is not None:
            self._joined.end(error)


def _changes(shared: Sequence[Any]) -> dict[str, tuple[Any, Any]]:
    """Return the changes that rank 0 has shared."""
    return {key: (*old, MISSING)[:1] + (*new, MISSING)[:1] for key, (old, new) in shared}


class _Attempt:
    """One attempt: start, run, clean up, record.

    Args:
        plan: The plan.
        start: Makes or reopens the run directory; called on rank 0.
        root: The directory that holds runs.
        coordinator: The ranks of this launch; None if this process is alone.
        console: Whether to keep what this process prints.
    """

    def __init__(
        self,
        plan: Plan,
        start: Callable[[SignalGuard], AttemptStart],
        root: Path,
        coordinator: Coordinator | None,
        *,
        console: bool,
    ) -> None:
        self._console = console and plan.settings.console
        self._plan, self._make_start, self._root, self._coordinator = plan, start, root, coordinator
        self._guard = SignalGuard(plan.settings.grace_seconds)
        self._controller: Controller | None = None
        self._watch: Watch | None = None
        self._mirror: Mirror | None = None
        self._outcomes: list[ProcessOutcome] = []
        self._errors: list[BaseException] = []
        self._cleanup_errors: list[BaseException] = []

    def execute(self, announce: Callable[[Path], None] | None) -> RunResult:
        """Run the attempt.

        Raises:
            BaseException: The error of the run, joined with those of the clean-up.
        """
        # Around all that is taken and given back: an interrupt waits for the user's code, so that
        # no directory stays owned or without its end.
        with self._guard.installed():
            self._start = self._start_attempt()
            directory = self._start.directory
            with contextlib.closing(directory), EnduringOutput():
                status = self._record_run(announce)
        if self._errors:
            raise join_errors(self._errors, f"run {directory.id} failed, and so did its clean-up")
        if self._coordinator is not None:
            self._coordinator.over()
        return RunResult(
            id=directory.id,
            path=directory.path,
            status=status,
            seconds=self._record.seconds,
            attempts=self._record.attempts,
            metrics=rundir.read_run(directory.path).json(rundir.SUMMARY).get("metrics", {}),
            processes=self._outcomes,
        )

    def _start_attempt(self) -> AttemptStart:
        """Start the attempt; in a distributed run rank 0 decides, and the other ranks follow."""
        key, coordinator = "the beginning of the run", self._coordinator
        if coordinator is None:
            return self._make_start(self._guard)
        coordinator.obey_signals(self._guard)
        from ridgepole.pipeline.distributed.synchronized import JointVerification

        if coordinator.rank:
            JointVerification(coordinator).help()
            shared = coordinator.share(key)
            directory = RunDir(self._root / shared["run"])  # owned by rank 0
            point = None
            if shared["attempt"] is not None:
                size, name = coordinator.size, shared["checkpoint"]
                point = resume_point_of_rank(
                    directory.path,
                    shared["attempt"],
                    name,
                    coordinator.rank,
                    size,
                    lambda info: check_ranks(self._plan, info, size),
                )
                point = replace(point, left_out=merged(shared["left_out"]))
            return AttemptStart(directory, shared["seed"], point, _changes(shared["changes"]))
        started = self._make_start(self._guard)
        JointVerification(coordinator).end()
        point = started.resume_point
        attempt, checkpoint = (None, None) if point is None else (point.attempt, point.name)
        shared = {"run": started.directory.id, "seed": started.seed, "attempt": attempt, "checkpoint": checkpoint}
        shared["changes"] = [(key, [listed(value) for value in pair]) for key, pair in started.changes.items()]
        shared["left_out"] = () if point is None else point.left_out
        coordinator.share(key, shared)
        return started

    def _record_run(self, announce: Callable[[Path], None] | None) -> str:
        """Run with a record of the beginning and the end, and return the status."""
        plan, start, coordinator = self._plan, self._start, self._coordinator
        writes = coordinator is None or not coordinator.rank
        self._record = RunRecord(
            plan,
            start.directory,
            start.seed,
            start.resume_point,
            start.changes,
            parent=start.parent,
            writes=writes,
        )
        try:
            if announce is not None:
                announce(start.directory.path)
            config = plan.resolved(start.seed)
            self._record.start(config)
            if start.restored:
                self._record.note_restored(start.restored)
            self._run(config)
        except BaseException as error:  # noqa: BLE001 - raised when all is recorded
            self._add(error)
        return self._finish()

    def _run(self, config: Mapping[str, Any]) -> None:
        """Run the part in which permanences exist, and clean them up."""
        start, coordinator = self._start, self._coordinator
        self._controller = controller = Controller(
            self._plan, start.directory.path, config, start.seed, self._guard, start.resume_point, coordinator
        )
        self._outcomes = controller.outcomes
        controller.on_checkpoint = self._record.adopt
        controller.changed = ChangedParameters(start.changes, controller.warn, self._record.note_restored)
        if coordinator is not None:
            coordinator.attach(self._guard, self._emergency_cleanup)
        self._watch = self._start_watch(controller)
        self._mirror = self._start_mirror(controller)
        self._tell_kill(controller)
        executor = Executor(self._plan, controller, self._guard, self._record.note)
        recorder = self._start_recorder(controller)
        with seeded(start.seed, deterministic=self._plan.settings.deterministic):
            token = current_run.set(controller)
            try:
                try:
                    controller.open()
                    if coordinator is not None:
                        coordinator.barrier("the start of the processes")
                    executor.run()
                except BaseException as error:  # noqa: BLE001 - the clean-up comes first
                    self._add(error)
                self._tell_failure(self._errors)
                recorder.close()
                self._cleanup_errors = controller.close()
            finally:
                current_run.reset(token)

    def _tell_kill(self, controller: Controller) -> None:
        """Tell that the kernel killed the attempt before for lack of memory, if it did."""
        kill = self._record.kill
        if kill is None:
            return
        title = f"the kernel killed attempt {controller.attempt - 1}: out of memory"
        if kill.told:
            controller.warn(f"{title}: {kill.text}")
        else:
            controller.raise_alert("memory", "error", title, kill.text)

    def _start_recorder(self, controller: Controller) -> Recorder:
        """Begin to record system metrics and step times."""
        local = local_place(os.environ)
        run = WatchedRun(
            directory=controller.run_dir,
            ticks=controller.ticks,
            rank=controller.rank,
            attempt=controller.attempt,
            host=local is None or local[0] == 0,
            chosen=controller.chosen_cards,
        )
        every = interval(self._plan.settings.system)
        recorder = Recorder(run, every, log=controller.show_system, say=partial(controller.log, "info"))
        recorder.start()
        return recorder

    def _start_watch(self, controller: Controller) -> Watch | None:
        """Start to watch over the run, unless nothing is watched for."""
        settings, stall = self._plan.settings, self._plan.guard.stall
        notify, guard = self._plan.notify, self._plan.guard
        if guard == NO_GUARD and notify is None and not self._console:
            return None
        orders = Orders(
            run=str(controller.run_dir),
            parent=os.getpid(),
            rank=controller.rank,
            world_size=controller.world_size,
            attempt=controller.attempt,
            secrets=sorted(self._plan.secrets | _secret_variables()),
            grace_seconds=settings.grace_seconds,
            stall_seconds=None if stall is None else stall.seconds,
            stall_action="" if stall is None else stall.action,
            slow=None if guard.slow is None else asdict(guard.slow),
            memory=None if guard.memory is None else asdict(guard.memory),
            disk=None if guard.disk is None else asdict(guard.disk),
            urls=[] if notify is None else list(notify.urls),
            kinds=[] if notify is None else kinds_of(notify.on),
        )
        try:
            watch = Watch(orders, controller.warn)
        except OSError as error:
            controller.warn(f"nothing watches over this run: {error}")
            return None
        controller.ticks.beat = watch.beat
        controller.on_alert = watch.tell
        if self._console:
            watch.start_with_console()
        elif notify is not None:
            watch.start(at_once=True)
        controller.ticks.call_after(FIRST_STEPS, watch.start)
        return watch

    def _start_mirror(self, controller: Controller) -> Mirror | None:
        """Start the process that mirrors the run, where that is wanted."""
        given = self._plan.settings.mirror
        if given is None or controller.rank:
            return None
        mirror = Mirror(controller.run_dir, policy_of(given), controller.warn)
        mirror.start()
        return mirror

    def _end_mirror(self) -> None:
        """Wait for the mirror as long as its policy and the scheduler allow."""
        mirror, self._mirror = self._mirror, None
        if mirror is not None and not self._record.is_forked:
            mirror.end(max(1.0, self._guard.deadline - time.monotonic() - 1.0))

    def _end_watch(self, status: str, errors: Sequence[BaseException]) -> None:
        """Tell how the run has ended, where that is wanted, and end its helper."""
        watch, controller = self._watch, self._controller
        if watch is None or controller is None or self._record.is_forked:
            return
        if self._plan.notify is not None and not controller.rank and status != "pruned":
            finished = status.startswith("finished")
            text = f"{type(errors[0]).__name__}: {text_of(errors[0])}" if errors else ""
            kind, level = ("finished", "info") if finished else ("failed", "error")
            if kind in kinds_of(self._plan.notify.on):
                told = status.replace("_", " ")
                told = status.replace("_", " ")
                controller.raise_alert(kind, cast("Level", level), f"the run has ended: {told}", text)
        watch.end()

    def _add(self, error: BaseException) -> None:
        """Add an error of the run; in a distributed run, the one of the rank that failed first."""
        # A forked child that ends by an exception: all of this is its parent's
        if self._record.is_forked:
            raise error
        self._errors.append(error if self._coordinator is None else self._coordinator.first_failure(error))

    def _finish(self) -> str:
        """Record how the attempt has ended, and return its status."""
        if self._coordinator is not None:
            self._cleanup_errors += self._coordinator.leave(self._errors, self._cleanup_errors)
        status = _status(self._errors, self._cleanup_errors)
        self._errors += self._cleanup_errors
        try:
            self._record.end(status, self._errors, self._outcomes, self._step)
        except OSError as error:
            self._errors.append(error)
        self._end_watch(status, self._errors)
        self._end_mirror()
        return status

    @property
    def _step(self) -> int:
        return 0 if self._controller is None else self._controller.step

    def _emergency_cleanup(self, error: BaseException) -> None:
        """Clean up and record the end from another thread, if the main thread is stuck."""
        self._tell_failure([error])
        errors = [error, *(self._controller.close() if self._controller is not None else ())]
        self._record.end(_status(errors, ()), errors, self._outcomes, self._step)
        self._end_watch(_status(errors, ()), errors)

    def _tell_failure(self, errors: Sequence[BaseException]) -> None:
        """Tell the permanences, before they are cleaned up, whether and why the run failed."""
        if self._controller is None:
            return
        self._controller.failed = bool(errors)
        if errors:
            self._controller.error = plain_json(user_traceback(errors[0]), self._plan.secrets)


def _status(errors: Sequence[BaseException], cleanup_errors: Sequence[BaseException]) -> str:
    if not errors:
        return "finished_with_cleanup_errors" if cleanup_errors else "finished"
    first = errors[0]
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, TrialPruned):
        return "pruned"
    if isinstance(first, SystemExit) and not first.code:
        return "interrupted"  # the user's own code ended the run, without an error code
    return "interrupted" if isinstance(first, KeyboardInterrupt) else "failed"


def _secret_variables() -> set[str]:
    """Return the values of secret-looking variables, which programs may print."""
    return {value for name, value in os.environ.items() if len(value) >= 8 and variable_looks_secret(name)}
