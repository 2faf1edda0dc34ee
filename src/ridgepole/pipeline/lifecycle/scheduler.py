"""Count the steps of a run; at each, obey a stop and take a checkpoint that is due."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, NoReturn, Protocol

from ridgepole.checkpoint.policy import CheckpointPolicy
from ridgepole.errors import TrialPruned
from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.ticks import TickingLoop, Ticks


class RunInspection(Protocol):
    """A guard that looks at the run now and then."""

    @property
    def due(self) -> float:
        """Return when the next look is due, by the monotonic clock."""

    def inspect(self, *, ended: bool = False) -> None:
        """Look at the run; may raise."""

    def sound_until(self, step: int) -> int:
        """Return the last step at which the run was sound here, at most a step."""

    def roll_back(self, fault: Mapping[str, Any]) -> NoReturn:
        """Leave the process, which continues from a checkpoint before a fault."""


Kind = str
"""The reason for a checkpoint: the kind of a trigger, or `boundary` (between two processes),
`epoch` (between two items of a loop around another one), `signal`, `manual` or `error`."""


class CheckpointScheduler(Ticks):
    """Counts the steps of a run, obeys stops and takes checkpoints.

    Args:
        policy: When checkpoints are due.
        guard: Knows whether a signal asked the run to stop.
        checkpoint: Takes a checkpoint for a reason; calls `schedule` when it is done.
        is_new_best: Whether the metric of `keep_best` has a new value that is worth a checkpoint.
        last_seconds: How long the last checkpoint took.
        warn: Warns the user.

    Attributes:
        guard: Looks at the run at its ticks; None without one.
        on_prepare: Called with the source of a ticking loop that is about to begin; returns what to
            loop over, and how many items come before it.
        lacks_boundary: Whether a checkpoint inside an item of an outer loop can't be resumed from,
            and one between two items can.
    """

    def __init__(
        self,
        policy: CheckpointPolicy,
        guard: SignalGuard,
        checkpoint: Callable[[Kind], None],
        is_new_best: Callable[[], bool],
        last_seconds: Callable[[], float],
        warn: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.on_prepare: Callable[[Iterable[Any]], tuple[Iterable[Any], int]] = super().prepare
        self.lacks_boundary = False
        self._look: Callable[[], bool] | None = None
        self._watched_until = 0
        self._rehearsal: Callable[[], object] = lambda: None
        self._rehearsal_time = math.inf
        self.guard: RunInspection | None = None
        self._policy = policy
        self._guard = guard
        self._checkpoint = checkpoint
        self._triggers = policy.make_triggers(is_new_best)
        self._last_seconds = last_seconds
        self._warn = warn
        self._polled = self._triggers.polled
        self._due_count = self._due_time = math.inf
        guard.on_request = self.interrupt
        self.schedule()

    def resume(self, step: int, count: int) -> None:
        """Continue with the counts of a checkpoint."""
        self._step, self.count = step, count
        self.begin_process()
        self.schedule()

    def schedule(self) -> None:
        """Compute when the next checkpoint is due, from now on."""
        self._rehearsal_time = math.inf
        self._triggers.restart(self.count, monotonic())
        self._due_count, self._due_time = self._triggers.count, self._next_time()
        self._watch_next()

    def guard_with(self, guard: RunInspection) -> None:
        """Let a guard look at the run at its ticks."""
        self.guard = guard
        self._due_time = self._next_time()

    def _next_time(self) -> float:
        return min(self._triggers.time, self._rehearsal_time, math.inf if self.guard is None else self.guard.due)

    def inspect(self) -> None:
        """Let the guard look, if that is due."""
        if self.guard is not None and monotonic() >= self.guard.due:
            self.guard.inspect()
            self._due_time = self._next_time()

    def rehearse_after(self, seconds: float, rehearsal: Callable[[], object]) -> None:
        """Call a function once at the first step after a time, unless a checkpoint comes before."""
        self._rehearsal, self._rehearsal_time = rehearsal, monotonic() + seconds
        self._due_time = self._next_time()

    def _rehearse(self) -> None:
        if monotonic() >= self._rehearsal_time:
            self._rehearsal_time = math.inf
            self._due_time = self._next_time()
            self._rehearsal()

    def ask_checkpoint(self, kind: Kind) -> None:
        """Take a checkpoint for a reason that only this rank knows."""
        self._checkpoint(kind)

    def ask_rollback(self, fault: Mapping[str, Any]) -> None:
        """Go back before a fault that only this rank knows.

        Args:
            fault: It as plain JSON, as `RunInspection.roll_back` takes it.

        Raises:
            KeyboardInterrupt: The rollback, unless it has to be agreed on.
        """
        if self.guard is not None:
            self.guard.roll_back(fault)

    def watch(self, look: Callable[[], bool], steps: int) -> None:
        """Call a function at the end of each of the next steps, until it returns False."""
        self._look, self._watched_until = look, self.count + steps
        self._watch_next()

    def _watch_next(self) -> None:
        if self._look is not None:
            self._due_count = min(self._due_count, self.count + 1)

    def _watch(self, look: Callable[[], bool]) -> None:
        if not look() or self.count >= self._watched_until:
            self._look = None
        self._due_count = self._triggers.count
        self._watch_next()

    def prepare(self, source: Iterable[Any]) -> tuple[Iterable[Any], int]:
        """Restore the position of a loop's source, if the run was resumed in the middle of it."""
        return self.on_prepare(source)

    def between_items(self, loop: TickingLoop) -> None:
        """Take a checkpoint that was due inside an item and could not be resumed from there."""
        if self.lacks_boundary and loop is self._loops[-1]:
            self._checkpoint("epoch")

    def steps_ahead(self) -> int:
        """Return how many steps may be counted at once before something can be due; at least 1."""
        if self._polled or self._guard.requested is not None:
            return 1
        left = self._due_count - self.count
        return sys.maxsize if left == math.inf else max(1, int(left))

    def on_step(self) -> None:
        """Obey a stop, take a checkpoint that is due.

        Raises:
            KeyboardInterrupt: If a signal asked the run to stop.
        """
        guard = self._guard
        guard.ticking = True
        # Nearly always nothing is due, and this runs at every step of a training: avoid calls.
        if (
            guard.requested is not None
            or self._polled
            or self.count >= self._due_count
            or monotonic() >= self._due_time
        ):
            if self._look is not None:
                self._watch(self._look)
            self.inspect()
            if guard.requested is not None:
                self._stop(guard.requested)
            kind = self._due()
            if kind is not None:
                self._checkpoint(kind)
                if guard.requested is not None:  # it came meanwhile; this step is stored
                    raise guard.requested
            self._rehearse()

    def _due(self) -> Kind | None:
        return self._triggers.due(self.count, monotonic())

    def _stop(self, stop: KeyboardInterrupt) -> None:
        self._guard.obey_forced()  # after the second Ctrl-C no checkpoint is taken
        if self._policy.on_signal and not isinstance(stop, TrialPruned) and self._has_time():
            self._due()
            self._checkpoint("signal")
        raise stop

    def _has_time(self) -> bool:
        """Return whether a checkpoint can be expected to be done before the scheduler kills."""
        left = self._guard.deadline - monotonic()
        if self._last_seconds() <= left:
            return True
        last = self._last_seconds()
        self._warn(f"no checkpoint: the last one took {last:.1f} s, and {max(0.0, left):.1f} s are left")
        return False

    def end_process(self) -> None:
        """Count the end of a process as a step, and take the policy's checkpoint there.

        Raises:
            KeyboardInterrupt: If a signal asked the run to stop.
        """
        if self.guard is not None:
            self.guard.inspect(ended=True)
        self.count += 1
        self.begin_process()
        stop = self._guard.requested
        kind = self._due()
        if self._policy.after_process or (stop is not None and self._policy.on_signal):
            kind = "boundary"
        if stop is not None and (isinstance(stop, TrialPruned) or not self._has_time()):
            kind = None
        if kind is not None:
            self._checkpoint(kind)
        if self._guard.requested is not None:  # before the checkpoint, or meanwhile
            raise self._guard.requested
