"""Keep what a program prints: in a file of bounded size, and its last lines in memory."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path

_FILE_BYTES = 32 << 20  # two files of this size are kept: a flood must not fill the disk
_TAIL_BYTES = 16 << 10
_ERROR = re.compile(r"^[A-Za-z_][\w.]*(?:: .*)?$")
_REFUSED = re.compile(r"^[^:\s]+: error: .+")
"""The last line of `argparse` where the arguments are wrong."""


class Console:
    """The output of a program, on its way into a file.

    When the file has 32 MiB it becomes `console.1.log`, over an older one: the end is always kept.

    Args:
        path: The file; it is appended to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()
        self._tail = b""
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Keep output. A full disk loses it, and does not stop the program."""
        with self._lock:
            self._tail = (self._tail + data)[-_TAIL_BYTES:]
            with contextlib.suppress(OSError):
                if self._size >= _FILE_BYTES:
                    self._file.close()
                    self.path.replace(self.path.with_suffix(f".1{self.path.suffix}"))
                    self._file = self.path.open("ab", buffering=0)
                    self._size = 0
                self._file.write(data)
                self._size += len(data)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def tail(self) -> str:
        """Return the last lines."""
        return self._tail.decode("utf-8", "replace")

    def error_line(self) -> str:
        """Return the error of the last traceback, or of refused arguments, else an empty text."""
        _, mark, rest = self.tail().rpartition("Traceback (most recent call last)")
        lines = [line.rstrip() for line in rest.splitlines() if line[:1] not in ("", " ", "\t")]
        found = [line for line in lines[1:] if _ERROR.match(line)] if mark else []
        refused = [line for line in lines[-1:] if _REFUSED.match(line)]
        return (found[:1] or refused or [""])[0]
