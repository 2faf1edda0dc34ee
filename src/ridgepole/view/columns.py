"""The numbers of a run as columns, which follow its files as they grow."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ridgepole import rundir
from ridgepole.metrics.codec import decode
from ridgepole.metrics.summary import goal_of
from ridgepole.metrics.uniform import WORDS, UniformReader
from ridgepole.view.container import Array

BLOCK = 1 << 20  # bytes that are read at a time
_PARSED = 256 << 10  # bytes that are parsed at a time: more would hold the interpreter's lock for too long

_TAIL = 64
_NUMBERS = frozenset((float, int, bool))
_SAMPLES, _SAMPLE_BYTES = 100, 4096


class Growing:
    """An array that grows at its end."""

    __slots__ = ("_array", "_length")

    def __init__(self, array: Array) -> None:
        self._array, self._length = array, len(array)

    def __len__(self) -> int:
        return self._length

    def extend(self, values: Array) -> None:
        """Add values at the end."""
        needed = self._length + len(values)
        if needed > len(self._array) or not self._array.flags.writeable:
            larger = np.empty(max(needed, 2 * self._length, 64), self._array.dtype)
            larger[: self._length] = self._array[: self._length]
            self._array = larger
        self._array[self._length : needed] = values
        self._length = needed

    def view(self) -> Array:
        """Return the values; later growth does not change them."""
        return self._array[: self._length]


@dataclass(slots=True)
class FilePosition:
    """The place up to which a file has been read.

    Attributes:
        offset: The offset behind the last whole line.
        inode: The file's identity.
        tail: The bytes before the offset, by which a rewritten file is known.
    """

    offset: int = 0
    inode: int = 0
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Points:
    """The points of one metric, in the order of the records.

    Attributes:
        rows: The record of each point.
        step: Its step.
        time: Its time.
        value: Its value.
    """

    rows: Array
    step: Array
    time: Array
    value: Array


class _RewrittenError(Exception):
    """A file is not the continuation of what was read of it."""


class RunColumns:
    """The numbers of a run or log directory.

    Attributes:
        directory: The directory.
        generation: Rises when what was read before is no longer true.
        complete: Whether everything has been read that was there at the last look.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.generation = 0
        self.complete = False
        self._lock, self._sampling = threading.Lock(), threading.Lock()
        self._sampled: tuple[tuple[tuple[int, int], ...], dict[str, Points]] | None = None
        self._hidden: list[tuple[int, int]] = []
        self._attempts: tuple[int, int] | None = None
        self._visible: tuple[int, Array] | None = None
        self._uniform = UniformReader() if importlib.util.find_spec("polars") else None
        self._clear()

    def _clear(self) -> None:
        self.files: dict[str, FilePosition] = {}
        self.seq, self.step = Growing(np.empty(0, "<i8")), Growing(np.empty(0, "<i8"))
        self.time = Growing(np.empty(0, "<f8"))
        self.metrics: dict[str, tuple[Growing, Growing]] = {}
        self.texts: dict[str, None] = {}
        self._visible = None

    @property
    def state(self) -> tuple[int, int, int]:
        """Return what changes whenever a chart of this run changes."""
        return self.generation, len(self.seq), len(self._hidden)

    @property
    def offset(self) -> int:
        """Return the number of bytes that were read."""
        return sum(position.offset for position in self.files.values())

    def update(self, budget: int | None = None) -> bool:
        """Read what is new; return whether anything changed.

        Args:
            budget: The most bytes to read; None for all.
        """
        with self._lock:
            before = self.state
            self._look_at_attempts()
            try:
                self._follow_all(budget)
            except _RewrittenError:
                self._clear()
                self.generation += 1
                self._follow_all(budget)
            if self.complete:
                self._sampled = None
            return self.state != before

    def _follow_all(self, budget: int | None) -> None:
        self.complete = True
        for path in self._metric_files():
            budget = self._follow(path, budget)

    def _metric_files(self) -> list[Path]:
        try:
            names = [
                entry.name
                for entry in os.scandir(self.directory)
                if entry.name.startswith("metrics") and entry.name.endswith(".jsonl")
            ]
        except OSError:
            return []
        return [self.directory / name for name in sorted(names, key=lambda name: (name != rundir.METRICS, name))]

    def _follow(self, path: Path, budget: int | None) -> int | None:
        position = self.files.setdefault(path.name, FilePosition())
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return budget
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if position.offset and not _is_same(file, status, position):
                raise _RewrittenError
            position.inode = status.st_ino
            for block in _blocks(file, position.offset):
                if budget is not None and budget <= 0:
                    self.complete = False
                    break
                self._add(block)
                position.offset += len(block)
                position.tail = (position.tail + block)[-_TAIL:] if len(block) < _TAIL else block[-_TAIL:]
                budget = None if budget is None else budget - len(block)
        return budget

    def _look_at_attempts(self) -> None:
        """Read again which segments a resume has hidden, if that changed."""
        try:
            status = (self.directory / rundir.ATTEMPTS).stat()
        except OSError:
            return
        known = (status.st_mtime_ns, status.st_size)
        if known != self._attempts:
            self._attempts = known
            hidden = rundir.abandoned_segments(self.directory)
            if hidden != self._hidden:
                self._hidden, self._visible = hidden, None
                self.generation += 1

    def _add(self, block: bytes) -> None:
        if self._uniform is not None and len(block) > _PARSED and self._add_wide(self._uniform, block):
            return
        start = 0
        while start < len(block):
            end = block.find(b"\n", min(start + _PARSED, len(block)) - 1) + 1
            self._add_rows(_parsed(block[start:end]))
            start = end
        if self._uniform is not None:
            self._uniform.learn(set(self.metrics), {kind for kind in WORDS if f'"{kind}"'.encode() in block})

    def _add_wide(self, uniform: UniformReader, block: bytes) -> bool:
        """Add a block whose lines are alike, parsed outside of the interpreter's lock."""
        wide = uniform.wide(block)
        if wide is None:
            return False
        once, metrics, _ = wide
        at = np.arange(len(self.seq), len(self.seq) + once.height, dtype="<u4")
        for column in metrics:
            if column.null_count():
                self._extend(column.name, at[column.is_not_null().to_numpy()], column.drop_nulls().to_numpy())
            else:
                self._extend(column.name, at, column.to_numpy())
        self.step.extend(once["step"].to_numpy())
        self.time.extend(once["time"].to_numpy())
        self.seq.extend(once["seq"].to_numpy())
        return True

    def _add_rows(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        first = len(self.seq)
        metrics = list(map(itemgetter("metrics"), rows))
        names = tuple(metrics[0])
        values = list(chain.from_iterable(map(dict.values, metrics)))
        if {names}.issuperset(map(tuple, metrics)) and _NUMBERS.issuperset(map(type, values)):
            table = np.array(values, "<f8").reshape(len(rows), len(names))
            at = np.arange(first, first + len(rows), dtype="<u4")
            for index, name in enumerate(names):
                self._extend(name, at, table[:, index])
        else:
            self._add_each(metrics, first)
        self.step.extend(np.array(list(map(itemgetter("step"), rows)), "<i8"))
        self.time.extend(np.array(list(map(itemgetter("time"), rows)), "<f8"))
        self.seq.extend(np.array(list(map(itemgetter("seq"), rows)), "<i8"))

    def _add_each(self, metrics: list[dict[str, Any]], first: int) -> None:
        found: dict[str, tuple[list[int], list[float]]] = {}
        for row, each in enumerate(metrics, first):
            for name, value in each.items():
                if type(value) in _NUMBERS:
                    rows, values = found.setdefault(name, ([], []))
                    rows.append(row)
                    values.append(float(value))
                elif name not in self.texts and not isinstance(value, list | dict):
                    self.texts[name] = None
        for name, (rows, values) in found.items():
            self._extend(name, np.array(rows, "<u4"), np.array(values, "<f8"))

    def _extend(self, name: str, rows: Array, values: Array) -> None:
        column = self.metrics.get(name)
        if column is None:
            column = self.metrics[name] = (Growing(np.empty(0, "<u4")), Growing(np.empty(0, "<f8")))
        column[0].extend(rows)
        column[1].extend(values)

    def points(self, name: str) -> Points | None:
        """Return the visible points of a metric; None if the run has no such metric."""
        with self._lock:
            column = self.metrics.get(name)
            if column is None:
                return None
            rows, values = column[0].view(), column[1].view()
            step, time, visible = self.step.view(), self.time.view(), self._visible_rows()
        if visible is not None:
            keep = visible[rows]
            rows, values = rows[keep], values[keep]
        if len(rows) == len(step):  # in every record
            return Points(rows, step, time, values)
        return Points(rows, step[rows], time[rows], values)

    def _visible_rows(self) -> Array | None:
        if not self._hidden:
            return None
        if self._visible is None or self._visible[0] != len(self.seq):
            seq = self.seq.view()
            visible = np.ones(len(seq), bool)
            for first, end in self._hidden:
                visible &= (seq < first) | (seq >= end)
            self._visible = (len(seq), visible)
        return self._visible[1]

    def began(self) -> float | None:
        """Return the time of the first record."""
        time = self.time.view()
        return float(time[0]) if len(time) else None

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return the summary of each metric, as in `summary.json`."""
        found = {}
        for name in list(self.metrics):
            points = self.points(name)
            if points is not None and len(points.value):
                found[name] = _summary(name, points)
        return found

    def sampled(self, name: str) -> Points:
        """Return points from a sample of blocks of the main file, without reading all of it.

        The sample is read once for all metrics, and kept until the run has been read to its end.
        """
        with self._sampling:
            hidden = tuple(self._hidden)
            if self._sampled is None or self._sampled[0] != hidden:
                self._sampled = hidden, self._sample_all()
            found = self._sampled[1].get(name)
        return found if found is not None else _points([], [], [])

    def _sample_all(self) -> dict[str, Points]:
        lists: dict[str, tuple[list[int], list[float], list[float]]] = {}
        for line in self._sample():
            if any(first <= line["seq"] < end for first, end in self._hidden):
                continue
            for name, value in line["metrics"].items():
                if type(value) in _NUMBERS:
                    steps, times, values = lists.setdefault(name, ([], [], []))
                    steps.append(line["step"])
                    times.append(line["time"])
                    values.append(float(value))
        return {name: _points(*each) for name, each in lists.items()}

    def _sample(self) -> Iterator[dict[str, Any]]:
        try:
            file = self._metric_files()[0].open("rb")
        except (OSError, IndexError):
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            for index in range(_SAMPLES):
                file.seek(index * max(0, size - _SAMPLE_BYTES) // max(1, _SAMPLES - 1))
                block = file.read(_SAMPLE_BYTES)
                start = 0 if index == 0 else block.find(b"\n") + 1
                yield from _parsed(block[start : block.rfind(b"\n") + 1])


def _points(steps: list[int], times: list[float], values: list[float]) -> Points:
    rows = np.arange(len(values), dtype="<u4")
    return Points(rows, np.array(steps, "<i8"), np.array(times, "<f8"), np.array(values, "<f8"))


def _is_same(file: Any, status: os.stat_result, position: FilePosition) -> bool:
    if status.st_ino != position.inode or status.st_size < position.offset:
        return False
    file.seek(position.offset - len(position.tail))
    return bool(file.read(len(position.tail)) == position.tail)


def _blocks(file: Any, offset: int) -> Iterator[bytes]:
    """Yield whole lines from an offset on, about `BLOCK` bytes at a time."""
    file.seek(offset)
    rest = b""
    while block := file.read(BLOCK):
        block = rest + block
        cut = block.rfind(b"\n") + 1
        rest = block[cut:]
        if cut:
            yield block[:cut]


def _parsed(block: bytes) -> list[dict[str, Any]]:
    """Return the records of a block of whole lines; skip bad lines."""
    if b'"special"' not in block:
        try:
            rows = orjson.loads(b"[%b]" % block[:-1].replace(b"\n", b",")) if block else []
            if len(rows) == block.count(b"\n") and _are_records(rows):
                return list(rows)
        except ValueError:
            pass
    found = []
    for line in block.split(b"\n"):
        try:
            found.append(decode(line))
        except (ValueError, TypeError, IndexError):
            continue
    return found


_KINDS: dict[str, frozenset[type]] = {
    "seq": frozenset((int,)),
    "step": frozenset((int,)),
    "time": frozenset((float, int)),
    "metrics": frozenset((dict,)),
}


def _are_records(rows: list[Any]) -> bool:
    """Return whether all rows have the members of a record, of the right types and sizes."""
    try:
        columns = {key: list(map(itemgetter(key), rows)) for key in _KINDS}
    except (TypeError, KeyError):
        return False
    if not all(kinds.issuperset(map(type, columns[key])) for key, kinds in _KINDS.items()):
        return False
    return all(abs(end(columns[key])) < 2**63 for key in ("seq", "step") for end in (min, max))


def _summary(name: str, points: Points) -> dict[str, Any]:
    value, step = points.value, points.step
    finite = np.isfinite(value)
    last = float(value[-1])
    entry: dict[str, Any] = {
        "last": last if finite[-1] else None,
        "last_step": int(step[-1]),
        "min": None,
        "min_step": None,
        "max": None,
        "max_step": None,
        "count": len(value),
        "nonfinite": int(len(value) - finite.sum()),
        "best": None,
        "best_step": None,
    }
    if finite.any():
        low = int(np.nanargmin(np.where(finite, value, np.nan)))
        high = int(np.nanargmax(np.where(finite, value, np.nan)))
        entry |= {"min": float(value[low]), "min_step": int(step[low])}
        entry |= {"max": float(value[high]), "max_step": int(step[high])}
        goal = goal_of(name)
        if goal is not None:
            entry |= {"best": entry[goal], "best_step": entry[f"{goal}_step"]}
    return entry
