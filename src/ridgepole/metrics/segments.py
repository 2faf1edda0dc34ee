"""Which records belong to an abandoned segment: logged after the checkpoint that a later attempt resumed from.

`attempts.jsonl` has a line for each attempt. `resumed_from_seq` is the sequence number that the checkpoint would have
used next (None for an attempt that resumed from nothing), `first_seq` the first one that the attempt itself uses: what
lies between them was logged by the attempt before and undone by the resume. Nothing of it is deleted.
"""

from __future__ import annotations

import json
from pathlib import Path

from ridgepole import rundir


def abandoned_segments(directory: Path) -> list[tuple[int, int]]:
    """Half-open ranges of sequence numbers to hide.

    Args:
        directory: The run directory; one without `attempts.jsonl` has nothing to hide.

    Returns:
        Ranges `(first, end)`, in the order of the attempts; lines that can't be read are passed over.
    """
    try:
        text = (directory / rundir.ATTEMPTS).read_bytes()
    except OSError:
        return []
    ranges = []
    for line in text.splitlines():
        try:
            attempt = json.loads(line)
            start, end = attempt["resumed_from_seq"], attempt["first_seq"]
        except (ValueError, TypeError, KeyError):
            continue
        if type(start) is int and type(end) is int and start < end:
            ranges.append((start, end))
    return ranges
