"""Checkpoints: when they are taken, what they hold, and how they are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import exports

if TYPE_CHECKING:
    from ridgepole.checkpoint.loading import Loaded as Loaded
    from ridgepole.checkpoint.loading import SkippedCheckpoint as SkippedCheckpoint
    from ridgepole.checkpoint.manifest import CheckpointInfo as CheckpointInfo
    from ridgepole.checkpoint.manifest import Score as Score
    from ridgepole.checkpoint.policy import KeepBest as KeepBest
    from ridgepole.checkpoint.saving import Saved as Saved
    from ridgepole.checkpoint.saving import Saving as Saving
    from ridgepole.checkpoint.saving import write_part as write_part
    from ridgepole.checkpoint.store import CheckpointStore as CheckpointStore
    from ridgepole.checkpoint.triggers import CheckpointTrigger as CheckpointTrigger

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ridgepole.checkpoint.loading": ("Loaded", "SkippedCheckpoint"),
        "ridgepole.checkpoint.manifest": ("CheckpointInfo", "Score"),
        "ridgepole.checkpoint.policy": ("KeepBest",),
        "ridgepole.checkpoint.saving": ("Saved", "Saving", "write_part"),
        "ridgepole.checkpoint.store": ("CheckpointStore",),
        "ridgepole.checkpoint.triggers": ("CheckpointTrigger",),
    },
)
