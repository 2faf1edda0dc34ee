"""SHA-256 in a second thread: hashlib releases the GIL, as writing and reading do."""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from ridgepole.threads import start_thread

CHUNK = 4 << 20
"""Bytes that are passed to the thread at once."""

_BEHIND = 64
"""Chunks by which the hash may be late: each may be a copy, as of a tensor on another device."""

_SMALL = 1 << 16
"""Pieces below this many bytes are gathered: a queue and a system call cost more than a copy."""


class Digest:
    """A running hash; `update` returns at once, unless the thread is some chunks behind.

    The data must not change before `hexdigest`. A context manager, so that the thread ends.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        # Not a Queue: Ctrl-C inside its code can leave its lock taken, and both threads stuck.
        self._queue: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._small = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def update(self, data: memoryview) -> None:
        """Hash these bytes after all before them."""
        if len(data) < _SMALL:
            self._small += data
            if len(self._small) < CHUNK:
                return
            data = memoryview(b"")
        if self._small:
            self._put(memoryview(self._small))
            self._small = bytearray()
        if data:
            self._put(data)

    def hexdigest(self) -> str:
        """Return the hash of all bytes; none can be added after it."""
        self._end()
        self._hash.update(self._small)
        self._small = bytearray()
        return self._hash.hexdigest()

    def _put(self, data: memoryview) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="ridgepole-hash", daemon=True)
            start_thread(self._thread)
        self._queue.put(data)
        while self._queue.qsize() > _BEHIND and self._thread.is_alive():
            time.sleep(0.001)

    def _work(self) -> None:
        while (data := self._queue.get()) is not None:
            self._hash.update(data)

    def _end(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            with suppress(RuntimeError):  # an interrupt during its start; the queue ends it
                self._thread.join()
            self._thread = None


class FileSink:
    """Write a new file and hash it; the caller closes the descriptor."""

    def __init__(self, fd: int, digest: Digest) -> None:
        self._fd, self._digest = fd, digest
        self._small = bytearray()
        self._advised = 0
        self.size = 0

    def write(self, data: memoryview) -> None:
        """Write these bytes; small pieces wait for the next larger one, or `close`."""
        self.size += len(data)
        if len(data) < _SMALL:
            self._small += data
            if len(self._small) < CHUNK:
                return
            data = memoryview(b"")
        self._flush()
        self._write(data)

    def close(self) -> None:
        """Write what is left and force all of it to the disk."""
        self._flush()
        os.fsync(self._fd)

    def _flush(self) -> None:
        if self._small:
            self._write(memoryview(self._small))
            self._small = bytearray()

    def _write(self, data: memoryview) -> None:
        for start in range(0, len(data), CHUNK):
            part = data[start : start + CHUNK]
            self._digest.update(part)
            while part:
                part = part[os.write(self._fd, part) :]
            self._start_writeback()

    def _start_writeback(self) -> None:
        """Ask Linux to begin writing to the disk, so that less is left for fsync to wait for.

        The advice that pages are not needed starts the writing of dirty ones and drops only clean
        ones (posix_fadvise(2), and mm/fadvise.c). It saves a quarter of write + fsync.
        """
        if sys.platform == "linux":
            position = os.lseek(self._fd, 0, os.SEEK_CUR)
            os.posix_fadvise(self._fd, self._advised, position - self._advised, os.POSIX_FADV_DONTNEED)
            self._advised = position
