"""Act on a fault of a metric, in the run's own thread and between two steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ridgepole.errors import GuardError, text_of
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
    process_run: ProcessRun | None

    def warn(self, message: str) -> None:
        """Warn the user."""

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
            Rollback: If the process is to continue from a checkpoint; of several ranks, all do
                so at a later step.
        """
        metrics = self._metrics()
        self._next = monotonic() + PERIOD
        asked = self._run.ticks.beat[ASKS]
        if asked != self._asked and not ended:
            self._asked = asked
            self._ask_checkpoint()
        found = None if metrics is None else self._guard.look(metrics, self._run.ticks.step)
        if found is None:
            return
        action = found.policy.action
        if action == "rollback" and ended:
            action = "warn"
        self._run.raise_alert(found.kind, "error" if action == "stop" else "warning", found.title, found.text)
        if action == "checkpoint":
            self._ask_checkpoint()
        elif action == "stop":
            raise GuardError(f"{found.title}: {found.text}")
        elif action == "rollback":
            fault = {"kind": found.kind, "title": found.title, "text": found.text, "clean": found.clean}
            self._run.ticks.ask_rollback(fault)

    def _ask_checkpoint(self) -> None:
        """Take a checkpoint, which may fail: the run was sound without it."""
        try:
            self._run.ticks.ask_checkpoint("guard")
        except Exception as error:  # noqa: BLE001 - also errors of permanences
            self._run.warn(f"the checkpoint of the guard was not taken: {type(error).__name__}: {text_of(error)}")

    def sound_until(self, step: int) -> int:
        """Return the last step at which the metrics were sound here, at most a step."""
        return self._guard.sound_until(step)

    def roll_back(self, fault: Mapping[str, Any]) -> NoReturn:
        """Leave the process, which continues from a checkpoint before a fault.

        Args:
            fault: Kind, title, text and last sound step of a fault, which another rank may have
                found.

        Raises:
            Rollback: Always.
        """
        raise Rollback(Found(**fault, policy=self._guard.policy_of(fault["kind"])), self._cursor())

    def _cursor(self) -> int | None:
        return None if self._run.process_run is None else self._run.process_run.place()
