"""A run that code begins and ends by calls, for loggers that know no `with` block.

The drop-ins for other trackers use it. The run ends with the last of its users, or with the
process.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ridgepole import rundir
from ridgepole.labels import NO_LABELS, Labels
from ridgepole.launch import global_rank
from ridgepole.loggers.composite import NullLogger
from ridgepole.permanence import RunContext, construct, current_run
from ridgepole.pipeline.trial_hook import TrialHook, current_hook
from ridgepole.script_context import script_run
from ridgepole.scripts.record import ScriptRecord, describe
from ridgepole.scripts.session import ScriptRun


class BegunRun(ScriptRun):
    """A run that ends by a call, or with the process.

    Inside `ridgepole.run`, a pipeline or a trial it is that run. In a script that `ridgepole run`
    has started it is the script's run. Elsewhere it is one of its own. Ranks other than 0 write
    nothing.

    Args:
        labels: The name, tags and note of the run; the name counts if the run has none yet.
        params: The parameters to record.
        root: The directory that holds runs; `runs` when None.
        earlier: The directory of a run to continue, also a finished one; None for a fresh run.
        resume: Whether to resume the newest unfinished run of this script; None does as
            `RIDGEPOLE_RESUME` says.
        shared: Whether the run of the script is taken again after it was ended; else the second
            run of a script is one of its own.

    Attributes:
        users: What logs into the run.
    """

    def __init__(
        self,
        labels: Labels = NO_LABELS,
        params: Mapping[str, Any] | None = None,
        *,
        root: Path | None = None,
        earlier: Path | None = None,
        resume: bool | None = None,
        shared: bool = False,
    ) -> None:
        super().__init__(labels, None, None, resume, root, 2)
        self.users: list[object] = []
        self._params: dict[str, Any] = dict(params or {})
        self._earlier, self._shared = earlier, shared
        self._outer: RunContext | None = None
        self._pid = os.getpid()
        self._is_open = self._starts_over = False
        self._exit: Callable[[Any], NoReturn] = sys.exit
        self._code: Any = 0

    @property
    def is_open(self) -> bool:
        """Tell whether the run has begun in this process and not ended."""
        return self._is_open and os.getpid() == self._pid

    @property
    def has_record(self) -> bool:
        """Tell whether this process writes the run's record."""
        return self._path is not None and not global_rank()

    @property
    def continues(self) -> bool:
        """Tell whether what is logged follows what earlier attempts have logged."""
        return self.attempt > 1 and not self._starts_over

    def keep_earlier(self) -> None:
        """Follow what earlier attempts have logged, also from step 0."""
        self._starts_over = False

    @property
    def in_trial(self) -> bool:
        """Tell whether a sweep hears what is logged."""
        return self._listener is not None

    def begin(self) -> None:
        """Begin the run.

        Raises:
            RunDirError: If the directory can't be made, or belongs to another process.
        """
        hook, outer = current_hook.get(), current_run.get()
        if outer is not None and hook is None:
            self._outer, self._path, self.attempt = outer, outer.run_dir, outer.attempt
            self._own_logger = outer.logger if isinstance(outer, ScriptRun) else outer.get_permanence("logger", None)
        else:
            self._find(hook)
        if self.has_record:
            self.describe(self._labels, self._params)
            self._starts_over = self.attempt > 1 and self._outer is None
            _ = self.logger.global_step  # opens the logger: what opens last is closed first at exit
        else:
            self._own_logger = construct(NullLogger)
        if hook is not None:
            self._attach(hook)
        self._is_open = True
        self._exit, sys.exit = sys.exit, self._note_exit
        atexit.register(self._end_with_process)

    def _find(self, hook: TrialHook | None) -> None:
        """Find the directory of the run, or make it."""
        outer = None if hook is not None else script_run()
        if outer is not None and (not outer.taken or self._shared or self._earlier == outer.run_dir):
            outer.taken = True
            self._path, self.attempt = outer.run_dir, outer.attempt
        elif not global_rank():
            if self._earlier is None or hook is not None:
                self._record = self._find_or_create(hook)
            else:
                self._record = ScriptRecord.reopen(self._earlier, finished=True)
            self._path, self.attempt = self._record.path, int(self._record.fields["attempt"])

    def describe(self, labels: Labels, params: Mapping[str, Any]) -> None:
        """Add labels and parameters to the record."""
        if self.has_record:
            describe(self.dir, config=None, labels=labels, seed=None)
            if params:
                self.record_params(params)

    def record_params(self, params: Mapping[str, Any]) -> None:
        """Add parameters to the run's record; a later value of a name counts."""
        if self.has_record and (self._outer is None or isinstance(self._outer, ScriptRun)):
            before = rundir.read_run(self.dir).json(rundir.RESOLVED).get("params")
            describe(self.dir, config=(before if isinstance(before, dict) else {}) | dict(params), seed=None)

    def note(self, name: str, fields: Mapping[str, Any]) -> None:
        """Keep what another tracker says of the run under a name in `run.json`.

        Args:
            name: The name of the member.
            fields: Plain JSON values.
        """
        if self.has_record:
            if self._record is not None:
                self._record.fields[name] = dict(fields)
            stored = rundir.read_run(self.dir).fields
            kept = {key: value for key, value in stored.items() if key not in ("format", "id")}
            rundir.RunDir(self.dir).write_run(**kept | {name: dict(fields)})

    # --- logging

    def log(self, metrics: Mapping[str, Any], *, step: int | None = None, walltime: float | None = None) -> None:
        """Log metrics.

        Args:
            metrics: As in `BasicLogger.log_metrics`.
            step: As in `BasicLogger.log_metrics`.
            walltime: Their time, in seconds since the epoch; the current time when None.
        """
        if self._starts_over:
            self.start_over(step)
        logger = self._own_logger
        assert logger is not None
        if walltime is None:
            logger.log_metrics(metrics, step=step)
        else:
            with self.at_time(walltime):
                logger.log_metrics(metrics, step=step)
        if self._listener is not None:
            self._listener.log_metrics(metrics, step=step)

    def start_over(self, step: int | None) -> None:
        """Hide what earlier attempts logged, where this one begins at step 0."""
        self._starts_over = False
        if not step and step is not None and self._own_logger is not None:
            self._own_logger.load_state_dict({})

    @contextlib.contextmanager
    def at_time(self, seconds: float | None) -> Any:
        """Give all records of a block a time."""
        set_time = getattr(self._own_logger, "set_wall_time", None)
        if set_time is None or seconds is None:
            yield
            return
        set_time(seconds)
        try:
            yield
        finally:
            set_time(None)

    def hide_from(self, step: int) -> None:
        """Hide what earlier attempts logged at a step or later."""
        hide = getattr(self._own_logger, "hide_from", None)
        if hide is not None:
            self._starts_over = False
            hide(step)

    # --- the end

    def leave(self, user: object, *, exit_code: int = 0) -> None:
        """Remove a user; the run ends with the last one."""
        self.users = [each for each in self.users if each is not user]
        if not self.users:
            self.end(SystemExit(exit_code) if exit_code else None)

    def end(self, error: BaseException | None = None) -> None:
        """End the run, and record how; a second call does nothing.

        Args:
            error: The error that ends it.

        Raises:
            LogWriteError: If the record could not be brought to the disk.
            OSError: If the end can't be recorded.
        """
        if not self.is_open:
            return
        self._is_open = False
        atexit.unregister(self._end_with_process)
        if getattr(sys.exit, "__self__", None) is self:
            sys.exit = self._exit
        self.failed = error is not None
        with contextlib.ExitStack() as stack:
            stack.callback(self._end, [] if error is None else [error])
            stack.callback(self._stack.close)
            if self._own_logger is not None and self._outer is None:
                stack.callback(self._own_logger.cleanup)

    def _end_with_process(self) -> None:
        if not self.is_open:
            return  # a forked child
        error = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
        if error is None and self._code not in (None, 0):
            error = SystemExit(self._code)
        for user in list(self.users):
            closing = getattr(user, "close_at_exit", None)
            if closing is not None:
                closing()
        self.end(error)

    def _note_exit(self, code: Any = None, /) -> NoReturn:
        """Note the exit code of `sys.exit`, which nothing tells an exit handler."""
        self._code = code
        self._exit(code)


class _Begun:
    """The run that is open in this process, and the places of those that log into it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.run: BegunRun | None = None
        self.first_places: dict[Path | None, str] = {}


@functools.cache
def _begun() -> _Begun:
    return _Begun()


def open_run() -> BegunRun | None:
    """Return the run that is open in this process, if calls have begun one."""
    run = _begun().run
    return run if run is not None and run.is_open else None


def join_run(user: object, make: Callable[[], BegunRun]) -> BegunRun:
    """Join the open run of this process; else begin one.

    Args:
        user: What logs into the run until it calls `leave`.
        make: Makes the run.
    """
    begun = _begun()
    with begun.lock:
        run = open_run()
        if run is None:
            run = make()
            run.begin()
            begun.run = run
        run.users.append(user)
        return run


def first_place(run: BegunRun, place: str) -> str:
    """Return the place that was first named for a run: `place` itself, or an earlier one."""
    key = run.dir if run.has_record else None
    return _begun().first_places.setdefault(key, place)
