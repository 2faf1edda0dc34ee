"""Checkpoints: when they are taken, what they hold, how they are kept; names are resolved when first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import resolver

if TYPE_CHECKING:
    from ridgepole.checkpoint.loading import Loaded as Loaded
    from ridgepole.checkpoint.loading import PassedOver as PassedOver
    from ridgepole.checkpoint.manifest import CheckpointInfo as CheckpointInfo
    from ridgepole.checkpoint.manifest import Score as Score
    from ridgepole.checkpoint.policy import CheckpointPolicy as CheckpointPolicy
    from ridgepole.checkpoint.policy import KeepBest as KeepBest
    from ridgepole.checkpoint.saving import Saved as Saved
    from ridgepole.checkpoint.saving import Saving as Saving
    from ridgepole.checkpoint.saving import write_part as write_part
    from ridgepole.checkpoint.store import CheckpointStore as CheckpointStore

_HOMES = {
    "CheckpointInfo": "ridgepole.checkpoint.manifest",
    "CheckpointPolicy": "ridgepole.checkpoint.policy",
    "CheckpointStore": "ridgepole.checkpoint.store",
    "KeepBest": "ridgepole.checkpoint.policy",
    "Loaded": "ridgepole.checkpoint.loading",
    "PassedOver": "ridgepole.checkpoint.loading",
    "Saved": "ridgepole.checkpoint.saving",
    "Saving": "ridgepole.checkpoint.saving",
    "Score": "ridgepole.checkpoint.manifest",
    "write_part": "ridgepole.checkpoint.saving",
}

__all__ = [
    "CheckpointInfo",
    "CheckpointPolicy",
    "CheckpointStore",
    "KeepBest",
    "Loaded",
    "PassedOver",
    "Saved",
    "Saving",
    "Score",
    "write_part",
]


__getattr__ = resolver(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
