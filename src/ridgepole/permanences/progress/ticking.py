"""Loops whose items are step boundaries, at a cost that a fast loop can bear.

Between two items no Python runs, as in any tracked loop. It runs between chunks of items: one item a chunk where items
are slow, more where they are fast, never across a checkpoint that is due after so many steps. A chunk that something
has become due in (Ctrl-C, a tick of the body's own, a loop inside) ends with its current item.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Generic, TypeVar

from ridgepole.permanences.progress.counting import Pass
from ridgepole.ticks import Ticks

T = TypeVar("T")

LONGEST_CHUNK = 64
"""Items between two counts at most: what a checkpoint by the clock may come late where a loop suddenly slows down."""

CHUNK_SECONDS = 0.001


class Chunked(Generic[T]):
    """A loop that ticks.

    Args:
        source: What is looped over.
        items: Its items, each of which `one` counts when it is handed out.
        one: The pass over them.
        ticks: What counts the boundaries of the run.
    """

    def __init__(self, source: object, items: Iterator[T], one: Pass, ticks: Ticks) -> None:
        self.source = source
        self._items = items
        self._pass = one
        self._ticks = ticks
        self._ticked = 0
        self._aside = self._aside_for_good = self._interrupted = False
        # An item is handed out for each entry. An iterator over a list looks at its length every time, so emptying
        # the list ends a chunk without losing an item, from a signal's handler too.
        self._allowed: list[Iterator[T]] = []

    def pending(self) -> int:
        """Items that are done and not counted yet."""
        return 0 if self._aside_for_good else max(0, self._pass.done() - self._ticked)

    def settle(self) -> int:
        """Hands over the items that are done and not counted yet."""
        items = self.pending()
        self._ticked += items
        return items

    def interrupt(self) -> None:
        """Ends the chunk with the current item."""
        self._interrupted = True
        self._allowed.clear()

    def step_aside(self, *, for_good: bool) -> None:
        """Leaves the current item, or all from it on, to ticks inside its body."""
        self._aside = True
        self._aside_for_good = self._aside_for_good or for_good
        self.interrupt()

    def chunks(self) -> Iterator[Iterator[T]]:
        """Iterators that hand out the items, chunk by chunk; marks the boundaries between them.

        Raises:
            KeyboardInterrupt: If the run was asked to stop.
        """
        ticks, allowed, size = self._ticks, self._allowed, 1
        ticks.enter(self)
        try:
            while True:
                self._interrupted = False
                allowed[:] = [self._items] * size
                del allowed[ticks.free() :]  # asked only now: what became due before the list was filled counts too
                wanted, began = len(allowed), time.perf_counter()
                yield map(next, allowed)
                if self._aside_for_good:
                    yield self._items
                    return
                done = self._pass.handed_out() - self._ticked
                self._ticked += done
                if self._aside:
                    self._aside, size = False, 1
                elif done:
                    size = min(LONGEST_CHUNK, 2 * size) if time.perf_counter() - began < CHUNK_SECONDS / 2 else 1
                    self._mark(done)
                if done < wanted and not self._interrupted:
                    return
        finally:
            ticks.leave(self)

    def _mark(self, done: int) -> None:
        try:
            self._ticks.done(self, done)
        except BaseException:
            self._pass.whole = True  # a stop is obeyed after the step: the item is done
            raise
