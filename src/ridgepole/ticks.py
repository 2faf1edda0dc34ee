"""Step boundaries: where a run may stop and take checkpoints, counted one by one or by a loop several at a time."""

from __future__ import annotations

import sys
from typing import Protocol


class TickingLoop(Protocol):
    """A loop whose items are step boundaries, and which counts several of them at a time.

    Attributes:
        source: What it loops over.
    """

    source: object

    def settle(self) -> int:
        """Hands over how many items are done and not counted yet; the one whose body runs is not done."""
        ...

    def pending(self) -> int:
        """How many `settle` would hand over."""
        ...

    def interrupt(self) -> None:
        """Asks for the count right after the current item. May come from a signal's handler."""
        ...

    def step_aside(self, *, for_good: bool) -> None:
        """Leaves the current item (or all from it on) to ticks that are made inside its body."""
        ...


class Ticks:
    """Counts the step boundaries of a run. Here nothing is ever due.

    Attributes:
        count: Boundaries that have been counted; unlike `step` it only grows.
        outside: Whether one was marked outside of any ticking loop since this was last set to False.
    """

    def __init__(self) -> None:
        self.count = 0
        self.outside = False
        self._step = 0
        self._loops: list[TickingLoop] = []

    @property
    def step(self) -> int:
        """The step: also inside a loop that has not handed over its count."""
        innermost = self._loops[-1:]  # another thread may ask while the last loop ends
        return self._step + (innermost[0].pending() if innermost else 0)

    def tick(self, step: int | None = None) -> None:
        """Marks one step boundary.

        Args:
            step: Sets the step; None adds one.

        Raises:
            KeyboardInterrupt: If the run was asked to stop.
        """
        if self._loops:  # the process ticks by itself: from here on the loop around it does not
            self._take_in(self._loops[-1])
            self._loops[-1].step_aside(for_good=True)
        else:
            self.outside = True
        self._step = self._step + 1 if step is None else step
        self.count += 1
        self.boundary()

    def done(self, loop: TickingLoop, items: int) -> None:
        """Marks the boundaries behind some items of a loop, unless it has another loop inside that ticks.

        Args:
            loop: The loop.
            items: How many; at most what `free` said before them.

        Raises:
            KeyboardInterrupt: If the run was asked to stop.
        """
        if loop is self._loops[-1]:
            self._step += items
            self.count += items
            self.boundary()

    def prepare(self, source: object) -> None:
        """A ticking loop over something is about to begin: where a resumed run has its position, it is put there."""

    def enter(self, loop: TickingLoop) -> None:
        """A loop begins; the one around it, if there is one, leaves its current item to it."""
        if self._loops:
            self._take_in(self._loops[-1])
            self._loops[-1].step_aside(for_good=False)
        self._loops.append(loop)

    def leave(self, loop: TickingLoop) -> None:
        """A loop has ended, or was left: what it has done is counted, and nothing is due by that."""
        self._take_in(loop)
        self._loops.remove(loop)

    def interrupt(self) -> None:
        """Something has become due: the innermost loop is to hand over its count after the current item."""
        if self._loops:
            self._loops[-1].interrupt()

    def free(self) -> int:
        """How many boundaries may be marked at once before something can be due; at least 1."""
        return sys.maxsize

    def boundary(self) -> None:
        """Does what is due at a boundary that was just counted."""

    def _take_in(self, loop: TickingLoop) -> None:
        items = loop.settle()
        self._step += items
        self.count += items
