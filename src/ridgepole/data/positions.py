"""The position of a loop in its source: what is stored of it, and how a resume returns there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from ridgepole.data.ranges import Ranges, ahead, merged, passed
from ridgepole.launch import place

LEFT_OUT = "leave_out"
"""The key under which a stored position has the ranges that are still to be left out."""


class Position(ABC):
    """The position of one loop.

    Args:
        source: What the loop is over.

    Attributes:
        source: As given.
        start: Items of the source that earlier attempts have passed.
        left_out: The ranges of items that the loop leaves out.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        self.start = 0
        self.left_out: Ranges = ()

    def begin(self, left_out: Ranges) -> Iterable[Any]:
        """Return what to loop over, from the start of the source.

        Args:
            left_out: The ranges to leave out.
        """
        self.left_out = left_out
        return self._begin()

    def resume(self, stored: Mapping[str, Any], left_out: Ranges) -> Iterable[Any]:
        """Return what to loop over, from a stored position.

        Its iterator is made here where making one draws random numbers.

        Args:
            stored: What `state_dict` has returned.
            left_out: Further ranges to leave out.

        Raises:
            ValueError: If it is the position of another source.
        """
        own = {key: value for key, value in stored.items() if key != LEFT_OUT}
        self.left_out = merged(stored.get(LEFT_OUT, ()), left_out)
        self.start = done_in(stored)
        return self._resume(own)

    def done(self, handed_out: int) -> int:
        """Return how many items are passed, if the loop has handed out so many."""
        return passed(self.start, handed_out, self.left_out)

    def state_dict(self, handed_out: int) -> dict[str, Any]:
        """Return what to store, if the loop has handed out so many items.

        Raises:
            Exception: An error of the source's own `state_dict`.
        """
        done = self.done(handed_out)
        left = ahead(self.left_out, done)
        return self._state(done) | ({LEFT_OUT: [list(each) for each in left]} if left else {})

    @abstractmethod
    def fits(self, stored: Mapping[str, Any]) -> bool:
        """Tell whether a stored position is that of a source of this kind."""

    @abstractmethod
    def _begin(self) -> Iterable[Any]: ...

    @abstractmethod
    def _resume(self, stored: Mapping[str, Any]) -> Iterable[Any]: ...

    @abstractmethod
    def _state(self, done: int) -> dict[str, Any]: ...


def check_ranks(stored: Mapping[str, Any], source: object) -> None:
    """Check that a position was stored by as many ranks as there are.

    Raises:
        ValueError: If not.
    """
    before, now = int(stored["ranks"]), place()[1]
    if before != now:
        raise ValueError(
            f"the position in a {type(source).__name__} was stored by {before} ranks, and there are {now}: start "
            f"{before} again, or loop over a ResumableLoader with global_batch"
        )


def done_in(stored: Mapping[str, Any]) -> int:
    """Return how many items are passed at a stored position."""
    return int(stored["cursor"] if "cursor" in stored else stored.get("done", 0))


def has_state(source: object) -> bool:
    """Tell whether an object has `state_dict` and `load_state_dict`."""
    return all(callable(getattr(source, hook, None)) for hook in ("state_dict", "load_state_dict"))
