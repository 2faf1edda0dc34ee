"""The local record of a run as one stream: metrics and media of all its processes, in the order of logging."""

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
from ridgepole.metrics.segments import abandoned_segments

Line = dict[str, Any]


class LocalRecord:
    """Reads the lines of `metrics*.jsonl` and `media*.jsonl` of a directory, merged by `seq`, one at a time.

    Each file is in the order of `seq` itself, so that merging holds one line a file in memory, however long a run was.

    Args:
        directory: A run directory or a log directory.
        first_seq: Where to begin.

    Attributes:
        directory: The directory.
        bad: How many lines were skipped because they are none of ours.
        torn: How many files end in a torn line, which was skipped.
        hidden: How many lines belong to abandoned segments, and were passed over.

    Raises:
        RunDirError: If the directory holds no record.
    """

    def __init__(self, directory: Path, first_seq: int = 0) -> None:
        self.directory = directory
        self.bad = self.torn = self.hidden = 0
        self._first_seq = first_seq
        self._metrics = _files(directory, rundir.METRICS)
        self._media = _files(directory, rundir.MEDIA)
        if not self._metrics and not self._media:
            what = "holds no record of a run" if directory.is_dir() else "is no directory"
            raise RunDirError(f"{directory} {what}: there is no {rundir.METRICS} in it")

    def __iter__(self) -> Iterator[Line]:
        """The lines that count: those of abandoned segments, and those before `first_seq`, are left out."""
        abandoned = abandoned_segments(self.directory)
        streams = [self._lines(path, decode) for path in self._metrics]
        streams += [self._lines(path, _media_line) for path in self._media]
        for line in heapq.merge(*streams, key=itemgetter("seq")):
            seq = line["seq"]
            if seq < self._first_seq:
                continue
            if any(start <= seq < end for start, end in abandoned):
                self.hidden += 1
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
    """A file and those that forked children wrote beside it."""
    stem, _, suffix = name.rpartition(".")
    return sorted(path for path in directory.glob(f"{stem}*.{suffix}") if path.is_file())


def _media_line(text: bytes) -> Line:
    """A line of the index of media; a `ValueError` where it is none."""
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
