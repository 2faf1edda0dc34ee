"""The event file of one process: steps, locking, forks and repairs behind `TensorBoardLogger`."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic, time
from typing import Any

from ridgepole.errors import LifecycleError, LogWriteError
from ridgepole.metrics.patterns import CurveFigurePattern
from ridgepole.metrics.steps import Metrics, Plan, StepCounter, plan
from ridgepole.metrics.values import Value
from ridgepole.permanences.loggers.forks import watch_forks
from ridgepole.permanences.loggers.tensorboard.events import (
    layout_value,
    metrics_event,
    opening_event,
    restart_event,
    value_event,
)
from ridgepole.permanences.loggers.tensorboard.files import EventFile
from ridgepole.permanences.loggers.tensorboard.records import framed
from ridgepole.permanences.loggers.tensorboard.scalars import scalars_event

_FLOATS = frozenset((float,))
LOOK_SECONDS = 5.0  # how often it is looked whether the file is still there
WORKER = "worker-"


class EventWriter:
    """Appends events, each call one write, so that what was logged survives the process from that moment on.

    A forked child, or a copy of a logger in another process, writes to a directory of its own, `worker-<pid>`, which
    TensorBoard shows as a run of its own: it reads the files of one directory one after the other, and would miss what
    two processes write at the same time.

    Attributes:
        directory: Where this process writes.
        name: Who writes, as the files say.
        wall_time: Seconds since the epoch that events get in place of the clock's; None for the clock's.
        events: How many events this process has written.
        lock: Guards the file and the steps; a fork waits for it.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_file",
        "_layout",
        "_log",
        "_look",
        "_root",
        "_steps",
        "directory",
        "events",
        "lock",
        "name",
        "wall_time",
    )

    def __init__(
        self,
        directory: Path,
        name: str,
        steps: StepCounter,
        log: logging.Logger,
        layout: Sequence[CurveFigurePattern] = (),
        *,
        worker: bool = False,
    ) -> None:
        """Opens a file; a worker's is opened when there is something to write.

        Args:
            directory: The directory of the logger.
            name: Who writes, for the beginning of each file.
            steps: The logger's step counter.
            log: Where repairs are reported.
            layout: The charts of the dashboard "Custom Scalars".
            worker: Whether this is a copy in another process.

        Raises:
            OSError: If the file can't be made.
        """
        self.name = name
        self.wall_time: float | None = None
        self.events = 0
        self._root = directory
        self._steps = steps
        self._log = log
        self._layout = tuple(layout)
        self.lock = threading.RLock()
        self._closed = False
        self._look = 0.0
        self.directory = self._of_worker() if worker else directory
        self._file: EventFile | None = None if worker else self._open()
        watch_forks(self)

    def _of_worker(self) -> Path:
        return self._root / f"{WORKER}{os.getpid()}"

    @property
    def is_worker(self) -> bool:
        """Whether this is a forked child's writer, or that of a copy in another process."""
        return self.directory != self._root

    @property
    def path(self) -> Path | None:
        """The event file; None where this process has none."""
        return self._file.path if self._file is not None else None

    # -- appending ---------------------------------------------------------------------------------------------------

    def log(self, metrics: Metrics, step: int | None = None) -> None:
        """Logs what one call of `log_metrics` was given.

        The common case, a plain mapping of floats at the next step, needs no plan.

        Args:
            metrics: As `log_metrics` takes it.
            step: An explicit step, or None.

        Raises:
            TypeError: If something can't be logged.
            ValueError: If names collide or a step is out of range.
            LogWriteError: If it did not reach the operating system; the step has not moved.
        """
        if step is not None or type(metrics) is not dict or not _FLOATS.issuperset(map(type, metrics.values())):
            self.log_planned(metrics, step)
            return
        with self.lock:
            steps = self._steps
            at = steps.global_step
            try:
                record = framed(scalars_event(metrics, at, self.wall_time or time()))
            except (OverflowError, AttributeError, UnicodeEncodeError):  # what is no name is refused there
                self.log_planned(metrics)
                return
            self._put(record)
            self.events += 1
            steps.last_step = at
            steps.global_step = at + 1

    def log_planned(self, metrics: Metrics, step: int | None = None) -> Plan:
        """As `log`, whatever the metrics are; returns what they came to."""
        with self.lock:
            made = plan(metrics, step, self._steps)
            now = self.wall_time or time()
            records = [framed(metrics_event(row.metrics, row.step, now)) for row in made.rows if row.metrics]
            if records or self._closed:
                self._put(records[0] if len(records) == 1 else b"".join(records))
                self.events += len(records)
            self._steps.adopt(made)
            return made

    def add(self, value: Any, step: int) -> None:
        """Logs one `Summary.Value`.

        Raises:
            LogWriteError: If it did not reach the operating system.
        """
        self._append(framed(value_event(value, step, self.wall_time or time())))

    def add_metrics(self, metrics: Mapping[str, Value], step: int) -> None:
        """Logs plain metrics at a step, which moves no counter; errors as in `add`."""
        self._append(framed(metrics_event(metrics, step, self.wall_time or time())))

    def restart(self, step: int) -> None:
        """Hides what was logged at this step or a later one, and goes on from it.

        Raises:
            LogWriteError: If it did not reach the operating system.
        """
        with self.lock:
            # Twice: to TensorBoard the first such event of a directory is only its beginning, and hides nothing.
            self._append(framed(restart_event(step, self.wall_time or time())) * 2)
            self._steps.global_step = step
            self._steps.last_step = min(self._steps.last_step, max(step - 1, 0))

    def _append(self, record: bytes) -> None:
        with self.lock:
            self._put(record)
            self.events += 1

    def _put(self, records: bytes) -> None:
        """Writes, under the lock."""
        file = self._file
        if file is None or self._closed or monotonic() >= self._look:
            file = self._attend()
        file.append(records)

    # -- what is rarely due ------------------------------------------------------------------------------------------

    def _attend(self) -> EventFile:
        """Does what the next event must wait for: a file of the child's own, or a new one for one that was removed."""
        if self._closed:
            raise LifecycleError("this logger was cleaned up and can't be used again; construct a new one")
        if self._file is not None and self._file.is_gone():
            self._log.warning("%s was removed while the run was writing to it; going on in a new file", self._file.path)
            self._file.close()
            self._file = None
        if self._file is None:
            try:
                self._file = self._open()
            except LogWriteError:
                raise
            except OSError as error:
                reason = f"{error.strerror or error}: no new file can be made, nothing of this call was logged"
                raise LogWriteError(error.errno, reason, str(self.directory)) from error
        self._look = monotonic() + LOOK_SECONDS
        return self._file

    def _open(self) -> EventFile:
        now = time()
        file = EventFile(self.directory)
        try:
            opening = [opening_event(self.name, now)]
            if self._layout and not self.is_worker:
                opening.append(value_event(layout_value(self._layout), 0, now))
            file.append(b"".join(map(framed, opening)))
        except BaseException:
            with contextlib.suppress(OSError):
                file.path.unlink()
            file.close()
            raise
        return file

    def sync(self) -> None:
        """Returns once everything logged is on the disk.

        Raises:
            LogWriteError: If it is not.
        """
        with self.lock:
            if self._file is not None:
                if not self._closed and self._file.is_gone():
                    self._attend()
                self._file.sync()

    def close(self) -> None:
        """Closes the file; later events are refused."""
        with self.lock:
            self._closed = True
            if self._file is not None:
                self._file.close()

    def discard(self) -> None:
        """Closes the file and removes it, before anything was logged."""
        path = self.path
        self.close()
        if path is not None:
            path.unlink(missing_ok=True)

    # -- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Waits for an event in flight."""
        self.lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Goes on."""
        with contextlib.suppress(RuntimeError):  # opened by another thread in the middle of the fork: not held
            self.lock.release()

    def after_fork_in_child(self) -> None:
        """Lets go of what belongs to the parent; nothing is opened before the child logs something."""
        self.lock = threading.RLock()
        if self._closed:
            return
        if self._file is not None:
            self._file.close()
        self._file = None
        self.events = 0
        self.directory = self._of_worker()
