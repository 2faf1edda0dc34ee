"""Files that a crash, or another process, never sees by half; and locks that no death leaves taken."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replaces a file so that a reader, or a crash, sees the old one or the new one and never a part.

    Args:
        path: What to replace; its directory exists.
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


def fsync_directory(path: Path) -> None:
    """Makes the names in a directory, such as that of a file renamed into it, survive a loss of power."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file; empty where it is missing or damaged."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class Flock:
    """A lock that the kernel gives back on any death of its holder, in a file that says who that is.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def take(self, patience: float = 0.0) -> bool:
        """Takes it; whether that worked within so many seconds.

        One who asks who holds it holds it for a moment, so a first refusal says nothing.

        Raises:
            OSError: If the file can't be written, or there are no locks on its filesystem.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    os.close(fd)
                    return False
                time.sleep(0.02)
            except BaseException:
                os.close(fd)
                raise
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        _disown_in_children(self)
        return True

    def release(self) -> None:
        """Gives it back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def holder(self) -> dict[str, Any] | None:
        """Who holds it, as far as the file says; None where nobody does."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(os.pread(fd, 4096, 0))
                if isinstance(told, dict):
                    return told
            return {}
        except OSError:  # a filesystem without locks
            return None
        finally:
            os.close(fd)
        return None

    def who(self) -> str:
        """Who holds it, for people."""
        told = self.holder() or {}
        return f"process {told['pid']} on {told['host']}" if "pid" in told and "host" in told else "another process"


def _disown_in_children(lock: Flock) -> None:
    """Closes a forked child's copy of the lock: a worker that outlives a killed holder must not make it look alive."""
    reference = weakref.ref(lock)  # such hooks can't be taken back

    def disown() -> None:
        alive = reference()
        if alive is not None:
            alive.release()

    os.register_at_fork(after_in_child=disown)
