"""The metrics file of one process: sequence numbers, steps and the summary behind `log_metrics`."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any

from ridgepole import rundir
from ridgepole.errors import LifecycleError, LogWriteError
from ridgepole.files import write_atomically
from ridgepole.loggers.append_file import AppendFile, write_error
from ridgepole.loggers.fork_safety import watch_forks
from ridgepole.loggers.local.background import DeferredRecords, PeriodicSync
from ridgepole.loggers.local.directory import RANK_SUFFIX, DirectoryLock, SequenceNumbers, purge, recover
from ridgepole.metrics.codec import NEWLINE, dumps, encode, encode_line
from ridgepole.metrics.steps import MAX_STEP, Metrics, Plan, StepCounter, is_pending, plan
from ridgepole.metrics.summary import SUMMARY_FORMAT, Summary
from ridgepole.metrics.values import PLAIN, flatten, settle

_LINE_START = b'{"seq":'


class JsonlWriter:
    """Appends records, each call one write: a record survives the process once `append` returns.

    A forked child starts without a file; its first record opens `metrics-<pid>-<seq>.jsonl`. Each
    fork gives the child a block of sequence numbers, and the parent continues after it. So every
    number is used once, and sorting by `seq` puts a child's records where the fork happened.

    Attributes:
        steps: The logger's step counter.
        summary: The running summary.
        bad: Number of unreadable lines in the reopened file.
        suffix: Suffix of a forked child's or a copy's files; empty in the owner of the directory.
        clock: Returns the time of a record, in seconds since the epoch.
        lock: Guards the file, and the files beside it.
    """

    __slots__ = (
        "__weakref__",
        "_child_block",
        "_closed",
        "_deferred",
        "_directory_lock",
        "_file",
        "_first_seq",
        "_log",
        "_numbers",
        "_path",
        "_periodic",
        "_unprepared",
        "bad",
        "clock",
        "lock",
        "steps",
        "suffix",
        "summary",
    )

    def __init__(
        self,
        path: Path,
        steps: StepCounter,
        log: logging.Logger,
        block: tuple[int, int] | None = None,
        goals: Mapping[str, str] | None = None,
    ) -> None:
        """Open the metrics file and continue at its end.

        Args:
            path: The metrics file; its directory exists.
            steps: The logger's step counter; moved past the last step of the file.
            log: The logger that reports repairs.
            block: Sequence numbers of a copy in another process, which writes a file of its own.
            goals: The better direction of metrics, as for `Summary`.

        Raises:
            RunDirError: If another logger writes there, or Ridgepole did not write the file.
            OSError: If the file can't be opened.
        """
        self.steps = steps
        self.summary = Summary(goals)
        self.bad = 0
        self.suffix = ""
        self.clock: Callable[[], float] = time
        self.lock = threading.RLock()
        self._path = path
        self._log = log
        self._file: AppendFile | None = None
        self._directory_lock: DirectoryLock | None = None
        self._deferred: DeferredRecords | None = None
        self._periodic = PeriodicSync()
        self._child_block = (0, 0)
        self._closed = False
        self._unprepared = True  # the next record opens or replaces the file, or starts the sync
        if block is None:
            self._directory_lock = DirectoryLock(path.parent)
            self._file = self._open(path)
            self._numbers, self.bad = recover(path, steps, self.summary)
            if self.bad:
                log.warning("%s: skipped %d unreadable line(s)", path, self.bad)
        else:
            self._become_worker(block)
        self._first_seq = self._numbers.next
        watch_forks(self)

    def become_rank(self, rank: int, suffix: str | None = None) -> None:
        """Continue the files of a rank other than 0, with its number or a suffix in their names."""
        self.suffix = suffix or f"{RANK_SUFFIX}{rank}"
        path = self.own_path(self._path)
        records = 0
        if path.is_file():
            recovered, self.bad = recover(path, self.steps, self.summary)
            records = recovered.records
        self._numbers = SequenceNumbers.of_rank(rank, path, records)

    def note_reopened(self, purge_step: int | None) -> None:
        """Note a new attempt in a used directory; hide what was logged from a step on.

        Raises:
            OSError: If `attempts.jsonl` can't be written.
        """
        directory = self._path.parent
        if self.is_worker or not self._numbers.next:
            return
        attempt = max([1, *(line["attempt"] for line in rundir.read_attempts(directory))]) + 1
        rundir.note_attempt(directory, attempt, first_seq=self.seq)
        if purge_step is not None:
            self.hide_from(purge_step, attempt)

    def hide_from(self, step: int, attempt: int) -> None:
        """Hide what was logged at a step or later from readers, and continue from there.

        Args:
            step: The step.
            attempt: The number of the attempt that does.

        Raises:
            OSError: If `attempts.jsonl` can't be written.
        """
        purge(self._path.parent, step, attempt)
        self.summary = Summary(self.summary.goals)
        recover(self._path, StepCounter(), self.summary)
        self.steps.global_step = step
        self.steps.last_step = min(self.steps.last_step, max(step - 1, 0))

    def rewind(self, seq: int | None, attempt: int) -> None:
        """Return to a checkpoint: hide the records between it and now.

        Args:
            seq: The next sequence number at the checkpoint; None returns to the beginning, which
                hides what the file held when it was opened.
            attempt: Number of the attempt that resumes there.

        Raises:
            LogWriteError: If `attempts.jsonl` can't be written.
        """
        if self.is_worker:
            return
        directory = self._path.parent
        with self.lock:
            first, end = (0, self._first_seq) if seq is None else (seq, self.seq)
            try:
                rundir.note_attempt(directory, attempt, end, min(first, end))
            except OSError as error:
                raise write_error(error, directory / rundir.ATTEMPTS) from error
            self.summary = Summary(self.summary.goals)
            recover(self._path, StepCounter(), self.summary)

    # -- appending ---------------------------------------------------------------------------------

    def append(self, metrics: Metrics, step: int | None = None) -> Sequence[tuple[str, str]]:
        """Write the record of one `log_metrics` call; arguments and errors are those of the call.

        The common case, a plain mapping of plain values, is written without a look at each value:
        orjson itself refuses what JSON can't hold, and writes `null` for NaN and infinities only.

        Returns:
            Name and type of each value that is stored as text.
        """
        if type(metrics) is not dict or "" in metrics:
            return self.append_planned(metrics, step).notes
        notes: Sequence[tuple[str, str]] = ()
        if not PLAIN.issuperset(map(type, metrics.values())):
            flat: dict[str, Any] = {}
            if flatten(metrics, "", flat):
                notes = settle(flat)
            metrics = flat
        with self.lock:
            if self._unprepared:
                self._prepare()
            steps = self.steps
            own = steps.global_step if steps.ticks is None else steps.step_for(metrics)
            if step is None:
                step = own
            elif type(step) is not int or not 0 <= step <= MAX_STEP:
                self.append_planned(metrics, step)
                return notes
            numbers = self._numbers
            seq = numbers.next
            try:
                line = dumps({"seq": seq, "time": self.clock(), "step": step, "metrics": metrics}, None, NEWLINE)
            except TypeError:  # a name that is not text, or a value that JSON can't hold
                return [*notes, *self.append_planned(metrics, step).notes]
            if b"null" in line:
                line = encode_line(seq, self.clock(), step, metrics)
            # `_write` and `steps.took`, inlined: the two calls would cost 5 %.
            numbers.next = seq + 1
            try:
                self._file.append(line)  # type: ignore[union-attr]  # `_prepare` opened it
            except LogWriteError:
                numbers.unused += 1
                raise
            if steps.ticks is not None:
                steps.took(step, metrics)
            else:
                steps.last_step = step
                if step >= steps.global_step:
                    steps.global_step = step + 1
            self.summary.update(metrics, step)
        return notes

    def append_planned(self, metrics: Metrics, step: int | None = None) -> Plan:
        """Write metrics of any form, and return their plan; arguments and errors as in `append`."""
        with self.lock:
            if self._unprepared:
                self._prepare()
            made = plan(metrics, step, self.steps)
            if made.rows:
                try:
                    line = encode(made.rows, self._numbers.next, self.clock())
                except TypeError:  # a value on a GPU; finding it here costs plain values nothing
                    if not is_pending(made):
                        raise
                    if self._deferred is None:
                        self._deferred = DeferredRecords(self._write_arrived)
                    self._deferred.add(made)
                else:
                    self._write_rows(made, line)
            self.steps.adopt(made)
            return made

    def _write_arrived(self, made: Plan) -> None:
        """Write a deferred record: its step is that of the call, its number that of now."""
        with self.lock:
            if self._unprepared:
                self._prepare()
            self._write_rows(made, encode(made.rows, self._numbers.next, self.clock()))

    def _write_rows(self, made: Plan, lines: bytes) -> None:
        self._write(lines, len(made.rows))
        for row in made.rows:
            self.summary.update(row.metrics, row.step)

    def _write(self, lines: bytes, count: int) -> None:
        """Write lines whose sequence numbers begin at the next one."""
        numbers = self._numbers
        numbers.next += count  # first: an interrupted write must not leave a number for two records
        try:
            self._file.append(lines)  # type: ignore[union-attr]  # `_prepare` opened it
        except LogWriteError:
            numbers.unused += count
            raise

    def drain(self) -> None:
        """Wait until records with values on a GPU are written too.

        Raises:
            LogWriteError: If one could not be written, or a value has not arrived in time.
        """
        if self._deferred is None:
            return
        try:
            self._deferred.drain()
        except LogWriteError:
            raise
        except Exception as error:
            raise LogWriteError(None, f"values of a GPU could not be logged: {error}", str(self._path)) from error

    # -- opening and repair ------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Open the file of a forked child, replace a removed one, and start the periodic sync."""
        if self._closed:
            raise LifecycleError("this logger was cleaned up and can't be used again; construct a new one")
        if self._file is None or self._file.is_deleted():
            path = self.own_path(self._path)
            if self._file is not None:
                self._log.warning("%s was removed while the run was writing to it; continuing in a new file", path)
                with contextlib.suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = self._open(path)
            except OSError as error:
                raise write_error(error, path) from error
            if self._file is not None:
                self._file.close()
            self._file = file
        self._periodic.start(self.sync_now)
        self._unprepared = False

    def _open(self, path: Path) -> AppendFile:
        file = AppendFile(path)
        file.check_header(_LINE_START)
        if removed := file.repair():
            self._log.warning("%s: cut off a torn last line of %d bytes, left by a killed write", path, removed)
        return file

    def own_path(self, path: Path) -> Path:
        """Return this process's form of a file name, with the suffix of a forked child."""
        return path.with_name(f"{path.stem}{self.suffix}{path.suffix}") if self.suffix else path

    # -- durability --------------------------------------------------------------------------------

    def sync_now(self) -> None:
        """Sync once, off the loop's path, and have the next record check the file."""
        with self.lock:
            if self._closed or self._file is None:
                return
            self._unprepared = True
            try:
                copy = os.dup(self._file.fd)
            except OSError:  # no descriptors left
                return
        self._periodic.sync_copy(copy)

    def sync(self) -> None:
        """Wait until everything logged is on the disk.

        Raises:
            LogWriteError: If it is not, or a periodic sync since the last call failed.
        """
        self.drain()
        with self.lock:
            if self._file is None:
                return
            if self._file.is_deleted():
                self._prepare()
            self._file.sync()
            error, self._periodic.error = self._periodic.error, None
            if error is not None:
                raise write_error(error, self._path, "what was logged may not be on the disk")

    @property
    def is_worker(self) -> bool:
        """Tell whether this writer belongs to a forked child, or to a copy in another process."""
        return bool(self.suffix)

    @property
    def seq(self) -> int:
        """The next sequence number."""
        return self._numbers.next

    @property
    def records(self) -> int:
        """Number of lines in the file."""
        return self._numbers.records

    @contextlib.contextmanager
    def numbered(self) -> Iterator[int]:
        """Hold the lock and give a sequence number to a record of another file."""
        with self.lock:
            if self._unprepared:
                self._prepare()
            yield self._numbers.skip(1)

    def reserve(self) -> tuple[int, int]:
        """Give away a block of sequence numbers and continue after it."""
        with self.lock:
            return self._numbers.reserve()

    def describe(self, dropped: int) -> dict[str, Any]:
        """Return the content of `summary.json`."""
        with self.lock:
            return {
                "format": SUMMARY_FORMAT,
                "metrics": self.summary.as_dict(),
                "records": self.records,
                "steps": self.steps.global_step,
                "dropped": dropped,
            }

    def write_summary(self, dropped: int) -> None:
        """Replace `summary.json`; a worker leaves it to the owner of the directory.

        Raises:
            LogWriteError: If it can't be written.
        """
        if self.is_worker:
            return
        path = self._path.with_name(rundir.SUMMARY)
        try:
            write_atomically(path, dumps(self.describe(dropped), None, NEWLINE))
        except OSError as error:
            raise write_error(error, path) from error

    def close(self) -> None:
        """Close the file and release the directory; later records are refused."""
        if self._deferred is not None:
            self._deferred.close()
        with self.lock:
            self._closed = self._unprepared = True
            self._periodic.stop()
            if self._file is not None:
                self._file.close()
            if self._directory_lock is not None:
                self._directory_lock.release()

    # -- forks -------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Wait for a record in flight, and reserve numbers for the child."""
        self.lock.acquire()
        if not self._closed:
            self._child_block = self._numbers.reserve()

    def after_fork_in_parent(self) -> None:
        """Release the lock."""
        # Opened by another thread during the fork: not held
        with contextlib.suppress(RuntimeError):
            self.lock.release()

    def after_fork_in_child(self) -> None:
        """Release what belongs to the parent; the child's first record opens its own file."""
        self.lock = threading.RLock()
        if not self._closed:
            self._become_worker(self._child_block)

    def _become_worker(self, block: tuple[int, int]) -> None:
        self._numbers = SequenceNumbers(*block)
        self.suffix = f"-{os.getpid()}-{block[0]}"
        if self._file is not None:
            self._file.close()
        if self._directory_lock is not None:
            self._directory_lock.release()
        self._file = self._directory_lock = self._deferred = None
        self._periodic = PeriodicSync()
        self._unprepared = True


class SilentWriter(JsonlWriter):
    """Counts steps and keeps the summary of a rank that writes nothing."""

    __slots__ = ()

    def own_path(self, path: Path) -> Path:
        """Return the null device."""
        del path
        return Path(os.devnull)
