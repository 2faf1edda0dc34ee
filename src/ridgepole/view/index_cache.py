"""The index on disk: columns of runs that need not be parsed again. Safe to delete at any time.

Each run has one file, which is replaced whole: two viewers never see half of one, and the last one
wins. Nothing is written to run directories.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from ridgepole.view.columns import FilePosition, Growing, RunColumns
from ridgepole.view.container import Writer, split

_FORMAT = 1
_SMALL = 256 << 10
"""Bytes of metrics below which parsing is as quick as reading the index."""
_LIMIT = 4 << 30


def default_folder() -> Path:
    """Return the directory of the index: `ridgepole/view` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ridgepole" / "view"


class IndexCache:
    """The index files of all runs.

    Args:
        folder: The directory that holds them.
        limit: The most bytes that it may hold; the least recently used files go first.
    """

    def __init__(self, folder: Path, limit: int = _LIMIT) -> None:
        self._folder, self._limit = folder, limit
        self._stored: dict[Path, int] = {}

    def load(self, directory: Path) -> RunColumns:
        """Return the columns of a run as far as they are known; empty ones otherwise."""
        columns = RunColumns(directory)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):
            path = self._path(directory)
            data = np.memmap(path, np.uint8, "r")
            _fill(columns, data)
            self._stored[directory] = columns.offset
            os.utime(path)
        return columns

    def store(self, columns: RunColumns, *, least: float = 0.25) -> bool:
        """Store columns, unless they grew by less than a share since the last time.

        An index that can't be written is left out: it only saves time.
        """
        before = self._stored.get(columns.directory, 0)
        grown = columns.offset - before
        if columns.offset < _SMALL or grown < max(1, least * before):
            return False
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self._path(columns.directory)
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_bytes(_packed(columns))  # not synced: a torn file is found by its lengths
            part.replace(path)
        except OSError:
            return False
        self._stored[columns.directory] = columns.offset
        self._trim()
        return True

    def _path(self, directory: Path) -> Path:
        status = directory.stat()
        identity = f"{os.path.realpath(directory)}\0{status.st_dev}\0{status.st_ino}"
        digest = hashlib.blake2s(identity.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return self._folder / f"{digest}.index"

    def _trim(self) -> None:
        found = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(OSError):
                status = entry.stat()
                found.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._limit:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - from scandir
                total -= size


def _packed(columns: RunColumns) -> bytes:
    writer = Writer()
    with columns._lock:  # noqa: SLF001 - one snapshot of all arrays
        header: dict[str, Any] = {
            "format": _FORMAT,
            "files": {
                name: [position.offset, position.inode, position.tail.hex()] for name, position in columns.files.items()
            },
            "seq": writer.add(columns.seq.view()),
            "step": writer.add(columns.step.view()),
            "time": writer.add(columns.time.view()),
            "metrics": [
                [name, writer.add(rows.view()), writer.add(values.view())]
                for name, (rows, values) in columns.metrics.items()
            ],
            "texts": list(columns.texts),
        }
        return writer.finish(header)


def _fill(columns: RunColumns, data: Any) -> None:
    header, array = split(data)
    if header["format"] != _FORMAT:
        raise ValueError("another format")
    seq, step, time = (array(header[name]) for name in ("seq", "step", "time"))
    metrics = {name: (Growing(array(rows)), Growing(array(values))) for name, rows, values in header["metrics"]}
    files = {
        name: FilePosition(offset, inode, bytes.fromhex(tail))
        for name, (offset, inode, tail) in header["files"].items()
    }
    columns.seq, columns.step, columns.time = Growing(seq), Growing(step), Growing(time)
    columns.metrics, columns.files = metrics, files
    columns.texts = dict.fromkeys(header["texts"])
