"""What is due at a step boundary: a stop that was asked for, a checkpoint by the policy."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

from ridgepole.checkpoint.policy import CheckpointPolicy
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.ticks import Ticks


class DueTicks(Ticks):
    """Counts the step boundaries of a run and does what is due at them.

    Args:
        policy: When checkpoints are due.
        guard: Knows whether a signal asked the run to stop.
        checkpoint: Takes a checkpoint; calls `schedule` when it is done.
        is_new_best: Whether the metric of `keep_best` has become better since it was last asked.
    """

    def __init__(
        self,
        policy: CheckpointPolicy,
        guard: SignalGuard,
        checkpoint: Callable[[], None],
        is_new_best: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._policy = policy
        self._guard = guard
        self._checkpoint = checkpoint
        self._is_new_best = is_new_best
        self._watches_best = policy.keep_best is not None
        self._due_count: float = math.inf
        self._due_time = math.inf
        guard.on_request = self.interrupt
        self.schedule()

    def schedule(self) -> None:
        """Works out when the next checkpoint is due, from now on."""
        policy = self._policy
        self._due_count = self.count + policy.every_steps if policy.every_steps else math.inf
        self._due_time = time.monotonic() + policy.every_minutes * 60 if policy.every_minutes else math.inf

    def free(self) -> int:
        """How many boundaries may be marked at once before something can be due; at least 1."""
        if self._watches_best or self._guard.requested is not None:
            return 1
        left = self._due_count - self.count
        return sys.maxsize if left == math.inf else max(1, int(left))

    def boundary(self) -> None:
        """Obeys a stop, takes a checkpoint that is due.

        Raises:
            KeyboardInterrupt: If a signal asked the run to stop.
        """
        guard = self._guard
        guard.ticking = True
        if guard.requested is not None:
            self._stop(guard.requested)
        due = self.count >= self._due_count or time.monotonic() >= self._due_time
        if due or (self._watches_best and self._is_new_best()):
            self._checkpoint()

    def _stop(self, stop: KeyboardInterrupt) -> None:
        self._guard.obey()  # at the second Ctrl-C there is no checkpoint any more
        if self._policy.on_signal:
            self._checkpoint()
        raise stop

    def end_process(self) -> None:
        """The boundary at the end of a process, where the policy may ask for a checkpoint of its own.

        Raises:
            KeyboardInterrupt: If a signal asked the run to stop.
        """
        self.count += 1
        stop = self._guard.requested
        due = self.count >= self._due_count or time.monotonic() >= self._due_time
        if due or self._policy.after_process or (stop is not None and self._policy.on_signal) or self._is_new_best():
            self._checkpoint()
        if stop is not None:
            raise stop
