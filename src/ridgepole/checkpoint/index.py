"""The index of a store: what is latest and best, for people and tools. Only the number of the next one is read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ridgepole.checkpoint.layout import INDEX
from ridgepole.checkpoint.manifest import FORMAT, CheckpointInfo
from ridgepole.checkpoint.retention import best_first, newest_first
from ridgepole.files import write_atomically


def write_index(directory: Path, infos: Sequence[CheckpointInfo], keep_best: int) -> None:
    """Replaces the index atomically; at least the best one is named where any has a score."""
    infos = sorted(infos, key=lambda info: info.number)
    latest, best = newest_first(infos), best_first(infos)
    value = {
        "format": FORMAT,
        "next": max([next_number(directory), *(info.number + 1 for info in infos)]),
        "latest": _brief(latest[0]) if latest else None,
        "best": [_brief(info) for info in best[: max(keep_best, 1)]],
        "checkpoints": [_brief(info) for info in infos],
    }
    write_atomically(directory / INDEX, json.dumps(value, indent=2).encode() + b"\n")


def _brief(info: CheckpointInfo) -> dict[str, Any]:
    score = asdict(info.score) if info.score else None
    return {"name": info.name, "kind": info.kind, "step": info.step, "time": info.time, "score": score}


def next_number(directory: Path) -> int:
    """The number after the last one that was used, which may have been removed by hand; 1 where that isn't known."""
    try:
        following = json.loads((directory / INDEX).read_bytes())["next"]
    except (OSError, ValueError, KeyError, TypeError):
        return 1
    return following if type(following) is int and 0 < following < 10**15 else 1
