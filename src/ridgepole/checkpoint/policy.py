"""When a checkpoint is due: the `[pipeline.checkpoint]` table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt


@dataclass(frozen=True, slots=True)
class KeepBest:
    """Which checkpoints are kept for being the best."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    metric: str
    """Name of the logged metric, such as `validation/accuracy`."""
    mode: Literal["min", "max"] = "min"
    """Whether a smaller or a larger value is better."""
    k: Annotated[int, Ge(1)] = 1
    """How many of the best are kept."""


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """When checkpoints are taken and how many are kept. Keys that are not written keep these defaults."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    every_steps: Annotated[int, Ge(1)] | None = None
    """Take one every so many ticks, counted across processes."""
    every_minutes: Annotated[float, Gt(0)] | None = 10.0
    """Take one at the first tick after so many minutes."""
    after_process: bool = True
    """Take one at the end of each process, and one before the first."""
    on_signal: bool = True
    """Take one before a signal stops the run at a tick."""
    on_error: bool = False
    """Take one when a process fails; it is kept apart and never resumed from by itself."""
    keep_last: Annotated[int, Ge(2)] = 2
    """How many of the latest are kept; at least 2, so that a damaged one has another before it."""
    keep_best: KeepBest | None = None
    """Keep the best by a metric, too; a value that is among them makes a checkpoint due at the next tick."""
    enabled: bool = True
    """`checkpoint = false` turns everything off."""


OFF = CheckpointPolicy(
    every_minutes=None, after_process=False, on_signal=False, on_error=False, keep_best=None, enabled=False
)
"""What `checkpoint = false` means."""
