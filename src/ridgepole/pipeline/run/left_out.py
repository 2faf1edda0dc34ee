"""The batches that a resumed run leaves out: check them, and keep them in the run's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ridgepole.data.positions import done_in
from ridgepole.data.ranges import Ranges, check_ahead, merged, read_ranges, show
from ridgepole.errors import ConfigError, Problem
from ridgepole.pipeline.lifecycle.checkpointing import ResumePoint
from ridgepole.rundir import RunInfo


def read_left_out(texts: Sequence[str]) -> Ranges:
    """Read the ranges of `--skip-batches`.

    Raises:
        ConfigError: If they are not ranges, or overlap.
    """
    try:
        return read_ranges(texts)
    except ValueError as error:
        raise ConfigError([Problem(f"--skip-batches: {error}")]) from None


def leave_out(ranges: Ranges | None, point: ResumePoint, run: RunInfo) -> ResumePoint:
    """Return a resume point whose loop leaves out ranges of batches.

    Args:
        ranges: The ranges; None stands for those of an earlier attempt from the same checkpoint.
        point: Where the run resumes.
        run: The run.

    Raises:
        ConfigError: If batches of a given range are done at that point.
    """
    if ranges is None:
        return replace(point, left_out=_recorded(run.fields, point.name))
    loops = point.process.get("loaders", ()) if point.inside is not None else ()
    try:
        check_ahead(ranges, done_in(loops[-1]) if loops and "range" not in loops[-1] else 0)
    except ValueError as error:
        raise ConfigError([Problem(f"--skip-batches: {error}")]) from None
    return replace(point, left_out=ranges)


def record_of(before: Mapping[str, Any], point: ResumePoint | None) -> list[dict[str, Any]]:
    """Return what `run.json` says of batches that were left out, with those of this attempt.

    Args:
        before: The record of the run before this attempt.
        point: Where the attempt resumes.
    """
    entries = list(before.get("skip_batches", ()))
    if point is not None and point.left_out != _recorded(before, point.name):
        ranges = show(point.left_out) if point.left_out else "none"
        entries.append({"attempt": point.attempt, "checkpoint": point.name, "ranges": ranges.split(", ")})
    return entries


def _recorded(fields: Mapping[str, Any], checkpoint: str | None) -> Ranges:
    """Return the ranges that were left out from a checkpoint on."""
    given = [each["ranges"] for each in fields.get("skip_batches", ()) if each["checkpoint"] == checkpoint]
    return merged(read_ranges(given[-1])) if given else ()
