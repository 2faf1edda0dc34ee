"""A file that only grows, and that a failed or killed write leaves repairable."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from ridgepole.errors import LogWriteError, RunDirError

_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has fsync alone
_BLOCK = 64 << 10
_write = os.write


class AppendFile:
    """Whole records, each call one write to a descriptor in append mode.

    A record ends in a line break. A subclass with other records overrides `repair`.

    Args:
        path: The file.
        exclusive: Whether to raise `FileExistsError` if the file exists.

    Attributes:
        path: The file.
        fd: Its descriptor; -1 once closed.
    """

    __slots__ = ("__weakref__", "_torn", "fd", "path")

    def __init__(self, path: Path, *, exclusive: bool = False) -> None:
        self.path = path
        self.fd = -1
        self._torn = False
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.fd = os.open(path, flags | os.O_EXCL if exclusive else flags, 0o644)

    def __del__(self) -> None:
        self.close()

    def append(self, data: bytes) -> None:
        """Write whole records.

        Raises:
            LogWriteError: If not all bytes reached the operating system. The file is cut back to
                its last whole record; where that fails too, the next call tries again first.
        """
        try:
            if self._torn:
                self.repair()
                self._torn = False
            written = _write(self.fd, data)
            if written != len(data):
                self._write_rest(data, written)
        except OSError as error:
            consequence = "nothing of this call was logged, the step is unchanged"
            raise write_error(error, self.path, consequence) from error

    def _write_rest(self, data: bytes, written: int) -> None:
        """Continue after a short write."""
        self._torn = True
        rest = memoryview(data)
        try:
            while written < len(data):
                written += os.write(self.fd, rest[written:])
        except OSError:
            with contextlib.suppress(OSError):
                self.repair()
                self._torn = False
            raise
        self._torn = False

    def repair(self) -> int:
        """Cut off a torn last line and return its length in bytes."""
        size = end = os.fstat(self.fd).st_size
        while end > 0:
            start = max(0, end - _BLOCK)
            whole = os.pread(self.fd, end - start, start).rfind(b"\n") + 1
            end = start + whole
            if whole:
                break
        if end != size:
            os.ftruncate(self.fd, end)
        return size - end

    def check_header(self, header: bytes) -> None:
        """Refuse a file that begins otherwise, before anything in it is changed.

        Raises:
            RunDirError: If Ridgepole did not write the file.
        """
        # A device has no end
        head = os.pread(self.fd, min(len(header), os.fstat(self.fd).st_size), 0)
        if head != header[: len(head)]:
            raise RunDirError(f"{self.path} exists and is not a file of Ridgepole's; choose another directory or name")

    def is_deleted(self) -> bool:
        """Tell whether the file was removed, so that its content is lost once it is closed."""
        return os.fstat(self.fd).st_nlink == 0

    def sync(self) -> None:
        """Wait until everything written is on the disk.

        Raises:
            LogWriteError: If the disk reports a failure.
        """
        error = sync(self.fd)
        if error is not None:
            raise write_error(error, self.path, "what was logged may not be on the disk") from error

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def write_error(error: OSError, path: Path, consequence: str = "") -> LogWriteError:
    """Return the `LogWriteError` of a system error; return a `LogWriteError` unchanged."""
    if isinstance(error, LogWriteError):
        return error
    reason = error.strerror or str(error)
    return LogWriteError(error.errno, f"{reason}: {consequence}" if consequence else reason, str(path))


def sync(fd: int) -> OSError | None:
    """Wait until a file is on the disk; return the error that the disk reports."""
    try:
        _fdatasync(fd)
    except OSError as error:
        # A link to a device or a pipe has no disk behind it.
        return error if stat.S_ISREG(os.fstat(fd).st_mode) else None
    return None


def last_line(path: Path) -> bytes:
    """Return the last whole line of a file without its line break; empty without one."""
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
