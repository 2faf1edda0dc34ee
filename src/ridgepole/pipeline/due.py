"""What is due at a step boundary: a stop that was asked for, a checkpoint by the policy."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from time import monotonic
from typing import Literal

from ridgepole.checkpoint.policy import CheckpointPolicy
from ridgepole.errors import TrialPruned
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.ticks import Ticks

Kind = Literal["boundary", "step", "time", "signal", "best", "manual", "error"]
"""Why a checkpoint was taken."""


class DueTicks(Ticks):
    """Counts the step boundaries of a run and does what is due at them.

    Args:
        policy: When checkpoints are due.
        guard: Knows whether a signal asked the run to stop.
        checkpoint: Takes a checkpoint for a reason; calls `schedule` when it is done.
        is_new_best: Whether the metric of `keep_best` has got a value that is worth a checkpoint since it was last
            asked.
        last_seconds: How long the last checkpoint took.
        say: Warns the user.

    Attributes:
        on_prepare: Told what a ticking loop is about to begin with.
    """

    def __init__(
        self,
        policy: CheckpointPolicy,
        guard: SignalGuard,
        checkpoint: Callable[[Kind], None],
        is_new_best: Callable[[], bool],
        last_seconds: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.on_prepare: Callable[[object], None] = lambda _source: None
        self._policy = policy
        self._guard = guard
        self._checkpoint = checkpoint
        self._is_new_best = is_new_best
        self._last_seconds = last_seconds
        self._say = say
        self._watches_best = policy.keep_best is not None
        self._due_count: float = math.inf
        self._due_time = math.inf
        guard.on_request = self.interrupt
        self.schedule()

    def go_on(self, step: int, count: int) -> None:
        """Puts the counts where a checkpoint left them."""
        self._step, self.count = step, count
        self.schedule()

    def schedule(self) -> None:
        """Works out when the next checkpoint is due, from now on."""
        policy = self._policy
        self._due_count = self.count + policy.every_steps if policy.every_steps else math.inf
        self._due_time = monotonic() + policy.every_minutes * 60 if policy.every_minutes else math.inf

    def prepare(self, source: object) -> None:
        """A ticking loop over something is about to begin: where a resumed run has its position, it is put there."""
        self.on_prepare(source)

    @property
    def sources(self) -> list[object]:
        """What the ticking loops that are going on loop over, the innermost last."""
        return [loop.source for loop in self._loops]

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
        # Nearly always nothing is due, and this runs at every step of a training: no call that can be spared.
        if (
            guard.requested is not None
            or self._watches_best
            or self.count >= self._due_count
            or monotonic() >= self._due_time
        ):
            self._act(guard.requested)

    def _act(self, stop: KeyboardInterrupt | None) -> None:
        if stop is not None:
            self._stop(stop)
        kind = self._due()
        if kind is not None:
            self._checkpoint(kind)

    def _due(self) -> Kind | None:
        best = self._watches_best and self._is_new_best()  # asked first: it is what ranks a checkpoint that is due
        if self.count >= self._due_count:
            return "step"
        if monotonic() >= self._due_time:
            return "time"
        return "best" if best else None

    def _stop(self, stop: KeyboardInterrupt) -> None:
        self._guard.obey()  # at the second Ctrl-C there is no checkpoint any more
        if self._policy.on_signal and not isinstance(stop, TrialPruned) and self._has_time():
            self._due()
            self._checkpoint("signal")
        raise stop

    def _has_time(self) -> bool:
        """Whether a checkpoint can be expected to be done before the scheduler kills."""
        left = self._guard.deadline - monotonic()
        if self._last_seconds() <= left:
            return True
        self._say(f"no checkpoint: the last one took {self._last_seconds():.1f} s, and {max(0.0, left):.1f} s are left")
        return False

    def end_process(self) -> None:
        """The boundary at the end of a process, where the policy may ask for a checkpoint of its own.

        Raises:
            KeyboardInterrupt: If a signal asked the run to stop.
        """
        self.count += 1
        stop = self._guard.requested
        kind = self._due()
        if self._policy.after_process or (stop is not None and self._policy.on_signal):
            kind = "boundary"
        if stop is not None and (isinstance(stop, TrialPruned) or not self._has_time()):
            kind = None
        if kind is not None:
            self._checkpoint(kind)
        if stop is not None:
            raise stop
