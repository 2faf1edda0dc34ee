"""A file of lines that only grows, and that a failed or killed write leaves repairable."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from ridgepole.errors import LogWriteError, RunDirError

_sync = getattr(os, "fdatasync", os.fsync)  # macOS has fsync alone
_BLOCK = 64 << 10


class AppendFile:
    """Whole lines, each call one write to a descriptor in append mode.

    Attributes:
        path: The file.
        fd: Its descriptor; -1 once closed.
    """

    __slots__ = ("__weakref__", "_torn", "fd", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = -1
        self._torn = False
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def __del__(self) -> None:
        self.close()

    def append(self, data: bytes) -> None:
        """Writes whole lines.

        Args:
            data: The lines; each ends in a line break.

        Raises:
            LogWriteError: If they did not reach the operating system as a whole; what did is taken back.
        """
        self.mend()
        try:
            written = os.write(self.fd, data)
        except OSError as error:
            raise self.failed(error) from error
        if written != len(data):
            self.finish(data, written)

    def finish(self, data: bytes, written: int) -> None:
        """Writes the rest after a short write, or takes the part back; errors as in `append`."""
        rest = memoryview(data)
        try:
            while written < len(data):
                written += os.write(self.fd, rest[written:])
        except OSError as error:
            self._torn = True
            # Where even that fails, the next append tries again before it writes anything.
            with contextlib.suppress(OSError):
                self.mend()
            raise self.failed(error) from error

    def failed(self, error: OSError) -> LogWriteError:
        """What a failed write is reported as."""
        reason = error.strerror or str(error)
        return LogWriteError(
            error.errno, f"{reason}: nothing of this call was logged, the step is unchanged", str(self.path)
        )

    def mend(self) -> None:
        """Takes back what a failed write left behind the last line break, if one did; errors as in `append`."""
        if not self._torn:
            return
        try:
            self.repair()
        except OSError as error:
            raise self.failed(error) from error
        self._torn = False

    def repair(self) -> int:
        """Cuts off a torn last line, which a killed write left; it was never acknowledged.

        Returns:
            How many bytes were cut off.
        """
        size = os.fstat(self.fd).st_size
        end = size
        while end > 0:
            start = max(0, end - _BLOCK)
            cut = os.pread(self.fd, end - start, start).rfind(b"\n") + 1
            if cut:
                end = start + cut
                break
            end = start
        if end != size:
            os.ftruncate(self.fd, end)
        return size - end

    def refuse_foreign(self, beginning: bytes) -> None:
        """Refuses a file that begins with something else than our lines do, before anything in it is touched.

        Raises:
            RunDirError: If it is not ours.
        """
        head = os.pread(self.fd, min(len(beginning), os.fstat(self.fd).st_size), 0)
        if head != beginning[: len(head)]:
            raise RunDirError(f"{self.path} exists and is not a file of Ridgepole's; choose another directory or name")

    def is_gone(self) -> bool:
        """Whether the file was removed, so that nobody will ever read what is written to it."""
        return os.fstat(self.fd).st_nlink == 0

    def sync(self) -> None:
        """Waits until everything written is on the disk.

        Raises:
            LogWriteError: If the disk reports a failure.
        """
        error = sync(self.fd)
        if error is not None:
            reason = f"{error.strerror or error}: what was logged may not be on the disk"
            raise LogWriteError(error.errno, reason, str(self.path)) from error

    def close(self) -> None:
        """Closes the descriptor; a second time does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def sync_copy(fd: int) -> OSError | None:
    """Syncs a descriptor made by `dup` and closes it; for a thread, which the owner of the file must not wait for."""
    try:
        return sync(fd)
    finally:
        os.close(fd)


def sync(fd: int) -> OSError | None:
    """Waits until a file is on the disk; returns what the disk reports, if it fails."""
    try:
        _sync(fd)
    except OSError as error:
        # A link to a device or a pipe has no disk behind it.
        return error if stat.S_ISREG(os.fstat(fd).st_mode) else None
    return None


def last_line(path: Path) -> bytes:
    """The last whole line of a file, without its line break; empty where there is none."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        text = b""
        while end > 0 and text.count(b"\n") < 2:
            start = max(0, end - _BLOCK)
            file.seek(start)
            text = file.read(end - start) + text
            end = start
    lines = text.split(b"\n")[:-1]
    return lines[-1] if lines else b""
