"""The position of a loop, by the kind of its source."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ridgepole.data.loader import ResumableLoader
from ridgepole.data.positions import LEFT_OUT, Position, check_ranks, has_state
from ridgepole.data.protocol import Resumable
from ridgepole.data.ranges import ahead, without
from ridgepole.launch import place


class CursorPosition(Position):
    """The position in a `ResumableLoader`, or a class like it: the source knows it by itself."""

    def fits(self, stored: Mapping[str, Any]) -> bool:
        """Tell whether a stored position is that of a source of this kind."""
        return "kind" not in stored and "range" not in stored

    def _begin(self) -> Iterable[Any]:
        self.start = self.source.start
        if ahead(self.left_out, self.start) and self._skips:
            self.source.load_state_dict({**self.source.state_dict(), LEFT_OUT: self.left_out})
        return self._items()

    def _resume(self, stored: Mapping[str, Any]) -> Iterable[Any]:
        more = {LEFT_OUT: self.left_out} if self.left_out and self._skips else {}
        self.source.load_state_dict({**stored, **more})
        self.start = self.source.start
        return self._items()

    def _items(self) -> Iterable[Any]:
        items: Iterable[Any] = self.source
        return items if self._skips else without(items, self.start, self.left_out)

    @property
    def _skips(self) -> bool:
        """Return whether the source leaves ranges out by itself, and does not fetch them."""
        return isinstance(self.source, ResumableLoader)

    def _state(self, done: int) -> dict[str, Any]:  # noqa: ARG002 - the source knows it
        state: dict[str, Any] = self.source.state_dict()
        return state


class StatefulPosition(Position):
    """The position in an iterable with `state_dict` and `load_state_dict`.

    Args:
        source: What the loop is over.
        holder: The object with the two methods: the source, or the data set of a DataLoader.
    """

    def __init__(self, source: Any, holder: Any) -> None:
        super().__init__(source)
        self._holder = holder

    @property
    def _kind(self) -> str:
        return f"state of a {type(self._holder).__name__}"

    def fits(self, stored: Mapping[str, Any]) -> bool:
        """Tell whether a stored position is that of a source of this kind."""
        return stored.get("kind") == self._kind

    def _begin(self) -> Iterable[Any]:
        return without(self.source, 0, self.left_out)

    def _resume(self, stored: Mapping[str, Any]) -> Iterable[Any]:
        check_ranks(stored, self.source)
        self._holder.load_state_dict(stored["state"])
        return without(iter(self.source), self.start, self.left_out)

    def _state(self, done: int) -> dict[str, Any]:
        return {"kind": self._kind, "done": done, "ranks": place()[1], "state": self._holder.state_dict()}


def position_of(source: object) -> Position | str:
    """Return the position of a loop that begins over a source, or why it has none to store."""
    if isinstance(source, Resumable):
        return CursorPosition(source)
    torch = sys.modules.get("torch")
    if has_state(source) and not (torch is not None and isinstance(source, torch.nn.Module)):
        return StatefulPosition(source, source)
    if torch is not None and isinstance(source, torch.utils.data.DataLoader):
        from ridgepole.data.replay import ReplayPosition, obstacle_of

        streams = isinstance(source.dataset, torch.utils.data.IterableDataset)
        if streams and has_state(source.dataset) and not source.num_workers:
            return StatefulPosition(source, source.dataset)
        reason = obstacle_of(source)
        return ReplayPosition(source) if not reason else f"it loops over a {type(source).__name__} {reason}"
    return f"it loops over a {type(source).__name__}, which has no position to store"
