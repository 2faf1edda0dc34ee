"""The event writer of one process: steps, locking, forks and repairs for `TensorBoardLogger`."""

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
from ridgepole.loggers.fork_safety import watch_forks
from ridgepole.loggers.tensorboard.event_file import EventFile
from ridgepole.loggers.tensorboard.events import (
    layout_value,
    metrics_event,
    opening_event,
    restart_event,
    value_event,
)
from ridgepole.loggers.tensorboard.records import framed, scalars_event
from ridgepole.metrics.patterns import CurveFigurePattern
from ridgepole.metrics.steps import Metrics, Plan, StepCounter, plan
from ridgepole.metrics.values import Value

_FLOATS = frozenset((float,))
LOOK_SECONDS = 5.0  # between checks that the file still exists
WORKER = "worker-"


class EventWriter:
    """Appends events, one write per call, so that logged events survive a crash of the process.

    A forked child, or a copy of a logger in another process, writes to its own directory,
    `worker-<pid>`, which TensorBoard shows as a separate run. TensorBoard reads the files of one
    directory one after another, and would miss concurrent writes of two processes.

    Attributes:
        directory: The directory of this process.
        name: The writer that the files name.
        wall_time: Seconds since the epoch for all events; None for the clock.
        events: The number of events that this process has written.
        lock: Guards the file and the steps; a fork waits for it.
    """

    __slots__ = (
        "__weakref__",
        "_check_at",
        "_closed",
        "_file",
        "_layout",
        "_log",
        "_pictures",
        "_root",
        "_steps",
        "_suffix",
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
        suffix: str = "",
    ) -> None:
        """Open a file. A worker's file is opened at its first event."""
        self.name = name
        self._suffix = suffix
        self.wall_time: float | None = None
        self.events = 0
        self._root = directory
        self._steps = steps
        self._log = log
        self._layout = tuple(layout)
        self._pictures: dict[str, tuple[int, int]] = {}
        self.lock = threading.RLock()
        self._closed = False
        self._check_at = 0.0
        self.directory = self._of_worker() if worker else directory
        self._file: EventFile | None = None if worker else self._open()
        watch_forks(self)

    def _of_worker(self) -> Path:
        return self._root / f"{WORKER}{os.getpid()}"

    @property
    def is_worker(self) -> bool:
        """Tell whether this writer belongs to a forked child or to a copy in another process."""
        return self.directory != self._root

    @property
    def path(self) -> Path | None:
        """Return the event file, or None if this process has none."""
        return self._file.path if self._file is not None else None

    # -- appending ---------------------------------------------------------------------------------

    def log(self, metrics: Metrics, step: int | None = None) -> Sequence[tuple[str, str]]:
        """Log the metrics of one call of `log_metrics`.

        The common case, a plain mapping of floats at the next step, needs no plan.

        Returns:
            Name and type of each value that is stored as text.
        """
        if (
            step is not None
            or type(metrics) is not dict
            or "" in metrics
            or not _FLOATS.issuperset(map(type, metrics.values()))
        ):
            return self.log_planned(metrics, step).notes
        with self.lock:
            steps = self._steps
            at = steps.step_for(metrics)
            try:
                record = framed(scalars_event(metrics, at, self.wall_time or time()))
            except (OverflowError, AttributeError, UnicodeEncodeError):  # it reports invalid names
                return self.log_planned(metrics).notes
            self._put(record)
            self.events += 1
            if steps.ticks is not None:
                steps.took(at, metrics)
            else:
                steps.advance_to(at)
        return ()

    def log_planned(self, metrics: Metrics, step: int | None = None) -> Plan:
        """Log any metrics as `log` does, and return their plan."""
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
        """Log one `Summary.Value`."""
        self.append(value_event(value, step, self.wall_time or time()))

    def own_tag(self, name: str, step: int) -> str:
        """Return the tag of a picture: `name`, or `name/2` for the second one at a step, and so on.

        TensorBoard shows one picture of a tag and step.
        """
        with self.lock:
            last, count = self._pictures.get(name, (-1, 0))
            count = count + 1 if last == step else 1
            self._pictures[name] = (step, count)
        return name if count == 1 else f"{name}/{count}"

    def add_metrics(self, metrics: Mapping[str, Value], step: int) -> None:
        """Log plain metrics at a step, which moves no counter; errors as in `add`."""
        self.append(metrics_event(metrics, step, self.wall_time or time()))

    def restart(self, step: int) -> None:
        """Hide everything logged at this step or a later one, and continue from it."""
        with self.lock:
            # Twice: TensorBoard takes the first restart event of a directory as its start.
            for _ in range(2):
                self.append(restart_event(step, self.wall_time or time()))
            self._steps.global_step = step
            self._steps.last_step = min(self._steps.last_step, max(step - 1, 0))

    def append(self, event: bytes) -> None:
        """Write an event that is encoded already."""
        with self.lock:
            self._put(framed(event))
            self.events += 1

    def _put(self, records: bytes) -> None:
        """Write records; the caller holds the lock."""
        file = self._file
        if file is None or self._closed or monotonic() >= self._check_at:
            file = self._check_file()
        file.append(records)

    # -- opening, syncing and closing --------------------------------------------------------------

    def _check_file(self) -> EventFile:
        """Open a file if this process has none yet, or if its file was removed."""
        if self._closed:
            raise LifecycleError("this logger was cleaned up and can't be used again; construct a new one")
        if self._file is not None and self._file.is_deleted():
            removed = self._file.path
            self._log.warning("%s was removed while the run was writing to it; continuing in a new file", removed)
            self._file.close()
            self._file = None
        if self._file is None:
            try:
                self._file = self._open()
            except LogWriteError:
                raise
            except OSError as error:
                reason = f"{error.strerror or error}: no new file can be created, nothing of this call was logged"
                raise LogWriteError(error.errno, reason, str(self.directory)) from error
        self._check_at = monotonic() + LOOK_SECONDS
        return self._file

    def _open(self) -> EventFile:
        now = time()
        file = EventFile(self.directory, self._suffix)
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
        """Return once everything logged is on the disk."""
        with self.lock:
            if self._file is not None:
                if not self._closed and self._file.is_deleted():
                    self._check_file()
                self._file.sync()

    def close(self) -> None:
        """Close the file; later events raise `LifecycleError`."""
        with self.lock:
            self._closed = True
            if self._file is not None:
                self._file.close()

    def discard(self) -> None:
        """Close and remove the file, before anything was logged."""
        path = self.path
        self.close()
        if path is not None:
            path.unlink(missing_ok=True)

    # -- forks -------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Wait for an event in flight."""
        self.lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Release the lock."""
        with contextlib.suppress(RuntimeError):  # created during the fork: not held
            self.lock.release()

    def after_fork_in_child(self) -> None:
        """Release the parent's file; a new one is opened at the child's first event."""
        self.lock = threading.RLock()
        if self._closed:
            return
        if self._file is not None:
            self._file.close()
        self._file = None
        self.events = 0
        self.directory = self._of_worker()


class SilentWriter(EventWriter):
    """Counts the steps of a rank that writes nothing."""

    __slots__ = ()

    def _put(self, records: bytes) -> None:
        del records
