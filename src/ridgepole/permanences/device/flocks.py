"""Files that are locked with `flock` on a bare descriptor."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags for a directory that others write too: no link of theirs is followed, and no pipe of theirs waited for."""


def open_made(path: Path, mode: int = os.O_RDONLY) -> int:
    """Opens a file, made where it is missing.

    Opened without O_CREAT first: Linux refuses O_CREAT on another user's file in a sticky directory
    (fs.protected_regular, proc_sys_fs(5)).
    """
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, mode | NO_FOLLOW)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, mode | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o644)
            os.fchmod(descriptor, 0o644)  # others must be able to open it, whatever the umask
            return descriptor


def lock_within(descriptor: int, seconds: float) -> bool:
    """Takes an exclusive lock; returns whether it was had within some seconds."""
    import fcntl

    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, 0.02)


def unlock(descriptor: int) -> None:
    """Gives a lock back and closes its descriptor."""
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # first: a process forked meanwhile has a copy of the descriptor
    os.close(descriptor)


def identity(status: os.stat_result) -> tuple[int, int]:
    """Which file it is, whatever its name."""
    return status.st_dev, status.st_ino
