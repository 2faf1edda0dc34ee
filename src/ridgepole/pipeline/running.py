"""The process that runs, as far as a checkpoint and a resume concern it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeGuard

from ridgepole.loading.protocol import Resumable
from ridgepole.pipeline.due import DueTicks


class Stateful(Protocol):
    """PyTorch's own protocol of what a checkpoint can hold."""

    def state_dict(self) -> Any:
        """What to store."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """Goes on from what was stored."""
        ...


def is_stateful(value: object) -> TypeGuard[Stateful]:
    """Whether a checkpoint can hold an object's state and a resume can give it back."""
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


class Running:
    """One process, and the loaders that it loops over with `track(..., tick=True)`.

    A process can go on in the middle in two ways. With `state_dict` and `load_state_dict` of its own, it sees to that
    itself; loaders that it was in the middle of are put back where they were. Without, its `execute` runs again from
    the top, which comes to the same only where all its steps are items of one loader.

    Args:
        process: The process.
        ticks: What counts the run's step boundaries.
        state: What was stored of it, where it is resumed.
        loaders: Where the loaders were that it was in the middle of, the innermost last.
        put_back: Puts the random generators where they were; called right before the loop goes on.
    """

    def __init__(
        self,
        process: object,
        ticks: DueTicks,
        loaders: Sequence[Mapping[str, Any]] = (),
        put_back: Callable[[], None] | None = None,
    ) -> None:
        self.process = process
        self._ticks = ticks
        self._waiting = list(loaders)
        self._put_back = put_back
        self._loaders: list[Resumable] = []
        self._elsewhere = False
        ticks.outside = False
        ticks.on_prepare = self.prepare

    def prepare(self, source: object) -> None:
        """A ticking loop is about to begin; a loader is put where it was.

        Raises:
            ValueError: If the loader is not the one that was stored.
        """
        if not isinstance(source, Resumable):
            self._elsewhere = True
            return
        if all(source is not known for known in self._loaders) or not self._waiting:
            self._loaders.append(source)
        if self._waiting:
            source.load_state_dict(self._waiting.pop(0))
            if not self._waiting and self._put_back is not None:
                self._put_back()

    def close(self) -> None:
        """The process has ended."""
        self._ticks.on_prepare = lambda _source: None

    def capture(self) -> tuple[dict[str, Any], bool]:
        """What to store of it, and whether it can go on from there.

        Raises:
            Exception: What its `state_dict` raised.
        """
        loaders = [source for source in self._ticks.sources if any(source is known for known in self._loaders)]
        state = {
            "state": self.process.state_dict() if is_stateful(self.process) else None,
            "loaders": [loader.state_dict() for loader in loaders if isinstance(loader, Resumable)] + self._waiting,
        }
        return state, is_stateful(self.process) or self._can_replay(loaders)

    def _can_replay(self, inside: Sequence[object]) -> bool:
        """Whether running `execute` again from the top comes to where it is now."""
        return len(inside) == len(self._loaders) == 1 and not self._elsewhere and not self._ticks.outside
