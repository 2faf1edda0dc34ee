"""The metrics file of one process: sequence numbers, steps and the summary behind `BasicLogger.log_metrics`."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any

from ridgepole import rundir
from ridgepole.errors import LifecycleError, LogWriteError
from ridgepole.files import write_atomically
from ridgepole.metrics.codec import NEWLINE, dumps, encode, encode_line
from ridgepole.metrics.pending import is_pending
from ridgepole.metrics.steps import MAX_STEP, Metrics, Plan, StepCounter, plan
from ridgepole.metrics.summary import SUMMARY_FORMAT, Summary
from ridgepole.metrics.values import PLAIN, flatten
from ridgepole.permanences.loggers.appendfile import AppendFile, sync_copy
from ridgepole.permanences.loggers.catchup import catch_up
from ridgepole.permanences.loggers.forks import watch_forks
from ridgepole.permanences.loggers.late import LateRecords
from ridgepole.permanences.loggers.ownership import DirectoryLock
from ridgepole.threads import start_thread

SYNC_SECONDS = 5.0
_LINE_START = b'{"seq":'
_LAST_SEQ = 2**53  # every JSON reader keeps integers exact up to here
_CHILD_SEQS = 2**32

_write = os.write


class Journal:
    """Appends records, each call one write, so that a record survives the process from the moment `append` returns.

    A forked child finds its journal without a file; its first record opens one of its own, `metrics-<pid>-<seq>.jsonl`.
    At each fork the child is given a block of sequence numbers, and the parent goes on behind it: no number is used
    twice, and a child's records stand in the order of `seq` where the fork happened.

    Attributes:
        steps: Where the logger stands.
        summary: The running summary.
        bad: Lines of the reopened file that are no records.
    """

    __slots__ = (
        "__weakref__",
        "_armed",
        "_attention",
        "_child_start",
        "_closed",
        "_end",
        "_fd",
        "_file",
        "_first_seq",
        "_gone",
        "_late",
        "_lock",
        "_log",
        "_owner",
        "_path",
        "_seq",
        "_sync_error",
        "_timer",
        "_unused",
        "bad",
        "steps",
        "suffix",
        "summary",
    )

    def __init__(
        self, path: Path, steps: StepCounter, log: logging.Logger, block: tuple[int, int] | None = None
    ) -> None:
        """Opens the metrics file and goes on where it ends.

        Args:
            path: The metrics file; its directory exists.
            steps: The logger's step counter; moved behind the last step of the file.
            log: Where repairs are reported.
            block: The sequence numbers of a copy of a logger in another process, which writes a file of its own.

        Raises:
            RunDirError: If another logger writes there, or the file is none of ours.
            OSError: If the file can't be opened.
        """
        self.steps = steps
        self.summary = Summary()
        self.bad = 0
        self.suffix = ""
        self._path = path
        self._log = log
        self._lock = threading.RLock()
        self._file: AppendFile | None = None
        self._fd = -1
        self._owner: DirectoryLock | None = None
        self._seq, self._end = block or (0, _LAST_SEQ)
        self._unused = self._seq
        self._child_start = 0
        self._attention = True
        self._armed = self._gone = self._closed = False
        self._timer: threading.Timer | None = None
        self._sync_error: OSError | None = None
        self._late: LateRecords | None = None
        if block is None:
            self._owner = DirectoryLock(path.parent)
            self._open(path)
            self._seq, records, self.bad = catch_up(path, steps, self.summary)
            self._first_seq = self._seq
            self._unused = self._seq - records
            if self.bad:
                log.warning("%s: skipped %d unreadable line(s)", path, self.bad)
        else:
            self._first_seq = self._seq
            self.suffix = f"-{os.getpid()}-{self._seq}"
        watch_forks(self)

    def rewind(self, seq: int | None, attempt: int) -> None:
        """Goes back to a checkpoint: hides what was logged between it and now.

        Args:
            seq: The sequence number that the checkpoint would have used next; None goes back to the beginning, which
                hides what was there when this journal was opened.
            attempt: The attempt of the run that goes on from there.

        Raises:
            LogWriteError: If that can't be written down.
        """
        if self.is_worker:
            return
        directory = self._path.parent
        with self._lock:
            try:
                first, end = (0, self._first_seq) if seq is None else (seq, self._seq)
                rundir.note_attempt(directory, attempt, end, min(first, end))
            except OSError as error:
                name = str(directory / rundir.ATTEMPTS)
                raise LogWriteError(error.errno, error.strerror or str(error), name) from error
            self.summary = Summary()
            catch_up(self._path, StepCounter(), self.summary)

    # -- appending ---------------------------------------------------------------------------------------------------

    def append(self, metrics: Metrics, step: int | None = None) -> None:
        """Logs what one call of `log_metrics` was given.

        The common case, a plain mapping of plain values, is written without looking at each value: orjson itself
        refuses what JSON has no form for, and writes `null` for a number that is not finite, and for nothing else.

        Args:
            metrics: As `log_metrics` takes it.
            step: An explicit step, or None.

        Raises:
            TypeError: If something can't be logged.
            ValueError: If names collide or a step is out of range.
            LogWriteError: If the record did not reach the operating system; the step has not moved.
        """
        if type(metrics) is not dict:
            self.append_planned(metrics, step)
            return
        if not PLAIN.issuperset(map(type, metrics.values())):
            flat: dict[str, Any] = {}
            flatten(metrics, "", flat)
            metrics = flat
        with self._lock:
            if self._attention:
                self._attend()
            steps = self.steps
            if step is None:
                step = steps.global_step
            elif type(step) is not int or not 0 <= step <= MAX_STEP:
                self.append_planned(metrics, step)
                return
            seq = self._seq
            try:
                line = dumps({"seq": seq, "time": time(), "step": step, "metrics": metrics}, None, NEWLINE)
            except TypeError:
                self.append_planned(metrics, step)  # raises an error that names the key
                return
            if b"null" in line:
                line = encode_line(seq, time(), step, metrics)
            self._seq = seq + 1
            try:
                written = _write(self._fd, line)
                if written != len(line):
                    self._finish(line, written)
            except OSError as error:
                raise self._failed(error, 1) from error.__cause__ or error
            steps.last_step = step
            if step >= steps.global_step:
                steps.global_step = step + 1
            self.summary.update(metrics, step)

    def append_planned(self, metrics: Metrics, step: int | None = None) -> Plan:
        """As `append`, whatever the metrics are; returns what they came to."""
        with self._lock:
            if self._attention:
                self._attend()
            made = plan(metrics, step, self.steps)
            if made.rows:
                try:
                    line = encode(made.rows, self._seq, time())
                except TypeError:  # JSON has no form for a value that is still on a GPU, which costs the others no look
                    if not is_pending(made):
                        raise
                    self._write_late(made)
                else:
                    self._write_rows(made, line)
            self.steps.adopt(made)
            return made

    def _write_rows(self, made: Plan, line: bytes) -> None:
        count = len(made.rows)
        self._seq += count
        try:
            written = _write(self._fd, line)
            if written != len(line):
                self._finish(line, written)
        except OSError as error:
            raise self._failed(error, count) from error.__cause__ or error
        for row in made.rows:
            self.summary.update(row.metrics, row.step)

    def _write_late(self, made: Plan) -> None:
        """Has a record written once its values are there; its step is that of the call, its number that of then."""
        if self._late is None:
            self._late = LateRecords(self._write_arrived)
        self._late.add(made)

    def _write_arrived(self, made: Plan) -> None:
        with self._lock:
            if self._attention:
                self._attend()
            self._write_rows(made, encode(made.rows, self._seq, time()))

    def drain(self) -> None:
        """Returns once records that wait for values of a GPU are with the operating system, too.

        Raises:
            LogWriteError: If one could not be written since the last call, or a value has not arrived in time.
        """
        late = self._late
        if late is None:
            return
        try:
            late.drain()
        except LogWriteError:
            raise
        except Exception as error:
            raise LogWriteError(None, f"values of a GPU could not be logged: {error}", str(self._path)) from error

    def _finish(self, line: bytes, written: int) -> None:
        assert self._file is not None
        self._file.finish(line, written)

    def _failed(self, error: OSError, count: int) -> LogWriteError:
        self._unused += count
        self._attention = True
        assert self._file is not None
        return error if isinstance(error, LogWriteError) else self._file.failed(error)

    # -- what is rarely due ------------------------------------------------------------------------------------------

    def _attend(self) -> None:
        """Does what the next record must wait for: a file of the child's own, a repair, arming the timer."""
        if self._closed:
            raise LifecycleError("this logger was cleaned up and can't be used again; construct a new one")
        if self._file is None:
            self._open(self.own_path(self._path))
        elif self._gone or self._file.is_gone():
            self._recreate()
        else:
            self._file.mend()
        if not self._armed:
            self._arm()
        self._attention = False

    def _open(self, path: Path) -> None:
        try:
            file = AppendFile(path)
            file.refuse_foreign(_LINE_START)
            cut = file.repair()
        except LogWriteError:
            raise
        except OSError as error:
            if self.suffix:  # in the middle of a run: the caller is log_metrics
                raise LogWriteError(error.errno, error.strerror or str(error), str(path)) from error
            raise
        if cut:
            self._log.warning("%s: cut off a torn last line of %d bytes, left by a killed write", path, cut)
        self._file, self._fd = file, file.fd

    def _recreate(self) -> None:
        """The file was removed under us: goes on in a new one, so that no more is lost."""
        path = self.own_path(self._path)
        self._log.warning("%s was removed while the run was writing to it; going on in a new file", path)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = AppendFile(path)
        except OSError as error:
            raise LogWriteError(error.errno, error.strerror or str(error), str(path)) from error
        if self._file is not None:
            self._file.close()
        self._file, self._fd, self._gone = file, file.fd, False

    def own_path(self, path: Path) -> Path:
        """This process's form of a file name: as it is in the owner, with process id and block in a forked child."""
        return path.with_name(f"{path.stem}{self.suffix}{path.suffix}") if self.suffix else path

    # -- durability --------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Has the file synced in a few seconds, off the loop's path."""
        timer = threading.Timer(SYNC_SECONDS, _sync_later, (weakref.ref(self),))
        timer.daemon = True
        try:
            start_thread(timer)
        except RuntimeError:  # no more threads, or the interpreter is going down: checkpoints still sync
            return
        self._timer, self._armed = timer, True

    def sync_now(self) -> None:
        """One periodic sync; a failure is kept for the next `sync`, which must not claim what is not so."""
        with self._lock:
            if self._closed or self._file is None:
                return
            self._armed, self._attention = False, True
            self._gone = self._file.is_gone()
            try:
                copy = os.dup(self._fd)
            except OSError:  # no descriptors left
                return
        error = sync_copy(copy)
        if error is not None:
            self._sync_error = error

    def sync(self) -> None:
        """Returns once everything logged is on the disk.

        Raises:
            LogWriteError: If it is not, or a periodic sync since the last call failed.
        """
        self.drain()
        with self._lock:
            if self._file is None:
                return
            if self._file.is_gone():
                self._recreate()
            self._file.sync()
            error, self._sync_error = self._sync_error, None
            if error is not None:
                raise LogWriteError(
                    error.errno, f"{error.strerror}: what was logged may not be on the disk", str(self._path)
                )

    @property
    def is_worker(self) -> bool:
        """Whether this is a forked child's journal, or that of a copy in another process."""
        return bool(self.suffix)

    @property
    def seq(self) -> int:
        """The next sequence number."""
        return self._seq

    @property
    def records(self) -> int:
        """How many lines the file holds."""
        return self._seq - self._unused

    def locked(self) -> threading.RLock:
        """The journal's lock, for the files beside it."""
        return self._lock

    @contextlib.contextmanager
    def numbered(self) -> Iterator[int]:
        """A sequence number for a record of another file, under the journal's lock."""
        with self._lock:
            if self._attention:
                self._attend()
            self._seq += 1
            self._unused += 1
            yield self._seq - 1

    def reserve(self) -> tuple[int, int]:
        """Gives away a block of sequence numbers and goes on behind it."""
        with self._lock:
            start = self._seq
            size = min(_CHILD_SEQS, (self._end - start) // 2)
            self._seq += size
            self._unused += size
            return start, start + size

    def describe(self, dropped: int) -> dict[str, Any]:
        """The content of `summary.json`."""
        with self._lock:
            return {
                "format": SUMMARY_FORMAT,
                "metrics": self.summary.as_dict(),
                "records": self.records,
                "steps": self.steps.global_step,
                "dropped": dropped,
            }

    def write_summary(self, dropped: int) -> None:
        """Replaces `summary.json`; a worker leaves it to the owner of the directory.

        Raises:
            LogWriteError: If it can't be written.
        """
        if self.is_worker:
            return
        path = self._path.with_name(rundir.SUMMARY)
        try:
            write_atomically(path, dumps(self.describe(dropped), None, NEWLINE))
        except OSError as error:
            raise LogWriteError(error.errno, error.strerror or str(error), str(path)) from error

    def close(self) -> None:
        """Closes the file and gives the directory back; later records are refused."""
        if self._late is not None:
            self._late.close()
        with self._lock:
            self._closed = self._attention = True
            if self._timer is not None:
                self._timer.cancel()
            if self._file is not None:
                self._file.close()
            self._fd = -1
            if self._owner is not None:
                self._owner.release()

    # -- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Waits for a record in flight, and sets numbers aside for the child."""
        self._lock.acquire()
        if not self._closed:
            self._child_start = self.reserve()[0]

    def after_fork_in_parent(self) -> None:
        """Goes on."""
        with contextlib.suppress(RuntimeError):  # opened by another thread in the middle of the fork: not held
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Lets go of what belongs to the parent; nothing is opened before the child logs something."""
        self._lock = threading.RLock()
        if self._closed:
            return
        end = self._seq
        self._seq = self._unused = self._child_start
        self._end = end
        self.suffix = f"-{os.getpid()}-{self._seq}"
        if self._file is not None:
            self._file.close()
        if self._owner is not None:
            self._owner.release()
        self._file, self._fd, self._owner, self._timer, self._late = None, -1, None, None, None
        self._armed, self._attention, self._gone = False, True, False


def _sync_later(reference: weakref.ref[Journal]) -> None:
    journal = reference()
    if journal is not None:
        journal.sync_now()
