"""One event file, and what the directory that holds event files may look like."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from ridgepole.errors import LogWriteError, RunDirError
from ridgepole.permanences.loggers.appendfile import sync
from ridgepole.permanences.loggers.basic import MIN_FREE

PREFIX = "events.out.tfevents."
"""What the names of event files begin with; TensorBoard looks for `tfevents` in a name."""

_STAMP = re.compile(re.escape(PREFIX) + r"(\d+)\.")


def event_files(directory: Path) -> list[Path]:
    """The event files of a directory in the order in which TensorBoard reads them, which is that of their names."""
    try:
        return sorted(path for path in directory.iterdir() if path.name.startswith(PREFIX))
    except OSError:
        return []


class EventFile:
    """Whole records, each call one write to a descriptor in append mode.

    Its name is behind those of all other event files of the directory, also where the clock was set back: TensorBoard
    reads one file after the other and never goes back to one before. While it is open, it is locked.

    Attributes:
        path: The file.
    """

    __slots__ = ("_fd", "_size", "_torn", "path")

    def __init__(self, directory: Path) -> None:
        """Makes a file of its own.

        Args:
            directory: Where; made where it is missing.

        Raises:
            OSError: If it can't be made.
        """
        self._fd = -1
        self._size = 0
        self._torn = False
        directory.mkdir(parents=True, exist_ok=True)
        stamps = [int(found[1]) for path in event_files(directory) if (found := _STAMP.match(path.name))]
        stamp = max([int(time.time()), *(stamp + 1 for stamp in stamps)])
        while self._fd < 0:
            self.path = directory / f"{PREFIX}{stamp:010d}.{socket.gethostname()}.{os.getpid()}.0"
            stamp += 1
            with contextlib.suppress(FileExistsError):
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        with contextlib.suppress(OSError):  # a filesystem without locks: nobody can be kept out
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __del__(self) -> None:
        self.close()

    def append(self, records: bytes) -> None:
        """Writes whole records.

        Args:
            records: One or more framed records.

        Raises:
            LogWriteError: If they did not reach the operating system as a whole; what did is taken back.
        """
        if self._torn:
            self._mend()
        try:
            written = os.write(self._fd, records)
            while written < len(records):
                self._torn = True
                written += os.write(self._fd, memoryview(records)[written:])
        except OSError as error:
            if self._torn:
                with contextlib.suppress(LogWriteError):  # the next append tries again before it writes anything
                    self._mend()
            raise self._failed(error) from error
        self._torn = False
        self._size += len(records)

    def _mend(self) -> None:
        """Takes back the part of a record that a failed write left: TensorBoard reads nothing behind it."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            raise self._failed(error) from error
        self._torn = False

    def _failed(self, error: OSError) -> LogWriteError:
        reason = f"{error.strerror or error}: nothing of this call was logged, the step is unchanged"
        return LogWriteError(error.errno, reason, str(self.path))

    def is_gone(self) -> bool:
        """Whether the file was removed, so that nobody will ever read what is written to it."""
        return os.fstat(self._fd).st_nlink == 0

    def sync(self) -> None:
        """Waits until everything written is on the disk.

        Raises:
            LogWriteError: If the disk reports a failure.
        """
        error = sync(self._fd)
        if error is not None:
            reason = f"{error.strerror or error}: what was logged may not be on the disk"
            raise LogWriteError(error.errno, reason, str(self.path)) from error

    def close(self) -> None:
        """Closes the file and gives its lock back; a second time does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def check_directory(directory: Path, shown: str) -> None:
    """Makes a directory, and sees that it can be written and its disk is not full.

    Args:
        directory: The directory.
        shown: Its name as the user gave it.

    Raises:
        RunDirError: If it is no such directory.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        usage = os.statvfs(directory)
    except OSError as error:
        what = "is a file, not a directory" if error.errno == errno.EEXIST else error.strerror or str(error)
        raise RunDirError(f"log_dir={shown!r} can't be made: {what}; choose another log_dir") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise RunDirError(f"log_dir={shown!r} can't be written; choose another, or change its permissions")
    if usage.f_bavail * usage.f_frsize < MIN_FREE:
        raise RunDirError(f"log_dir={shown!r} is on a full disk; free some space, or choose another")


def check_writers(
    directory: Path, own: Path | None, writer_of: Callable[[Path], str | None], wanted: str | None
) -> None:
    """Sees that nobody else's curves would be mixed with ours: TensorBoard draws a directory as one run.

    Args:
        directory: An existing directory.
        own: The file that is written already, if one is.
        writer_of: Says who wrote a file; None where nobody has written anything yet.
        wanted: Who alone may have written here; None for anybody, as long as it is over.

    Raises:
        RunDirError: If another logger writes there, or somebody else has.
    """
    for path in event_files(directory):
        if path == own:
            continue
        if _is_locked(path):
            raise RunDirError(
                f"another TensorBoardLogger writes to {directory}; clean it up first, or give this one its own log_dir"
            )
        if wanted is not None and (writer := writer_of(path)) not in (wanted, None):
            raise RunDirError(
                f"{directory} holds event files of {writer}, and TensorBoard would draw both as one run; "
                "leave log_dir out, or name an empty one"
            )


def _is_locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(fd)
    return False
