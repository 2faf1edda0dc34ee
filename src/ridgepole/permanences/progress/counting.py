"""Counting without running Python for each item: how many items a `repeat` has let through, and what a task adds up."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import repeat
from operator import length_hint
from typing import Any


class Pass:
    """One pass over an iterable.

    Attributes:
        left: The selectors of `compress`; each item that is handed out takes one.
        whole: Whether the item handed out last is done too, not only the ones before it.
    """

    __slots__ = ("left", "whole")

    def __init__(self) -> None:
        self.left = repeat(True, sys.maxsize)
        self.whole = False

    def handed_out(self) -> int:
        """Items that were handed out, the current one included."""
        return sys.maxsize - length_hint(self.left)

    def done(self) -> int:
        """Items whose body has been run: all that were handed out but the current one."""
        handed_out = self.handed_out()
        return handed_out if self.whole else max(0, handed_out - 1)


class Counter:
    """How far something is: what passes counted, plus what was added by hand.

    `extra` is for the hot path: `counter.extra += step` is all that an explicit advance does. Base and pass are
    replaced together, so that a reader on another thread never sees an item twice.
    """

    extra: float = 0
    _state: tuple[float, Pass | None] = (0, None)

    @property
    def completed(self) -> float:
        """Steps done so far."""
        base, one = self._state
        return base + self.extra + (one.done() if one is not None else 0)

    @completed.setter
    def completed(self, value: float) -> None:
        one = self._state[1]
        self._state = (value - self.extra - (one.done() if one is not None else 0), one)

    @property
    def running(self) -> bool:
        """Whether a pass is going on."""
        return self._state[1] is not None

    def begin(self, one: Pass, base: float) -> None:
        """Starts a pass at a count of `base`."""
        self.extra = 0
        self._state = (base, one)

    def end(self, one: Pass, exhausted: bool) -> bool:
        """Ends a pass; False where it had ended before or another one has taken its place."""
        base, current = self._state
        if current is not one:
            return False
        one.whole = one.whole or exhausted
        self._state = (base + one.done(), None)
        return True

    def note(self, values: Mapping[str, Any]) -> None:
        """Takes values to show beside the count; here they are shown nowhere."""
