"""Where a directory that is opened again left off."""

from __future__ import annotations

import contextlib
import glob
from pathlib import Path

import orjson

from ridgepole import rundir
from ridgepole.metrics.codec import decode
from ridgepole.metrics.reader import read_chunks
from ridgepole.metrics.segments import abandoned_segments
from ridgepole.metrics.steps import StepCounter
from ridgepole.metrics.summary import Summary
from ridgepole.permanences.loggers.appendfile import last_line


def catch_up(path: Path, steps: StepCounter, summary: Summary) -> tuple[int, int, int]:
    """Reads what a metrics file holds, so that steps, numbers and summary go on instead of starting again.

    What a resumed run has left behind counts as a record, and for nothing else.

    Args:
        path: The metrics file, its end repaired.
        steps: Moved behind the last step of the file.
        summary: Takes in every record.

    Returns:
        The next sequence number, which no file of the directory has used; how many records the file holds; and how
        many of its lines are none.
    """
    records = bad = 0
    last = -1
    abandoned = abandoned_segments(path.parent)
    # A link to a device has no end to read up to.
    for chunk, _ in read_chunks(path) if path.is_file() else ():
        for line in chunk.split(b"\n")[:-1]:
            try:
                record = decode(line)
            except (ValueError, TypeError, IndexError):
                bad += 1
                continue
            records += 1
            last = max(last, record["seq"])
            if any(first <= record["seq"] < end for first, end in abandoned):
                continue
            steps.last_step = record["step"]
            steps.global_step = max(steps.global_step, record["step"] + 1)
            summary.update(record["metrics"], record["step"])
    return max([last, *_others(path)]) + 1, records, bad


def _others(path: Path) -> list[int]:
    """The last number in each file beside: those of forked children, and the index of figures."""
    found = []
    for name in {path.name, rundir.METRICS, rundir.MEDIA}:
        pattern = f"{glob.escape(Path(name).stem)}*{Path(name).suffix}"
        for other in set(path.parent.glob(pattern)) - {path}:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found.append(int(orjson.loads(last_line(other))["seq"]))
    return found
