"""The `[pipeline]` table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le

from ridgepole.checkpoint.policy import CheckpointPolicy
from ridgepole.checkpoint.rng import MAX_SEED


@dataclass(frozen=True, slots=True)
class Settings:
    """What a pipeline says of itself."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: str = "pipeline"
    """Shown in lists of runs; by default the stem of the pipeline's file."""
    package: str | None = None
    """The user's own package beside the file: where its classes are looked up."""
    seed: Annotated[int, Ge(0), Le(MAX_SEED)] | None = None
    """For python, numpy and torch; drawn and recorded where it is not given."""
    deterministic: bool = False
    """Ask torch for deterministic algorithms too."""
    logger: bool = True
    """False gives every process a logger that drops everything."""
    progress: bool = True
    """False gives every process a progress manager that shows nothing."""
    checkpoint: CheckpointPolicy | bool = True
    """When checkpoints are taken; false turns them off."""
    grace_seconds: Annotated[float, Ge(0)] = 25.0
    """How long a SIGTERM leaves before the scheduler kills."""
