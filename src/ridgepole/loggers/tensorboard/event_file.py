"""One event file, and checks of the directory of event files."""

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

from ridgepole.errors import RunDirError
from ridgepole.loggers.append_file import AppendFile

PREFIX = "events.out.tfevents."
"""The prefix of event files' names; TensorBoard looks for `tfevents` in a name."""

_STAMP = re.compile(re.escape(PREFIX) + r"(\d+)\.")


def event_files(directory: Path) -> list[Path]:
    """Return the event files of a directory, sorted by name, as TensorBoard reads them."""
    try:
        return sorted(path for path in directory.iterdir() if path.name.startswith(PREFIX))
    except OSError:
        return []


class EventFile(AppendFile):
    """An append-only file of whole records, locked while it is open.

    Its name sorts after all other event files of the directory, even if the clock was set back:
    TensorBoard reads one file after another and never returns to an earlier one.
    """

    __slots__ = ("_size",)

    def __init__(self, directory: Path, suffix: str = "") -> None:
        """Create a new file, whose name ends in `suffix`, and its directory if it is missing."""
        self.fd, self._size = -1, 0
        directory.mkdir(parents=True, exist_ok=True)
        stamps = [int(found[1]) for path in event_files(directory) if (found := _STAMP.match(path.name))]
        stamp = max([int(time.time()), *(stamp + 1 for stamp in stamps)])
        while self.fd < 0:
            name = f"{PREFIX}{stamp:010d}.{socket.gethostname()}.{os.getpid()}.0{suffix}"
            stamp += 1
            with contextlib.suppress(FileExistsError):
                super().__init__(directory / name, exclusive=True)
        with contextlib.suppress(OSError):  # a filesystem without locks
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def append(self, data: bytes) -> None:
        """Write whole records; errors as in `AppendFile.append`."""
        super().append(data)
        self._size += len(data)

    def repair(self) -> int:
        """Cut off a torn record (TensorBoard stops reading there); return its length in bytes."""
        torn = os.fstat(self.fd).st_size - self._size
        os.ftruncate(self.fd, self._size)
        return torn


def check_writers(
    directory: Path, own: Path | None, writer_of: Callable[[Path], str | None], wanted: str | None
) -> None:
    """Check that no other writer uses a directory: TensorBoard draws a directory as one run.

    Args:
        directory: An existing directory.
        own: The open file of this logger, if any.
        writer_of: Returns the writer of a file; None for an empty file.
        wanted: The only writer that may have written here before; None for any writer.
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
