"""Order checkpoints, and decide which need not be kept, without touching a file."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ridgepole.checkpoint.manifest import ERROR, CheckpointInfo


def newest_first(infos: Sequence[CheckpointInfo]) -> list[CheckpointInfo]:
    """Return the checkpoints that a run may be resumed from, as far as their manifests say."""
    return sorted((info for info in infos if info.usable), key=lambda info: -info.number)


def best_first(infos: Sequence[CheckpointInfo]) -> list[CheckpointInfo]:
    """Return the checkpoints with a score, best first, the earlier first among equals.

    Only scores of the newest one's metric and mode count: others can't be compared with it.
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
    """Return the checkpoints that need not be kept, oldest first.

    One whose manifest can't be read always stays: it may be all that is left of something.

    Args:
        infos: All checkpoints.
        keep_last: How many of the latest are kept, and how many of those of errors.
        keep_best: How many of the best are kept.
        damaged: Names of those known to be damaged. They don't count as kept, so that no sound one
            is removed for them, and go when they are older than the latest that are kept.
    """
    sound = [info for info in newest_first(infos) if info.name not in damaged]
    kept = sound[:keep_last] + best_first(sound)[:keep_best]
    protected: dict[str, CheckpointInfo] = {}
    for info in sound:
        for tag in (info.protect or "").split():
            protected.setdefault(tag, info)
    errors = sorted((info for info in infos if info.kind == ERROR and not info.problem), key=lambda info: -info.number)
    names = {info.name for info in (*kept, *protected.values(), *errors[:keep_last])}
    oldest = min((info.number for info in sound[:keep_last]), default=0)
    return sorted(
        (i for i in infos if not i.problem and i.name not in names and (i.number < oldest or i.kind == ERROR)),
        key=lambda info: info.number,
    )
