"""The running process as checkpoints see it, and the outcome of each process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ridgepole.data.protocol import Resumable
from ridgepole.pipeline.lifecycle.scheduler import CheckpointScheduler
from ridgepole.pipeline.spec.plan import is_stateful


@dataclass(slots=True)
class ProcessOutcome:
    """The outcome of one process.

    Attributes:
        name: Its name.
        status: `"pending"` until it ran.
        seconds: Wall time that it took, its construction included.
        reason: Why it was skipped, if it gave a reason; the run that did it, if it was cached.
        fingerprint: What it depends on, in pipelines with a cached process: equal if it would
            compute the same.
    """

    name: str
    status: Literal["pending", "running", "done", "skipped", "cached", "failed"] = "pending"
    seconds: float = 0.0
    reason: str = ""
    fingerprint: str = ""


class ProcessRun:
    """One process, and the loops that it ticks with, `track(..., tick=True)`.

    A process can be resumed in the middle in three ways. With `state_dict` and `load_state_dict` of
    its own, it restores itself; loaders that it was in the middle of are restored, too. Without,
    its `execute` runs again from the top, which gives the same result only if all its steps are
    items of one loader that can be resumed, or between two items of its only outer loop, over a
    `range`.

    Args:
        process: The process.
        ticks: Counts the run's steps.
        loaders: The states of the loops that it was in the middle of, the innermost last.
        restore_rng: Restores the random generators; called right before the loop continues.
        replays: Whether its loop over a `range` may be resumed between two items.
    """

    def __init__(
        self,
        process: object,
        ticks: CheckpointScheduler,
        loaders: Sequence[Mapping[str, Any]] = (),
        restore_rng: Callable[[], None] | None = None,
        *,
        replays: bool = False,
    ) -> None:
        self.process = process
        self._ticks = ticks
        self._waiting = list(loaders)
        self._restore_rng = restore_rng
        self._replays = replays
        self._loaders: list[Resumable] = []
        self._outer: list[object] = []
        self._other: object = None
        ticks.outside = ticks.lacks_boundary = False
        ticks.times.pause()
        ticks.on_prepare = self.prepare

    def prepare(self, source: object) -> int:
        """Restore the position of a source before a ticking loop over it begins.

        Returns:
            How many items of a `range` to leave out.

        Raises:
            ValueError: If it is not the source that was stored.
        """
        if not self._ticks.loops:
            self._outer.append(source)
        if not isinstance(source, Resumable):
            self._other = source
            if isinstance(source, range) and self._waiting and "range" in self._waiting[0]:
                return self._skip(source, self._waiting.pop(0))
            return 0
        if all(source is not known for known in self._loaders) or not self._waiting:
            self._loaders.append(source)
        if self._waiting:
            source.load_state_dict(self._waiting.pop(0))
            self._go_on()
        return 0

    def _skip(self, source: range, state: Mapping[str, Any]) -> int:
        done = int(state["done"])
        if [source.start, source.step] != state["range"] or done > len(source):
            raise ValueError(f"the run was stored after {done} items of another range than {source}")
        self._go_on()
        return done

    def _go_on(self) -> None:
        if not self._waiting and self._restore_rng is not None:
            self._restore_rng()

    def close(self) -> None:
        """End the process."""
        self._ticks.on_prepare = lambda _source: 0
        self._ticks.lacks_boundary = False

    def capture(self) -> tuple[dict[str, Any], str]:
        """Return the state to store, and why the process can't be resumed from there, or ""."""
        inside = [loop.source for loop in self._ticks.loops]
        loaders = [source for source in inside if any(source is known for known in self._loaders)]
        states = [loader.state_dict() for loader in loaders if isinstance(loader, Resumable)]
        obstacle = self._obstacle(inside, loaders)
        if not obstacle and not is_stateful(self.process) and isinstance(inside[0], range):
            outer = inside[0]
            states = [{"range": [outer.start, outer.step], "done": self._ticks.loops[0].handed_out()}]
        state = {
            "state": self.process.state_dict() if is_stateful(self.process) else None,
            "loaders": states + self._waiting,
        }
        self._ticks.lacks_boundary = bool(obstacle) and len(inside) > 1 and self._is_between(inside[:1])
        return state, obstacle

    def capture_end(self) -> dict[str, Any] | None:
        """Return the state at the end of the process, from which more of it could run.

        None if `execute` from the top would not continue there, or the state can't be told.
        """
        if is_stateful(self.process):
            try:
                return {"state": self.process.state_dict(), "loaders": []}
            except Exception:  # noqa: BLE001 - what it is made of may be gone; only a fork would need it
                return None
        if self._ticks.outside or len(self._outer) != 1:
            return None
        (outer,) = self._outer
        if isinstance(outer, range):
            whole = {"range": [outer.start, outer.step], "done": len(outer)}
            return {"state": None, "loaders": [whole]} if self._replays else None
        if self._other is None and isinstance(outer, Resumable):
            return {"state": None, "loaders": [outer.state_dict()]}
        return None

    def _obstacle(self, inside: Sequence[object], loaders: Sequence[object]) -> str:
        """Return why running `execute` again from the top does not come to where it is now."""
        if is_stateful(self.process) or self._is_between(inside):
            return ""
        if self._ticks.outside:
            return "it ticks outside of track(..., tick=True)"
        if len(inside) > 1 and isinstance(inside[-1], Resumable):
            return "it is in the middle of an item of its outer loop"
        other = inside[-1] if len(inside) > 1 else self._other
        if other is not None:
            return f"it loops over a {type(other).__name__}, which has no position to store"
        if len(self._loaders) > 1:
            return "it loops over several loaders"
        return "" if len(loaders) == 1 else "it is behind its loop"

    def _is_between(self, inside: Sequence[object]) -> bool:
        """Return whether it is between two items of its only outer loop, over a `range`."""
        return (
            self._replays
            and len(inside) == len(self._outer) == 1
            and isinstance(inside[0], range)
            and not self._ticks.outside
        )
