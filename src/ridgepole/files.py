"""Replace files atomically, read small JSON files, and lock files between processes."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK
"""Flags for directories that other users write to: follow no link, and wait for no pipe."""

_NOTE_BYTES = 4096


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file so that a reader, or a crash, sees either the old or the new content.

    Args:
        path: The file to replace; its directory exists.
        data: The whole new content.
        mode: Permission bits of the new file.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def append_lines(path: Path, data: bytes) -> None:
    """Append whole lines to a file in one write, so that several processes may share it.

    A line that a kill has torn does not spoil the first of these.

    Raises:
        OSError: If they can't be written.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(fd).st_size
        torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        os.write(fd, b"\n" + data if torn else data)
    finally:
        os.close(fd)


def fsync_directory(path: Path) -> None:
    """Make the names in a directory, such as that of a renamed file, survive a loss of power."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it; Ctrl-C at any moment is raised as itself.

    `shutil.rmtree` of Python 3.11 and 3.12 closes a descriptor a second time where Ctrl-C comes
    right after the first: that ends as "Bad file descriptor", or closes the file of a thread.

    Raises:
        OSError: If something can't be removed; the rest may be gone.
    """
    for entry in tuple(path.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            remove_tree(entry)
        else:
            entry.unlink(missing_ok=True)
    path.rmdir()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; return an empty one where the file is missing or damaged."""
    try:
        return _json_object(path.read_bytes())
    except OSError:
        return {}


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


@functools.cache
def _held_descriptors() -> set[int]:
    """Return the lock descriptors of this process; a forked child closes its copies of them."""
    held: set[int] = set()

    def close_copies() -> None:
        for fd in held:
            with contextlib.suppress(OSError):
                os.close(fd)
        held.clear()

    os.register_at_fork(after_in_child=close_copies)
    return held


class Flock:
    """An advisory lock on a file or directory, which the kernel releases when its holder dies.

    The file says who holds the lock. It is never removed: a file that is unlinked while another
    process opens it would give both "the same" lock. No finaliser releases the lock. A copy holds
    nothing, whether it is in a forked child or was unpickled.

    Args:
        path: A file, created where it is missing, or an existing directory.
        public: Whether other users must be able to lock this file, too.
    """

    __slots__ = ("_fd", "_identity", "_pid", "_public", "path")

    def __init__(self, path: Path, *, public: bool = False) -> None:
        self.path = path
        self._public = public
        self._fd = -1
        self._pid = 0
        self._identity = (0, 0)

    def __reduce__(self) -> tuple[type[Flock], tuple[Path]]:
        return (type(self), (self.path,))

    def take(self, patience: float = 0.0, note: Mapping[str, Any] | None = None) -> bool:
        """Take the lock; return whether that worked within `patience` seconds.

        A question for the holder takes the lock for a moment, so a first refusal says nothing.

        Args:
            patience: Seconds to try for.
            note: What the file says of the holder; its process and host where None.

        Raises:
            OSError: The file can't be written, or its filesystem has no locks.
        """
        fd, writable = self._open()
        try:
            taken = _lock_within(fd, patience) and _identity(os.fstat(fd)) == _identity(self.path.stat())
            if taken and writable:
                text = json.dumps(note or {"pid": os.getpid(), "host": socket.gethostname()}).encode()
                # Spaces over an earlier note: to cut the file costs a journaling filesystem more.
                os.pwrite(fd, text.ljust(min(os.fstat(fd).st_size, _NOTE_BYTES)), 0)
        except FileNotFoundError:  # the file was removed meanwhile: no other process sees this lock
            taken = False
        except BaseException:
            os.close(fd)
            raise
        if not taken:
            os.close(fd)
            return False
        self._fd, self._pid, self._identity = fd, os.getpid(), _identity(os.fstat(fd))
        _held_descriptors().add(fd)
        return True

    def _open(self) -> tuple[int, bool]:
        """Open the file; return whether it is writable, too."""
        if self.path.is_dir():
            return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY), False
        while True:
            # Without O_CREAT first: Linux refuses that on another user's file in a sticky directory
            # (fs.protected_regular, proc_sys_fs(5)).
            try:
                return os.open(self.path, os.O_RDWR | _SAFE), True
            except FileNotFoundError:
                pass
            except PermissionError:
                if not self._public:
                    raise
                return os.open(self.path, os.O_RDONLY | _SAFE), False  # another user's
            with contextlib.suppress(FileExistsError):
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE, 0o644)
                if self._public:
                    os.fchmod(fd, 0o644)  # whatever the umask
                return fd, True

    @property
    def held(self) -> bool:
        """Return whether this process holds the lock, and others can see it at its path."""
        with contextlib.suppress(OSError):
            return self._is_ours() and _identity(self.path.stat()) == self._identity
        return False

    @property
    def foreign(self) -> bool:
        """Return whether this object holds no lock: it was released, never taken, or copied."""
        return self._fd < 0 or self._pid != os.getpid()

    def release(self) -> None:
        """Release the lock; a second call, or one in a forked child, does nothing."""
        if self.foreign:
            return
        ours, fd = self._is_ours(), self._fd
        self._fd = -1
        _held_descriptors().discard(fd)
        if ours:
            with contextlib.suppress(OSError):
                # First: a child that was forked just now may still have a copy of the descriptor.
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def _is_ours(self) -> bool:
        """Return whether the descriptor is still ours: a daemon closes all and opens others."""
        try:
            return not self.foreign and _identity(os.fstat(self._fd)) == self._identity
        except OSError:
            return False

    def holder(self) -> dict[str, Any] | None:
        """Return the holder's note: empty where it can't be read, None where the lock is free."""
        try:
            fd = os.open(self.path, os.O_RDONLY | _SAFE)
        except OSError:
            return None
        try:
            # A shared lock: two processes that ask don't take each other for the holder.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(OSError):
                return _json_object(os.pread(fd, _NOTE_BYTES, 0))
            return {}
        except OSError:  # a filesystem without locks
            return None
        finally:
            os.close(fd)
        return None

    def who(self) -> str:
        """Return the holder in words."""
        note = self.holder() or {}
        return f"process {note['pid']} on {note['host']}" if "pid" in note and "host" in note else "another process"


def _lock_within(fd: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, 0.02)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
