"""The directory of a local record: its checks, its lock, and where its files left off."""

from __future__ import annotations

import contextlib
import errno
import gc
import glob
import heapq
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ridgepole import rundir
from ridgepole.errors import RunDirError
from ridgepole.files import Flock
from ridgepole.loggers.append_file import last_line
from ridgepole.metrics.codec import decode
from ridgepole.metrics.reader import read_chunks
from ridgepole.metrics.steps import StepCounter
from ridgepole.metrics.summary import Summary
from ridgepole.rundir import abandoned_segments

DEFAULT_DIR = "logs"
EXIST = ("resume", "new", "error")
RANKS = ("zero", "all")
RANK_SUFFIX = "-rank-"
MIN_FREE = 1 << 20  # bytes; with less than this the first figure fails

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}(?=[^/])")  # Path makes one slash of two

_LAST_SEQ = 2**52  # JSON readers keep integers exact up to twice that
_CHILD_SEQS = 2**32
_RANK_SEQS = 2**38
COPIES_RANK = 2**52 // _RANK_SEQS
"""The rank whose numbers are for `rundir.COPIED`; a launch is never that large."""
COPIES_FIRST = _LAST_SEQ + (COPIES_RANK - 1) * _RANK_SEQS


def log_directory(given: str | Path) -> Path:
    """Return a directory as a path, with `~` replaced by the home directory.

    Raises:
        ValueError: If it is the address of a remote store.
    """
    if found := _ADDRESS.match(os.fspath(given)):
        raise ValueError(
            f"log_dir={os.fspath(given)!r} is an address, and logs are written to a local directory: give one, "
            f"and copy it to {found[0]}… when the run has ended (or mount the store as a directory)"
        )
    return Path(given).expanduser()


def check_directory(directory: Path, shown: str) -> None:
    """Create a directory, and check that it is writable and its disk not full.

    Args:
        directory: The directory.
        shown: Its name as the user gave it.

    Raises:
        RunDirError: If it is not usable.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        usage = os.statvfs(directory)
    except OSError as error:
        reason = "is a file, not a directory" if error.errno == errno.EEXIST else error.strerror or str(error)
        raise RunDirError(f"log_dir={shown!r} can't be created: {reason}; choose another log_dir") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise RunDirError(f"log_dir={shown!r} can't be written; choose another, or change its permissions")
    if usage.f_bavail * usage.f_frsize < MIN_FREE:
        raise RunDirError(f"log_dir={shown!r} is on a full disk; free some space, or choose another")


def choose_directory(directory: Path, metrics_filename: str, exist: str) -> Path:
    """Return the directory that a new logger uses, as its argument `exist` says of a used one.

    Args:
        directory: The directory that was asked for.
        metrics_filename: Name of the metrics file.
        exist: `"resume"`, `"new"` (the first unused of `logs-2`, `logs-3` and so on) or `"error"`.

    Raises:
        RunDirError: If it is used and must not be.
    """
    if exist == "resume" or not _is_used(directory, metrics_filename):
        return directory
    if exist == "error":
        raise RunDirError(
            f"log_dir={str(directory)!r} holds a record already; "
            "choose another, exist='resume' to continue it, or exist='new' for a new directory beside it"
        )
    number = 2
    while True:
        beside = directory.with_name(f"{directory.name}-{number}")
        with contextlib.suppress(FileExistsError):  # of two loggers at the same time, each makes its own
            beside.mkdir(parents=True)
            return beside
        number += 1


def _is_used(directory: Path, metrics_filename: str) -> bool:
    found = (directory / metrics_filename, directory / rundir.MEDIA)
    return any(path.is_file() and path.stat().st_size for path in found)


def purge(directory: Path, step: int, attempt: int) -> None:
    """Hide from readers all that was logged at a step or later; delete nothing.

    Raises:
        OSError: If `attempts.jsonl` can't be written.
    """
    files = [path for name in (rundir.METRICS_GLOB, "media*.jsonl") for path in directory.glob(name) if path.is_file()]
    start: int | None = None
    end = 0
    for seq, at in heapq.merge(*map(_seqs_and_steps, files)):
        if at >= step:
            start, end = seq if start is None else start, seq + 1
        elif start is not None:
            rundir.note_attempt(directory, attempt, end, start)
            start = None
    if start is not None:
        rundir.note_attempt(directory, attempt, end, start)


def _seqs_and_steps(path: Path) -> Iterator[tuple[int, int]]:
    for chunk, whole in read_chunks(path):
        for line in chunk.split(b"\n")[:-1] if whole else ():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = orjson.loads(line)
                yield int(record["seq"]), int(record["step"])


def free_directory(logger: Any, directory: Path) -> bool:
    """Close the loggers of this process that hold a directory and are no longer in use.

    They are those that only a cycle of garbage holds; and in an interactive session all, because
    the cell that made them was run again, and only its old output or traceback may hold them.

    Args:
        logger: The logger that wants the directory; the others are of its class.
        directory: The directory.

    Returns:
        Whether it is worth another try.
    """
    gc.collect()
    kind = type(logger)
    others = [
        other
        for other in gc.get_objects()
        if issubclass(type(other), kind)
        and other is not logger
        and other.__dict__.get("_writer") is not None
        and other.log_dir.absolute() == directory
    ]
    if others and not hasattr(sys, "ps1"):
        return False
    for other in others:
        other.cleanup()
        logger.warning(
            "the earlier %s of this session that wrote to %s was closed for this one", kind.__name__, directory
        )
    return True


class DirectoryInUseError(RunDirError):
    """Another logger writes to the directory."""


class DirectoryLock(Flock):
    """One logger a directory: a lock on the directory itself, which leaves no file behind.

    Raises:
        DirectoryInUseError: If another logger, of this or another process, writes there.
    """

    __slots__ = ()

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        try:
            acquired = self.take()
        except OSError:  # a filesystem without locks can't keep others out
            return
        if not acquired:
            raise DirectoryInUseError(
                f"another BasicLogger{_owner(directory)} writes to {directory}; "
                "clean it up first, or give this one its own log_dir"
            )

    def __del__(self) -> None:
        self.release()


def _owner(directory: Path) -> str:
    """Name the process that holds the lock, if the system tells (Linux: /proc/locks)."""
    try:
        inode = directory.stat().st_ino
        lines = Path("/proc/locks").read_text("ascii", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        if "FLOCK" in fields and len(fields) > 5 and fields[5].endswith(f":{inode}"):
            return " of this process" if fields[4] == str(os.getpid()) else f" (process {fields[4]})"
    return ""


class SequenceNumbers:
    """The block of numbers that the records of one process take; each is used at most once.

    Attributes:
        next: The next number.
        end: The end of the block.
        unused: How many numbers up to `next` no line of the metrics file has.
    """

    __slots__ = ("end", "next", "unused")

    def __init__(self, start: int = 0, end: int = _LAST_SEQ, *, records: int = 0) -> None:
        self.next = start
        self.end = end
        self.unused = start - records

    @property
    def records(self) -> int:
        """Number of lines in the metrics file."""
        return self.next - self.unused

    @classmethod
    def of_rank(cls, rank: int, path: Path, records: int) -> SequenceNumbers:
        """Return the numbers of a rank's own files, which no other rank has.

        Args:
            rank: The rank, from 1.
            path: The rank's metrics file.
            records: Number of its lines.
        """
        first = _LAST_SEQ + (rank - 1) * _RANK_SEQS
        numbers = cls(max([first, *(seq + 1 for seq in _last_seqs_of(path))]), first + _RANK_SEQS)
        numbers.unused = numbers.next - records
        return numbers

    def skip(self, count: int) -> int:
        """Take numbers that the metrics file does not have, and return the first."""
        start = self.next
        self.next += count
        self.unused += count
        return start

    def reserve(self) -> tuple[int, int]:
        """Take a block for another process, at most half of what is left."""
        size = min(_CHILD_SEQS, (self.end - self.next) // 2)
        return self.skip(size), self.next


def recover(path: Path, steps: StepCounter, summary: Summary) -> tuple[SequenceNumbers, int]:
    """Read a metrics file, so that steps, sequence numbers and summary continue after it.

    Args:
        path: The metrics file, its end repaired.
        steps: moved past the last step that no resume has undone.
        summary: Updated with the records that no resume has undone.

    Returns:
        The numbers that no file of the directory has used, and how many lines are unreadable.
    """
    records = bad = 0
    last = -1
    abandoned = abandoned_segments(path.parent)
    # A link to a device has no end to read up to.
    for chunk, _ in read_chunks(path) if path.is_file() else ():
        for line in chunk.split(b"\n")[:-1]:
            try:
                record = decode(line)
            except (ValueError, TypeError, IndexError):
                bad += 1
                continue
            records += 1
            last = max(last, record["seq"])
            if any(first <= record["seq"] < end for first, end in abandoned):
                continue
            steps.advance_to(record["step"])
            summary.update(record["metrics"], record["step"])
    return SequenceNumbers(max([last, *_last_seqs(path)]) + 1, records=records), bad


def _last_seqs(path: Path) -> list[int]:
    """Return the last sequence number of each other file of this rank, such as the media index."""
    found = []
    for name in {path.name, rundir.METRICS, rundir.MEDIA}:
        pattern = f"{glob.escape(Path(name).stem)}*{Path(name).suffix}"
        for other in set(path.parent.glob(pattern)) - {path}:
            if RANK_SUFFIX not in other.name and other.name != rundir.COPIED:
                found += _last_seqs_of(other)
    return found


def _last_seqs_of(path: Path) -> list[int]:
    """Return the last sequence number of a file, or nothing."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return [int(orjson.loads(last_line(path))["seq"])]
    return []
