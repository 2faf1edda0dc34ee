"""The local record of a run as one stream, in the order of logging."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from ridgepole import rundir
from ridgepole.errors import RunDirError
from ridgepole.metrics.codec import decode
from ridgepole.metrics.reader import read_chunks
from ridgepole.rundir import abandoned_segments

Line = dict[str, Any]


class LocalRecord:
    """The lines of all `metrics*.jsonl` and `media*.jsonl` of a directory, merged by `seq`.

    Each file is ordered by `seq`, so merging keeps one line of each file in memory.

    Args:
        directory: A run directory or a log directory.
        first_seq: The first sequence number to read.
        media: Whether to read `media*.jsonl`, too.

    Attributes:
        directory: The directory.
        bad: Number of skipped lines that are not records.
        torn: Number of files that end in a torn line, which was skipped.
        hidden: Number of skipped lines of abandoned segments.
        hidden_values: Number of metric values in them.

    Raises:
        RunDirError: If the directory holds no record.
    """

    def __init__(self, directory: Path, first_seq: int = 0, *, media: bool = True) -> None:
        self.directory = directory
        self.bad = self.torn = self.hidden = self.hidden_values = 0
        self._first_seq = first_seq
        self._metrics = _files(directory, rundir.METRICS)
        self._media = _files(directory, rundir.MEDIA) if media else []
        if not self._metrics and not self._media:
            what = "holds no record of a run" if directory.is_dir() else "is not a directory"
            raise RunDirError(f"{directory} {what}: there is no {rundir.METRICS} in it")

    def __iter__(self) -> Iterator[Line]:
        """Yield the lines from `first_seq` on, without those of abandoned segments."""
        abandoned = abandoned_segments(self.directory)
        streams = [self._lines(path, decode) for path in self._metrics]
        streams += [self._lines(path, _media_line) for path in self._media]
        for line in heapq.merge(*streams, key=itemgetter("seq")):
            seq = line["seq"]
            if seq < self._first_seq:
                continue
            if any(start <= seq < end for start, end in abandoned):
                self.hidden += 1
                self.hidden_values += len(line.get("metrics", ()))
            else:
                yield line

    def _lines(self, path: Path, parse: Callable[[bytes], Line]) -> Iterator[Line]:
        for chunk, whole in read_chunks(path):
            if not whole:
                self.torn += 1
                continue
            for text in chunk.split(b"\n")[:-1]:
                try:
                    yield parse(text)
                except (ValueError, TypeError, IndexError):
                    self.bad += 1


def _files(directory: Path, name: str) -> list[Path]:
    """Return a file and those that forked children wrote beside it."""
    stem, _, suffix = name.rpartition(".")
    return sorted(path for path in directory.glob(f"{stem}*.{suffix}") if path.is_file())


def _media_line(text: bytes) -> Line:
    """Parse a line of the index of media, or raise `ValueError`."""
    line = orjson.loads(text)
    if not (
        isinstance(line, dict)
        and type(line.get("seq")) is int
        and type(line.get("step")) is int
        and type(line.get("time")) in (int, float)
        and isinstance(line.get("kind"), str)
    ):
        raise ValueError("not a line of an index of media")
    return line
