"""Follow the metrics of a run: the records after a cursor, without reading what is before it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ridgepole import rundir
from ridgepole.metrics.codec import decode
from ridgepole.metrics.reader import metric_files, read_pieces

_NEAR = 1 << 16  # bytes that are read line by line
_BEFORE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecords:
    """The records of a run after a cursor.

    Attributes:
        records: Decoded lines, by `seq`: `seq`, `time`, `step`, `metrics`.
        cursor: The cursor to ask with next; it is after these records.
        hidden: Half-open ranges of `seq` that a resume has undone; earlier answers may have had
            them.
        bad: Number of lines that can't be read.
    """

    records: Sequence[Mapping[str, Any]]
    cursor: str
    hidden: Sequence[tuple[int, int]]
    bad: int


def read_since(directory: Path, since: str | None = None, names: Sequence[str] = ()) -> NewRecords:
    """Read the records of a run after a cursor.

    The cursor is the `seq` of the last record of `metrics.jsonl`. Where processes of a run have
    files of their own, `,FILE=SEQ` follows for each of them. A plain number is a valid cursor, too:
    files that it does not name are read from their beginning.

    Args:
        directory: A run directory or a log directory.
        since: The cursor of an earlier answer; None for all records.
        names: Patterns of the wanted metrics, such as `val/*`; all of them if empty.

    Raises:
        RunDirError: If there is no metrics file.
        ValueError: If the cursor is not valid.
    """
    positions = _parsed(since)
    hidden = rundir.abandoned_segments(directory)
    records: list[dict[str, Any]] = []
    bad = 0
    for file in metric_files(directory)[0]:
        after = positions.get(file.name, _BEFORE)
        lines, unreadable = _lines_after(file, after)
        bad += unreadable
        if lines:
            positions[file.name] = lines[-1]["seq"]
        records += [line for line in lines if not any(first <= line["seq"] < end for first, end in hidden)]
    records.sort(key=lambda line: line["seq"])
    if names:
        records = [line for record in records if (line := _only(record, names))["metrics"]]
    return NewRecords(records=records, cursor=_formatted(positions), hidden=hidden, bad=bad)


def _only(record: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    chosen = {
        name: value
        for name, value in record["metrics"].items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in names)
    }
    return record | {"metrics": chosen}


def _parsed(cursor: str | None) -> dict[str, int]:
    if cursor is None:
        return {}
    match = re.fullmatch(r"(-?\d+)((?:,[^,=]+=\d+)*)", cursor)
    if match is None:
        raise ValueError(f"{cursor!r} is not a cursor: give a sequence number, or the cursor of an earlier answer")
    pairs = (part.rpartition("=") for part in match[2].split(",")[1:])
    return {rundir.METRICS: int(match[1])} | {name: int(seq) for name, _, seq in pairs}


def _formatted(positions: Mapping[str, int]) -> str:
    others = sorted((name, seq) for name, seq in positions.items() if name != rundir.METRICS)
    return ",".join([str(positions.get(rundir.METRICS, _BEFORE)), *(f"{name}={seq}" for name, seq in others)])


def _lines_after(path: Path, seq: int) -> tuple[list[dict[str, Any]], int]:
    """Return the records of a file after a sequence number, and how many lines are unreadable."""
    lines, bad = [], 0
    with path.open("rb") as file:
        file.seek(_offset_before(file, seq))
        for piece, whole in read_pieces(file):
            for text in piece.split(b"\n")[:-1] if whole else ():
                try:
                    line = decode(text)
                except (ValueError, TypeError, IndexError):
                    bad += 1
                    continue
                if line["seq"] > seq:
                    lines.append(line)
    return lines, bad


def _offset_before(file: BinaryIO, seq: int) -> int:
    """Return the offset of a line at or before the first one after `seq`; the numbers ascend."""
    low, high = 0, file.seek(0, 2)
    while seq > _BEFORE and high - low > _NEAR:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline(_NEAR)
        at = file.tell()
        try:
            found = decode(file.readline(_NEAR))["seq"]
        except (ValueError, TypeError, IndexError):
            break
        if found <= seq and at < high:
            low = at
        else:
            high = middle
    return low
