"""Conditions when a checkpoint is due. Packages add theirs by entry point.

The group is `ridgepole.checkpoint_triggers`; an entry point names a subclass of
`CheckpointTrigger`. A pipeline turns one on by the entry point's name, with its arguments:

```toml
[pipeline.checkpoint.triggers.low_disk]
free = "20GB"
```
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ridgepole.errors import did_you_mean

GROUP = "ridgepole.checkpoint_triggers"


class CheckpointTrigger:
    """A condition when a checkpoint is due; override one of its methods.

    Attributes:
        kind: Why its checkpoints are taken, a word of small letters and `_`; manifests hold it.
    """

    kind = "trigger"

    def next_due(self, count: int, now: float) -> tuple[float, float]:  # noqa: ARG002 - the interface
        """Return the step and the time from which a checkpoint is due; infinite where unknown.

        It is asked when the run begins or resumes, and after every checkpoint.

        Args:
            count: Steps so far, counted across processes. All ranks must return the same step.
            now: The time, in seconds of `time.monotonic`.
        """
        return math.inf, math.inf

    def is_due(self) -> bool:
        """Return whether a checkpoint is due now; asked at every step, so it must be fast."""
        return False


class EverySteps(CheckpointTrigger):
    """Take a checkpoint each time `steps` steps have passed."""

    kind = "step"

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def next_due(self, count: int, now: float) -> tuple[float, float]:  # noqa: ARG002
        """Return the step that is `steps` steps away."""
        return count + self._steps, math.inf


class EveryMinutes(CheckpointTrigger):
    """Take a checkpoint at the first step after `minutes` minutes."""

    kind = "time"

    def __init__(self, minutes: float) -> None:
        self._seconds = minutes * 60

    def next_due(self, count: int, now: float) -> tuple[float, float]:  # noqa: ARG002
        """Return the time that is `minutes` minutes away."""
        return math.inf, now + self._seconds


class NewBest(CheckpointTrigger):
    """Take a checkpoint when the metric of `keep_best` has a new value among the best.

    Args:
        is_new_best: Returns whether there is one since the last question.
    """

    kind = "best"

    def __init__(self, is_new_best: Callable[[], bool]) -> None:
        self._is_new_best = is_new_best

    def is_due(self) -> bool:
        """Return whether there is a new value among the best."""
        return self._is_new_best()


class Triggers:
    """The triggers of a run, and when the first of them is due.

    Attributes:
        count: The step from which a checkpoint is due; infinite where unknown.
        time: The time from which one is due, in seconds of `time.monotonic`; infinite likewise.
        polled: Whether a trigger has to be asked at every step.
    """

    def __init__(self, triggers: Sequence[CheckpointTrigger]) -> None:
        self._triggers = triggers
        self._polled = [one for one in triggers if type(one).is_due is not CheckpointTrigger.is_due]
        self._deadlines: list[tuple[float, float, str]] = []
        self.count = self.time = math.inf
        self.polled = bool(self._polled)

    def restart(self, count: int, now: float) -> None:
        """Compute the deadlines again: a checkpoint was taken, or the run begins or resumes."""
        self._deadlines = [(*one.next_due(count, now), one.kind) for one in self._triggers]
        self.count = min((at for at, _, _ in self._deadlines), default=math.inf)
        self.time = min((at for _, at, _ in self._deadlines), default=math.inf)

    def kind_at(self, count: int) -> str:
        """Return the kind of the first trigger whose step was reached."""
        return next(kind for at, _, kind in self._deadlines if count >= at)

    def due(self, count: int, now: float) -> str | None:
        """Return why a checkpoint is due, or None; of several reasons the first to be declared."""
        # Every one is asked: a new best ranks the checkpoint that is due for another reason, too.
        asked = [one.kind for one in self._polled if one.is_due()]
        reached = [kind for at_count, at, kind in self._deadlines if count >= at_count or now >= at]
        return next(iter([*reached, *asked]), None)


def load_triggers(
    options: Mapping[str, Mapping[str, Any]],
) -> dict[str, Callable[[], CheckpointTrigger]]:
    """Find the triggers of installed packages, and check the arguments for them.

    Args:
        options: The arguments of each, by the name of its entry point.

    Returns:
        For each name a function that makes the trigger.

    Raises:
        ValueError: A trigger is not installed, can't be imported, or doesn't take its arguments.
    """
    from functools import partial
    from importlib.metadata import entry_points

    # Looking through all installed packages takes as long as the rest of a run's start
    installed = {point.name: point for point in entry_points(group=GROUP)} if options else {}
    found: dict[str, Callable[[], CheckpointTrigger]] = {}
    for name, arguments in options.items():
        if name not in installed:
            hint = did_you_mean(name, installed) or f"installed: {', '.join(installed) or 'none'}"
            raise ValueError(f"no installed package has a checkpoint trigger {name!r}; {hint}")
        try:
            factory = installed[name].load()
            inspect.signature(factory).bind(**arguments)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"the checkpoint trigger {name!r} can't be used ({reason})") from error
        found[name] = partial(factory, **arguments)
    return found
