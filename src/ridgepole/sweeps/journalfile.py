"""Optuna's journal in one file, for one writer. Imported only where Optuna is needed.

The format is that of Optuna's own `JournalFileBackend`, which can read the file. That one locks, writes, syncs and
reads the file back at each of some ten operations a trial, refuses a file whose last line was torn by a kill, and waits
half a minute for the lock of a writer that was killed. Here the one writer holds the sweep's `driver.lock` anyway: it
cuts a torn line off when it opens the file, remembers what it has written, and brings it to the disk when told to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend


class JournalFile(BaseJournalBackend):
    """The journal of one study.

    Args:
        path: The file; made where it is missing.
        writes: Whether this process is the one writer. Others only read, and see what was there when they opened it.
    """

    def __init__(self, path: Path, *, writes: bool) -> None:
        self._fresh: list[tuple[int, bytes]] = []
        self._count = 0
        self._fd = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND if writes else os.O_RDONLY
        fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
        try:
            with os.fdopen(os.dup(fd), "rb") as file:
                content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            if writes:
                if len(whole) < len(content):  # torn by a kill: that operation was never done
                    os.ftruncate(fd, len(whole))
                self._fd = fd
        finally:
            if not writes:
                os.close(fd)
        for line in whole.splitlines():
            self._remember(line)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The operations from a number on; what was read once is not kept."""
        self._fresh = [each for each in self._fresh if each[0] >= log_number_from]
        return [json.loads(line) for _, line in self._fresh]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Hands operations to the operating system: they survive any death of this process.

        Raises:
            OSError: If that fails; nothing of it counts then.
        """
        lines = [json.dumps(log, separators=(",", ":")).encode() for log in logs]
        data = b"".join(line + b"\n" for line in lines)
        end = os.lseek(self._fd, 0, os.SEEK_END)
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except BaseException:
            os.ftruncate(self._fd, end)
            raise
        for line in lines:
            self._remember(line)

    def sync(self) -> None:
        """Brings everything to the disk."""
        if self._fd >= 0:
            os.fsync(self._fd)

    def close(self) -> None:
        """Closes the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _remember(self, line: bytes) -> None:
        self._fresh.append((self._count, line))
        self._count += 1
