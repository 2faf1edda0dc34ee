"""Which checkpoints are the latest, the best, and the ones that need not be kept: decisions without files."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ridgepole.checkpoint.layout import ERROR
from ridgepole.checkpoint.manifest import CheckpointInfo


def newest_first(infos: Sequence[CheckpointInfo]) -> list[CheckpointInfo]:
    """Those that may be resumed from, as far as their manifests say."""
    return sorted((info for info in infos if info.usable), key=lambda info: -info.number)


def best_first(infos: Sequence[CheckpointInfo]) -> list[CheckpointInfo]:
    """Those with a score, best first, the earlier first among equals.

    Only scores of the metric and mode of the newest one count: others can't be compared with it.
    """
    scored = [(info, info.score) for info in newest_first(infos) if info.score is not None]
    if not scored:
        return []
    rule = scored[0][1].metric, scored[0][1].mode
    sign = 1 if rule[1] == "min" else -1
    fitting = [(sign * score.value, info.number, info) for info, score in scored if (score.metric, score.mode) == rule]
    return [info for _, _, info in sorted(fitting, key=lambda item: item[:2])]


def superfluous(
    infos: Sequence[CheckpointInfo], *, keep_last: int, keep_best: int, damaged: Collection[str] = ()
) -> list[CheckpointInfo]:
    """What need not be kept.

    Args:
        infos: All there are.
        keep_last: How many of the latest are kept, and how many of those of errors.
        keep_best: How many of the best are kept.
        damaged: Names of those known to be damaged: they don't count as kept, so that a sound one is not removed for
            their sake, and go when they are older than the latest that are kept.

    Returns:
        Oldest first. Never one whose manifest can't be read: it may be all that is left of something.
    """
    sound = [info for info in newest_first(infos) if info.name not in damaged]
    kept = sound[:keep_last] + best_first(sound)[:keep_best]
    tags: set[str] = set()
    for info in sound:
        if info.protect is not None and info.protect not in tags:
            tags.add(info.protect)
            kept.append(info)
    errors = sorted((info for info in infos if info.kind == ERROR and not info.problem), key=lambda info: -info.number)
    kept += errors[:keep_last]
    names = {info.name for info in kept}
    oldest = min((info.number for info in sound[:keep_last]), default=0)
    return sorted(
        (i for i in infos if not i.problem and i.name not in names and (i.number < oldest or i.kind == ERROR)),
        key=lambda info: info.number,
    )
