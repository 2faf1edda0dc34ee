"""A run inside a plain script: `with ridgepole.run("name") as run:`."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ridgepole import rundir, seeding
from ridgepole.checkpoint import CheckpointStore
from ridgepole.errors import (
    CheckpointError,
    LifecycleError,
    PermanenceNotFoundError,
    RunDirError,
    StopRequested,
    TrialPruned,
    join_errors,
    stop_behind,
    text_of,
    user_traceback,
)
from ridgepole.labels import Labels, checked
from ridgepole.launch import global_rank, local_place, place
from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.composite import NullLogger
from ridgepole.permanence import RunContext, construct, current_run
from ridgepole.pipeline.lifecycle.checkpointing import STATE_FORMAT, newest_resume_point
from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.pipeline.trial_hook import LISTENER, TrialHook, current_hook
from ridgepole.script_context import RESUME, script_run
from ridgepole.scripts import notices
from ridgepole.scripts.record import ScriptRecord, describe, newest_unfinished, runs_root, this_script
from ridgepole.seeding import seeded
from ridgepole.ticks import Ticks
from ridgepole.watch.recorder import Recorder, WatchedRun
from ridgepole.watch.settings import interval_of_scripts

_MISSING: Any = object()
_STATE, _LOGGER = "state", "logger"
_SAMPLED = 16


def run(
    name: str | None = None,
    *,
    config: Mapping[str, Any] | argparse.Namespace | None = None,
    tags: Sequence[str] = (),
    seed: int | None = None,
    resume: bool | None = None,
    root: str | Path | None = None,
    keep_last: int = 2,
) -> ScriptRun:
    """Make the code of a `with` block a run, with a directory, metrics and checkpoints.

    Under `ridgepole run train.py` and in a trial of a sweep the block uses the run that was made
    for the script. Elsewhere it makes one.

    Args:
        name: A name of the run, beside its id.
        config: The parameters to record, such as `vars(args)`.
        tags: Words to find the run by.
        seed: Seeds Python, numpy and torch; None leaves them alone.
        resume: Whether to resume the newest unfinished run of the same name, script, arguments and
            working directory; by default as the variable `RIDGEPOLE_RESUME` says.
        root: The directory that holds runs; `runs` when None.
        keep_last: The number of checkpoints to keep.

    Returns:
        A context manager, whose `with` gives the run.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name or tag is too long, or has control characters.

    Example:
        ```python
        with ridgepole.run("train", config=vars(args)) as run:
            state = run.restore() or {"epoch": 0, "weight": 1.0}
            for epoch in range(state["epoch"], args.epochs):
                weight = train(state["weight"])
                run.log({"weight": weight})
                state = {"epoch": epoch + 1, "weight": weight}
                run.checkpoint(state)
        ```
    """
    _check_name(name)
    if isinstance(config, argparse.Namespace):
        config = vars(config)
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"config must be a mapping, such as vars(args), not {type(config).__name__}")
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise TypeError(f"tags must be a list of texts, such as ['baseline'], not {tags!r}")
    return ScriptRun(
        checked(name=name or "", tags=tags), config, seed, resume, None if root is None else Path(root), keep_last
    )


def _check_name(name: object) -> None:
    if name is not None and not (isinstance(name, str) and name):
        raise TypeError(f"the name of a run must be a text, not {name!r}")


class ScriptRun:
    """The run of a script. `ridgepole.run` makes it; use it in a `with` block.

    Attributes:
        attempt: 1 for a fresh run, one more for each resume.
        seed: The seed that was given, else 0.
        failed: Whether the block has ended with an error.
    """

    def __init__(
        self,
        labels: Labels,
        config: Mapping[str, Any] | None,
        seed: int | None,
        resume: bool | None,
        root: Path | None,
        keep_last: int,
    ) -> None:
        self.attempt, self.seed, self.failed = 1, seed or 0, False
        self._labels, self._given, self._seed = labels, config, seed
        self._wanted_resume, self._root, self._keep_last = resume, root, keep_last
        self._resumes = self._is_told = False
        self._path: Path | None = None
        self._record: ScriptRecord | None = None
        self._own_logger: BaseLoggerManager | None = None
        self._listener: BaseLoggerManager | None = None
        self._guard = SignalGuard()
        self._ticks = _StopTicks(self._guard)
        self._stack = contextlib.ExitStack()
        self._token: Token[RunContext | None] | None = None
        self._calls = 0
        self._recorder: Recorder | None = None

    # --- what scripts use

    @property
    def dir(self) -> Path:
        """The directory of this run."""
        if self._path is None:
            raise LifecycleError("this run has no directory yet: use it in a block, with ridgepole.run(...) as run:")
        return self._path

    @property
    def logger(self) -> BaseLoggerManager:
        """The logger of this run, a `BasicLogger`; made when it is first used."""
        if self._own_logger is None:
            directory = self.dir
            if self.rank:
                self._own_logger = construct(NullLogger)
            else:
                from ridgepole.loggers.local.logger import BasicLogger

                self._own_logger = construct(BasicLogger, directory)
        assert self._own_logger is not None
        return self._own_logger

    def log(self, metrics: Mapping[str, Any], *, step: int | None = None) -> None:
        """Log metrics; arguments and errors as in `BasicLogger.log_metrics`."""
        self._calls += 1
        if self._calls % _SAMPLED:  # measured one call in a few: a clock costs as much as some of it
            self._log(metrics, step)
            return
        with self._ticks.times.spent("logging", _SAMPLED):
            self._log(metrics, step)

    def _log(self, metrics: Mapping[str, Any], step: int | None) -> None:
        self.logger.log_metrics(metrics, step=step)
        if self._listener is not None:
            self._listener.log_metrics(metrics, step=step)

    def tick(self, step: int | None = None) -> None:
        """Mark the end of a step, where a stop is obeyed.

        After the first tick, Ctrl-C and a scheduler's signals wait for the next one.

        Args:
            step: Sets the step; None adds one.

        Raises:
            KeyboardInterrupt: If the run was asked to stop.
        """
        self._ticks.tick(step)

    def note_step(self, step: int) -> None:
        """Count a step, as `tick`, and leave a stop to the next tick or checkpoint."""
        self._ticks.note(step)

    @property
    def stop_requested(self) -> KeyboardInterrupt | None:
        """The stop that the next tick or checkpoint obeys; None without one."""
        return self._guard.requested

    def stop_ticking(self) -> None:
        """Mark the end of a loop: until the next tick, Ctrl-C and other stops come at once.

        Raises:
            KeyboardInterrupt: If the run was asked to stop.
        """
        if self._guard.requested is not None:
            raise self._guard.requested
        self._guard.ticking = False

    def checkpoint(self, state: Any) -> None:
        """Store a state from which a resumed run continues, with the random generators.

        Everything that was logged reaches the disk first. If the disk fails, the run continues with
        a warning, and earlier checkpoints stay as they were. A stop that was asked for is obeyed
        after the checkpoint.

        Args:
            state: Dictionaries, lists, numbers, texts, arrays and tensors, such as a dictionary of
                `state_dict()`s.

        Raises:
            StateError: If it holds a value that can't be stored; the message names the path.
            KeyboardInterrupt: If the run was asked to stop.
        """
        directory = self.dir
        if not self.rank:
            try:
                with self._ticks.times.spent("checkpoints"):
                    self._save(directory, state)
            except CheckpointError as error:
                self.logger.warning("no checkpoint was taken: %s", error)
        self._guard.ticking = True
        self._ticks.on_step()

    def restore(self) -> Any:
        """Return the state of the newest sound checkpoint of a resumed run, else None.

        It restores the random generators and the step, and hides what was logged after the
        checkpoint. Call it right before the loop that it is for.

        Raises:
            CheckpointError: If a newer Ridgepole wrote the checkpoint, or it can't be read now.
        """
        directory = self.dir
        if not self._resumes:
            return None
        point = newest_resume_point(directory, self.attempt)
        for line in point.skipped:
            self.logger.warning("%s", line)
        self.logger.load_state_dict(point.permanences.get(_LOGGER, {}))
        if self._listener is not None:
            self._listener.load_state_dict(point.permanences.get(LISTENER, {}))
        if point.name is None:
            return None
        step = int(point.framework["step"])
        rundir.note_attempt(directory, self.attempt, checkpoint=point.name, step=step)
        if not self.rank and self._listener is None and not hasattr(sys, "ps1"):
            notices.tell_lines([f"resumes from {point.name}, step {step}"])
        self._ticks.resume(step, int(point.framework["count"]))
        point.restore_rng()
        return point.permanences[_STATE]

    # --- what permanences use, as in a pipeline

    @property
    def run_dir(self) -> Path:
        """The directory of this run; its name is the run id."""
        return self.dir

    @property
    def run_id(self) -> str:
        """The run id."""
        return self.dir.name

    @property
    def config(self) -> Mapping[str, Any]:
        """The parameters, as in `config.resolved.json`."""
        return rundir.read_run(self.dir).json(rundir.RESOLVED)

    @property
    def rank(self) -> int:
        """The rank of this process, as its launcher says; 0 without one. Only rank 0 writes."""
        return global_rank()

    @property
    def world_size(self) -> int:
        """The number of ranks."""
        return place()[1]

    @property
    def step(self) -> int:
        """The step that `tick` counts."""
        return self._ticks.step

    @property
    def ticks(self) -> Ticks:
        """The step counter."""
        return self._ticks

    def get_permanence(self, name: str, default: Any = _MISSING) -> Any:
        """Return the run's logger for `"logger"`, else the default.

        Raises:
            PermanenceNotFoundError: If there is neither.
        """
        if name == _LOGGER:
            return self.logger
        if default is _MISSING:
            raise PermanenceNotFoundError(f"a script's run has no permanence {name!r}: make one in the script")
        return default

    def ask_to_stop(self, stop: KeyboardInterrupt) -> None:
        """Ask the run to stop at its next tick; may be called from any thread."""
        self._guard.ask(stop)

    # --- the block

    def __enter__(self) -> Self:
        """Begin the run.

        Raises:
            RunDirError: If the directory can't be made, or several ranks have no run in common.
        """
        if self._path is not None:
            raise LifecycleError("a run can be used in one block only: call ridgepole.run again")
        hook = current_hook.get()
        self._open(hook)
        stack = self._stack
        stack.enter_context(self._guard.installed())
        if self._seed is not None:
            stack.enter_context(seeded(self._seed))
        self._token = current_run.set(self)
        self._start_recorder()
        if hook is not None:
            self._attach(hook)
        stack.enter_context(self._guard.user_code())
        return self

    def _start_recorder(self) -> None:
        """Begin to record step times, and system metrics unless `ridgepole run` does."""
        local = local_place(os.environ)
        run = WatchedRun(
            directory=self.dir,
            ticks=self._ticks,
            rank=self.rank,
            attempt=self.attempt,
            host=local is None or local[0] == 0,
            steps_alone=self._record is None,
        )
        recorder = Recorder(run, interval_of_scripts(os.environ), say=self._say)
        recorder.start()
        self._recorder = recorder

    def _say(self, line: str) -> None:
        if self._own_logger is not None:
            self._own_logger.info("%s", line)

    def _attach(self, hook: TrialHook) -> None:
        """Tell the sweep of this trial of the run, and have its listener hear what is logged."""
        hook.run_started(self.dir)
        listener = hook.listener()
        if listener is not None:
            made = construct(listener)
            made.initialize()
            self._stack.callback(made.cleanup)
            self._listener = made

    def _open(self, hook: TrialHook | None) -> None:
        """Find the directory of the run, or make it."""
        outer = None if hook is not None else script_run()
        if outer is not None and not outer.taken:
            outer.taken = True
            self._path, self.attempt = outer.run_dir, outer.attempt
            self._resumes = self._wants_resume()
        elif self.world_size > 1:
            raise RunDirError(
                "several ranks need a run in common: start them with ridgepole run, "
                "as in: ridgepole run -m torch.distributed.run -- --nproc-per-node 2 train.py"
            )
        else:
            self._record = record = self._find_or_create(hook)
            self._path, self.attempt = record.path, int(record.fields["attempt"])
        if not self.rank:
            describe(self._path, config=self._given, labels=self._labels, seed=self._seed)

    def _wants_resume(self) -> bool:
        return os.environ.get(RESUME) == "1" if self._wanted_resume is None else self._wanted_resume

    def _find_or_create(self, hook: TrialHook | None) -> ScriptRecord:
        script = this_script()
        self._is_told = hook is None and not hasattr(sys, "ps1")  # at a prompt the run is at hand
        label = None if hook is None else hook.label
        root = self._root or (None if hook is None else hook.root) or runs_root()
        earlier = None if hook is None else hook.earlier_run()
        if earlier is None and hook is None and self._wants_resume():
            found = newest_unfinished(root, script, self._labels.name or None)
            earlier = None if found is None else found.path
            if self._is_told and earlier is not None:
                notices.tell_lines([notices.resumed(earlier)])
            elif self._is_told and self._wanted_resume is None:  # `resume=True` starts a new one at first, of course
                notices.tell_lines(notices.anew(root, script))
        if earlier is None:
            return ScriptRecord.create(script, root, seed=self._seed, trial=label)
        self._resumes = True
        return ScriptRecord.reopen(earlier, trial=label)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run, and record how.

        Raises:
            SystemExit: If a scheduler's signal has stopped it, with the exit code for that signal.
        """
        if isinstance(error, KeyboardInterrupt):
            notices.end_at_users_line(trace)
            notices.leave_out_of_stderr(error)
        stop = stop_behind(error)
        error = stop or error
        self.failed = error is not None
        self._guard.start_cleanup()
        errors: list[BaseException] = [] if error is None else [error]
        steps: list[Callable[[], object]] = [self._stack.close, lambda: self._end(errors)]
        if self._own_logger is not None:
            steps.insert(0, self._own_logger.cleanup)
        if self._recorder is not None:
            steps.insert(0, self._recorder.close)
        for step in steps:
            try:
                step()
            except Exception as problem:  # noqa: BLE001 - raised below; the next step must run
                errors.append(problem)
        if self._token is not None:
            current_run.reset(self._token)
        if isinstance(error, StopRequested) and errors == [error]:
            sys.exit(error.exit_code)
        if errors and errors != [error]:
            raise join_errors(errors, "the script's run failed, and so did its end") from None
        if stop is not None:
            raise stop from None

    def _end(self, errors: list[BaseException]) -> None:
        """Record the end, unless `ridgepole run` does."""
        if self._record is None:
            return
        first = errors[0] if errors else None
        code = 0 if first is None else _exit_code(first)
        told = None
        if code and first is not None:
            told = {"type": type(first).__name__, "message": text_of(first), "traceback": user_traceback(first)}
        self._record.end(_status(first, code), exit_code=code, error=None if isinstance(first, TrialPruned) else told)
        if self._is_told:
            notices.tell(self._record)

    def _save(self, directory: Path, state: Any) -> None:
        self.logger.checkpoint()
        # A loop that never ticks counts its steps by what it logs
        step = self.step if self._ticks.count else max(self.step, self.logger.global_step)
        states = {_STATE: state, _LOGGER: self.logger.state_dict()}
        if self._listener is not None:
            states[LISTENER] = self._listener.state_dict()
        whole = {
            "format": STATE_FORMAT,
            "permanences": states,
            "process": {},
            "outcomes": [],
            "framework": {"step": step, "count": self._ticks.count, "rng": seeding.capture()},
        }
        store = CheckpointStore(directory / rundir.CHECKPOINTS, keep_last=self._keep_last)
        saved = store.save(
            whole,
            step=step,
            kind="manual",
            config_hash=hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest(),
            meta={"position": 0, "process": None, "resumable": True, "attempt": self.attempt},
        )
        for problem in saved.problems:
            warnings.warn(problem, UserWarning, stacklevel=3)


class _StopTicks(Ticks):
    """Counts steps, and obeys a stop at each."""

    def __init__(self, guard: SignalGuard) -> None:
        super().__init__()
        self._guard = guard
        guard.on_request = self.interrupt

    def resume(self, step: int, count: int) -> None:
        """Continue with the counts of a checkpoint."""
        self._step, self.count = step, count

    def note(self, step: int) -> None:
        """Count a step without obeying a stop."""
        self._step = step
        self.count += 1
        self._guard.ticking = True

    def steps_ahead(self) -> int:
        return sys.maxsize if self._guard.requested is None else 1

    def on_step(self) -> None:
        self._guard.ticking = True
        if self._guard.requested is not None:
            raise self._guard.requested


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, StopRequested):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _status(error: BaseException | None, code: int) -> str:
    if isinstance(error, TrialPruned):
        return "pruned"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "failed" if code else "finished"
