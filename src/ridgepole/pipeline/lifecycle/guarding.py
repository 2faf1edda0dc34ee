"""Act on a fault of a metric, in the run's own thread and between two steps."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from ridgepole.errors import GuardError
from ridgepole.pipeline.lifecycle.scheduler import CheckpointScheduler
from ridgepole.ticks import ASKS
from ridgepole.watch.alerts import Level
from ridgepole.watch.guard import Found, MetricGuard, Metrics

if TYPE_CHECKING:
    from ridgepole.pipeline.lifecycle.process_run import ProcessRun

PERIOD = 0.01
"""Seconds between two looks: a loop of fast steps pays nothing for them."""


class Rollback(KeyboardInterrupt):
    """The process continues from an earlier checkpoint; a tick raises it.

    Attributes:
        found: The fault.
        cursor: How many items of its source the innermost loop had passed, if it has a position.
    """

    def __init__(self, found: Found, cursor: int | None) -> None:
        super().__init__(found.title)
        self.found, self.cursor = found, cursor


class Guarded(Protocol):
    """The part of a controller that a guard uses."""

    ticks: CheckpointScheduler
    world_size: int
    process_run: ProcessRun | None

    def checkpoint(self, kind: str) -> None:
        """Take a checkpoint now."""

    def raise_alert(self, kind: str, level: Level, title: str, text: str = "") -> None:
        """Keep an alert, show it and send it."""


class RunGuard:
    """Looks at the metrics of a run at its ticks, and acts as the policy says.

    Args:
        guard: Knows the metrics.
        run: The controller of the run.
        metrics: Returns the metrics of the run; None before the loggers exist.
    """

    def __init__(self, guard: MetricGuard, run: Guarded, metrics: Callable[[], Metrics | None]) -> None:
        self._guard, self._run, self._metrics = guard, run, metrics
        self._next, self._asked = 0.0, 0

    @property
    def due(self) -> float:
        """Return when the next look is due, by the monotonic clock."""
        return self._next

    def restart(self, step: int) -> None:
        """Forget what was seen: the metrics continue from a checkpoint."""
        self._guard.restart(step)

    def inspect(self, *, ended: bool = False) -> None:
        """Look, and act on what is found.

        Args:
            ended: Whether the process has ended: it can't continue from a checkpoint any more.

        Raises:
            GuardError: If the run is to stop.
            Rollback: If the process is to continue from a checkpoint.
        """
        metrics = self._metrics()
        self._next = monotonic() + PERIOD
        asked = self._run.ticks.beat[ASKS]
        if asked != self._asked and not ended and self._run.world_size == 1:
            self._asked = asked
            self._run.checkpoint("guard")
        found = None if metrics is None else self._guard.look(metrics, self._run.ticks.step)
        if found is None:
            return
        action = found.policy.action
        if action == "rollback" and ended:
            action = "warn"
        self._run.raise_alert(found.kind, "error" if action == "stop" else "warning", found.title, found.text)
        if action == "checkpoint":
            self._run.checkpoint("guard")
        elif action == "stop" or (action == "rollback" and self._run.world_size > 1):
            several = "" if action == "stop" else "; several ranks can't roll back"
            raise GuardError(f"{found.title}: {found.text}{several}")
        elif action == "rollback":
            raise Rollback(found, self._cursor())

    def _cursor(self) -> int | None:
        return None if self._run.process_run is None else self._run.process_run.place()
