"""One logger a directory: an advisory lock on the directory itself, which the kernel gives back on any death."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from ridgepole.errors import RunDirError


class DirectoryLock:
    """Held from construction to `release`, or until the object is gone."""

    __slots__ = ("_fd", "_home")

    def __init__(self, directory: Path) -> None:
        """Takes the lock.

        Args:
            directory: An existing directory.

        Raises:
            RunDirError: If another logger, of this or of another process, writes there.
        """
        self._fd = -1
        self._home = os.getpid()
        self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return  # a filesystem without locks: nobody can be kept out, and nobody is
            owner = _owner(self._fd)
            self.release()
            raise RunDirError(
                f"another BasicLogger{owner} writes to {directory}; clean it up first, or give this one its own log_dir"
            ) from error

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Gives the lock back. In a forked child this drops the child's share and leaves the parent's."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if os.getpid() == self._home:
            # A child that was forked a moment ago has not closed its share yet; this takes the lock from that too.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _owner(fd: int) -> str:
    """Who holds the lock, where the system tells (Linux: /proc/locks)."""
    inode = os.fstat(fd).st_ino
    try:
        lines = Path("/proc/locks").read_text("ascii", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        if "FLOCK" in fields and len(fields) > 5 and fields[5].endswith(f":{inode}"):
            return " of this process" if fields[4] == str(os.getpid()) else f" (process {fields[4]})"
    return ""
