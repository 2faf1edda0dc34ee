"""The `[pipeline.checkpoint]` table: when checkpoints are taken, and which are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from ridgepole.checkpoint.triggers import (
    CheckpointTrigger,
    EveryMinutes,
    EverySteps,
    NewBest,
    Triggers,
    load_triggers,
)


@dataclass(frozen=True, slots=True)
class KeepBest:
    """The checkpoints that are kept for being the best."""

    metric: str
    """Name of the logged metric, such as `validation/accuracy`."""
    mode: Literal["min", "max"] = "min"
    """The better direction: `min` or `max`."""
    k: Annotated[int, Ge(1)] = 1
    """Number of the best that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPolicy:
    """The rules by which checkpoints are taken and kept; keys that are missing have defaults."""

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
    triggers: Mapping[str, Mapping[str, Any]] | None = None
    """Take one when a trigger of an installed package asks for it: its arguments, by its name."""
    background: bool = False
    """Only copy the state at the step, and write it in a thread while the training continues."""
    host_memory_limit: Annotated[float, Gt(0)] | None = None
    """Gigabytes that the copy may take; a larger state is written in the foreground."""
    keep_last: Annotated[int, Ge(2)] = 2
    """Number of the latest that are kept; at least 2, in case that one is damaged."""
    keep_best: KeepBest | None = None
    """Keep the best by a metric, too; a new best makes a checkpoint due at the next tick."""
    enabled: bool = True
    """`checkpoint = false` turns everything off."""

    def __post_init__(self) -> None:
        """Check that the triggers of other packages are installed and take their arguments.

        Raises:
            ValueError: One isn't, or doesn't.
        """
        if self.triggers:
            load_triggers(self.triggers)

    def make_triggers(self, is_new_best: Callable[[], bool]) -> Triggers:
        """Make the triggers of one run.

        Args:
            is_new_best: Returns whether the metric of `keep_best` has a new value among the best.
        """
        made: list[CheckpointTrigger] = []
        if self.every_steps:
            made.append(EverySteps(self.every_steps))
        if self.every_minutes:
            made.append(EveryMinutes(self.every_minutes))
        if self.keep_best is not None:
            made.append(NewBest(is_new_best))
        made += [make() for make in load_triggers(self.triggers or {}).values()]
        return Triggers(made)


OFF = CheckpointPolicy(
    every_minutes=None, after_process=False, on_signal=False, on_error=False, keep_best=None, enabled=False
)
"""The policy of `checkpoint = false`."""
