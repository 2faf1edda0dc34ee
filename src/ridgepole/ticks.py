"""Count the steps of a run, one by one or several at a time by a loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, MutableSequence
from typing import Any, Final, Protocol

from ridgepole.steptimes import Snapshot, StepTimes

COUNT, STEP, FIRST, PAUSES, ASKS = range(5)
BEAT_NUMBERS: Final = 5
"""The places of the numbers by which another process sees how a run moves.

COUNT: steps that were counted; negative where no stall counts, as outside of a loop.
STEP: the number of the step.
FIRST: steps that were counted when the process of the pipeline began.
PAUSES: grows when a checkpoint begins and when it ends, so it is odd meanwhile.
ASKS: grows when the other process asks for a checkpoint.
"""


class TickingLoop(Protocol):
    """A loop whose items are steps, and which counts several of them at a time.

    Attributes:
        source: The iterable of the loop.
    """

    source: object

    def handed_out(self) -> int:
        """Return the number of the current item, from 1 on; items that were left out count."""
        ...

    def pending(self) -> int:
        """Return how many items are done but not counted; the one whose body runs is not done."""
        ...

    def take_pending(self) -> int:
        """Return `pending()`, and regard these items as counted."""
        ...

    def interrupt(self) -> None:
        """Ask for the count right after the current item. May be called from a signal handler."""
        ...

    def begun(self) -> int:
        """Return how many steps have begun and are not counted; 0 while a loop inside counts."""
        ...

    def suspend_counting(self, *, for_good: bool) -> None:
        """Leave the current item (or all from it on) to ticks that are made inside its body."""
        ...


class Ticks:
    """Counts the steps of a run. In this class nothing is ever due.

    Attributes:
        count: Steps that have been counted; unlike `step` it only grows.
        outside: Whether a step was marked outside of any ticking loop since this was last set to
            False.
        times: Where the time of the steps goes.
        beat: The numbers that another process may read, see `COUNT`.
    """

    def __init__(self) -> None:
        self.count = 0
        self.beat: MutableSequence[int] = [0] * BEAT_NUMBERS
        self._call_at = sys.maxsize
        self._call: Callable[[], object] = lambda: None
        self.outside = False
        self.times = StepTimes()
        self._entered = 0
        self._step = 0
        self._loops: list[TickingLoop] = []

    @property
    def step(self) -> int:
        """Return the step, also inside a loop that has not handed over its count."""
        innermost = self._loops[-1:]  # another thread may ask while the last loop ends
        return self._step + (innermost[0].pending() if innermost else 0)

    @property
    def loops(self) -> list[TickingLoop]:
        """Return the running ticking loops, the innermost last."""
        return self._loops

    @property
    def begun(self) -> int:
        """Return a number that changes where a step begins: with a loop's item, or after `tick`.

        After the last item of a loop it stays, so that what follows belongs to the step of it.
        """
        for innermost in self._loops[-1:]:
            return self.count + innermost.begun()
        return self.count

    def tick(self, step: int | None = None) -> None:
        """Mark the end of one step.

        Args:
            step: Sets the step; None adds one.

        Raises:
            KeyboardInterrupt: If the run was asked to stop.
        """
        if self._loops:  # the process ticks by itself: from here on the loop around it does not
            self._count_pending(self._loops[-1])
            self._loops[-1].suspend_counting(for_good=True)
        else:
            self.outside = True
            self.times.step_by_hand()
        self._step = self._step + 1 if step is None else step
        self.count += 1
        beat = self.beat
        beat[COUNT], beat[STEP] = self.count, self._step
        if self.count >= self._call_at:
            self._call_now()
        self.on_step()

    def done(self, loop: TickingLoop, items: int) -> None:
        """Mark the ends of steps of a loop, unless it has another ticking loop inside.

        Args:
            loop: The loop.
            items: How many; at most what `steps_ahead` returned before them.

        Raises:
            KeyboardInterrupt: If the run was asked to stop.
        """
        if loop is self._loops[-1]:
            self._step += items
            self.count += items
            beat = self.beat
            beat[COUNT], beat[STEP] = self.count, self._step
            if self.count >= self._call_at:
                self._call_now()
            self.on_step()

    def prepare(self, source: Iterable[Any]) -> tuple[Iterable[Any], int]:
        """Restore the position of a loop's source, if the run was resumed in the middle of it.

        Returns:
            What to loop over, and how many items of the source come before it.
        """
        return source, 0

    def between_items(self, loop: TickingLoop) -> None:
        """Act between two items of a loop whose steps were counted by a loop inside."""

    def enter(self, loop: TickingLoop) -> None:
        """Begin a loop; the one around it, if there is one, leaves its current item to it."""
        if self._loops:
            self._count_pending(self._loops[-1])
            self._loops[-1].suspend_counting(for_good=False)
        else:
            self._entered = self.count
            self.times.begin()
        self._loops.append(loop)
        self.beat[COUNT] = self.count

    def leave(self, loop: TickingLoop) -> None:
        """End a loop: its items are counted, without acting on them."""
        self._count_pending(loop)
        self._loops.remove(loop)
        if not self._loops:
            self.times.end(self.count - self._entered)
        self.rest()

    def spent(self) -> Snapshot:
        """Return where the time of the steps went up to now; may be called from any thread."""
        return self.times.snapshot(self.count - self._entered if self._loops else 0)

    def call_after(self, steps: int, call: Callable[[], object]) -> None:
        """Call a function once, when so many more steps have been counted."""
        self._call_at, self._call = self.count + steps, call

    def _call_now(self) -> None:
        self._call_at = sys.maxsize
        self._call()

    def rest(self) -> None:
        """Let no stall count until the next step, or the next loop."""
        self.beat[COUNT] = -self.count

    def begin_process(self) -> None:
        """Begin to count the steps of another process of the pipeline."""
        self.rest()
        self.beat[FIRST], self.beat[STEP] = self.count, self._step

    def interrupt(self) -> None:
        """Ask the innermost loop for its count after the current item: something is due."""
        if self._loops:
            self._loops[-1].interrupt()

    def steps_ahead(self) -> int:
        """Return how many steps may be counted at once before something can be due; at least 1."""
        return sys.maxsize

    def on_step(self) -> None:
        """Act on a step that was just counted."""

    def _count_pending(self, loop: TickingLoop) -> None:
        items = loop.take_pending()
        self._step += items
        self.count += items
