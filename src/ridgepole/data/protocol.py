"""The protocol of an iterable whose position a run can store and resume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Resumable(Protocol):
    """An iterable that knows its position, such as `ResumableLoader`, or any class like this."""

    @property
    def cursor(self) -> int:
        """Count the items handed out since the very start, including the current item."""
        ...

    @property
    def start(self) -> int:
        """Return how many items the next iteration skips: 0, unless a state was loaded."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Begin at `start`."""
        ...

    def __len__(self) -> int:
        """Return the number of all items, including skipped ones."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the position, and all it depends on, as plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin the next iteration where the state was taken."""
        ...
