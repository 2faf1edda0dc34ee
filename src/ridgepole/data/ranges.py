"""Ranges of batches that a loop leaves out, such as `120:130`."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""The first batch of each range and the one behind its last, counted from 0 and in order."""

_FORM = re.compile(r"(\d+):(\d+)", re.ASCII)


def read_ranges(texts: Sequence[str]) -> Ranges:
    """Read ranges such as `120:130`; commas separate several ones, and `none` stands for none.

    Raises:
        ValueError: If one is not a range, is empty, or overlaps another one.
    """
    found: list[tuple[int, int]] = []
    for text in (part.strip() for each in texts for part in each.split(",")):
        if text == "none":
            continue
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a range of batches: write FIRST:END, such as 120:130 for 120 to 129")
        first, end = map(int, match.groups())
        if first >= end:
            hint = f"; for batch {first} alone write {first}:{first + 1}" if first == end else ""
            raise ValueError(f"the range {text} holds no batch: the end comes after the first{hint}")
        found.append((first, end))
    found.sort()
    for one, other in pairwise(found):
        if other[0] < one[1]:
            raise ValueError(f"the ranges {show((one,))} and {show((other,))} overlap: write them as one")
    return tuple(found)


def show(ranges: Iterable[Sequence[int]]) -> str:
    """Return ranges as text, such as `120:130, 150:160`."""
    return ", ".join(f"{first}:{end}" for first, end in ranges)


def merged(*several: Iterable[Sequence[int]]) -> Ranges:
    """Return ranges in order; ranges that overlap or touch become one."""
    joined: list[tuple[int, int]] = []
    for first, end in sorted((int(first), int(end)) for ranges in several for first, end in ranges):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((first, end))
    return tuple(joined)


def ahead(ranges: Ranges, place: int) -> Ranges:
    """Return the ranges that end behind a place."""
    return tuple(each for each in ranges if each[1] > place)


def passed(start: int, handed_out: int, ranges: Ranges) -> int:
    """Return the place in a source from which batches were handed out, and ranges were left out.

    A range counts as passed when a batch behind it was handed out.

    Args:
        start: Where the loop began.
        handed_out: How many batches it has handed out since.
        ranges: The ranges that it leaves out.
    """
    place = start
    for first, end in ranges:
        if end <= place:
            continue
        if place + handed_out <= first:
            break
        handed_out -= max(0, first - place)
        place = end
    return place + handed_out


def without(items: Iterable[Any], start: int, ranges: Ranges) -> Iterable[Any]:
    """Return the items of a source, from a place on, that are in none of the ranges."""
    return _without(iter(items), start, ranges) if ahead(ranges, start) else items


def _without(items: Iterator[Any], start: int, ranges: Ranges) -> Iterator[Any]:
    place = start
    for first, end in ahead(ranges, start):
        yield from islice(items, max(0, first - place))
        deque(islice(items, end - max(first, place)), maxlen=0)
        place = end
    yield from items


def check_ahead(ranges: Ranges, place: int) -> None:
    """Check that a loop has not yet handed out batches of the ranges.

    Args:
        ranges: The ranges to leave out.
        place: How many batches of the loop are done.

    Raises:
        ValueError: If it has.
    """
    late = [each for each in ranges if each[0] < place]
    if not late:
        return
    first, end = late[0]
    rest = f", or write {place}:{end}" if end > place else ""
    raise ValueError(
        f"batches {first}:{end} can't be left out: the run continues with batch {place} of its loop; "
        f"go back to a checkpoint before batch {first} with --from{rest}"
    )


def check_within(ranges: Ranges, source: Any) -> None:
    """Check that a source has the batches of the ranges, if it has a length.

    Raises:
        ValueError: If it is shorter.
    """
    try:
        length = len(source)
    except (TypeError, NotImplementedError):
        return
    for first, end in ranges:
        if end > length:
            raise ValueError(
                f"batches {first}:{end} can't be left out: the loop over a {type(source).__name__} has {length}, "
                f"from 0 to {length - 1}"
            )
