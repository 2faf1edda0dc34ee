"""What something to loop over needs, so that a run can store how far the loop is and go on there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Resumable(Protocol):
    """An iterable that knows its position, such as `ResumableLoader`; any class with these members is one."""

    @property
    def cursor(self) -> int:
        """Items handed out since the very start; while the body of an item runs, that item is counted."""
        ...

    @property
    def start(self) -> int:
        """How many items the next iteration leaves out: 0, unless a state was loaded since the last began."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Begins at `start`."""
        ...

    def __len__(self) -> int:
        """All items, those left out included."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The position, and what it depends on, as plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets the next iteration begin where the state was taken."""
        ...
