"""The running process as checkpoints see it, and the outcome of each process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ridgepole.checkpoint.codec.encode import encode_state
from ridgepole.data.positions import Position
from ridgepole.data.protocol import Resumable
from ridgepole.data.ranges import Ranges, check_within, show, without
from ridgepole.data.sources import position_of
from ridgepole.errors import StateError, text_of
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
    its own, it restores itself; the loops that it was in the middle of are restored, too. Without,
    its `execute` runs again from the top, which gives the same result only if all its steps are
    items of one source whose position can be stored, or between two items of its only outer loop,
    over a `range`.

    Args:
        process: The process.
        ticks: Counts the run's steps.
        loaders: The positions of the loops that it was in the middle of, the innermost last.
        restore_rng: Restores the random generators; called right before the loop continues.
        replays: Whether its loop over a `range` may be resumed between two items.
        kept: The variables that keep this loop from being resumed between two items.
        left_out: The ranges of batches that the loop which continues, or else the first one over
            data, leaves out.
        extended: Whether it had ended, and is given more to do.
    """

    def __init__(
        self,
        process: object,
        ticks: CheckpointScheduler,
        loaders: Sequence[Mapping[str, Any]] = (),
        restore_rng: Callable[[], None] | None = None,
        *,
        replays: bool = False,
        kept: Sequence[str] = (),
        left_out: Ranges = (),
        extended: bool = False,
    ) -> None:
        self.process = process
        self._ticks = ticks
        self._waiting = list(loaders)
        self._restore_rng = restore_rng
        self._replays = replays
        self.kept = kept
        self._left_out = left_out
        self._extended_at = ticks.step if extended else None
        self._positions: list[Position] = []  # the latest one of each source
        self._begun = 0
        self._outer: list[object] = []
        self._without_position: object = None
        ticks.outside = ticks.lacks_boundary = False
        ticks.times.pause()
        ticks.on_prepare = self.prepare

    def prepare(self, source: Iterable[Any]) -> tuple[Iterable[Any], int]:
        """Restore the position of a source before a ticking loop over it begins.

        Returns:
            What to loop over, and how many items of the source come before it.

        Raises:
            ValueError: If it is not the source that was stored, or has no such batches to leave
                out.
        """
        if not self._ticks.loops:
            self._outer.append(source)
        position = position_of(source)
        if isinstance(position, str):
            self._without_position = source
            if isinstance(source, range):
                return self._begin_range(source)
            return without(source, 0, self._take_left_out(source)), 0
        others = [each for each in self._positions if each.source is not source]
        if len(others) == len(self._positions) or not self._waiting:
            self._begun += 1
        self._positions = [*others, position]
        if not self._waiting or not position.fits(self._waiting[0]):
            return position.begin(self._take_left_out(source)), position.start
        stored = self._waiting.pop(0)
        items = position.resume(stored, self._take_left_out(source))
        self._go_on()
        return items, position.start

    def _take_left_out(self, source: object) -> Ranges:
        """Return the ranges that a loop over data leaves out, if it is the one that continues."""
        if self._waiting or not self._left_out:
            return ()
        check_within(self._left_out, source)
        left_out, self._left_out = self._left_out, ()
        return left_out

    def _begin_range(self, source: range) -> tuple[Iterable[Any], int]:
        if not self._waiting or "range" not in self._waiting[0]:
            return source, 0
        state = self._waiting.pop(0)
        done = int(state["done"])
        if [source.start, source.step] != state["range"]:
            raise ValueError(f"the run was stored after {done} items of another range than {source}")
        if done > len(source):
            raise ValueError(f"{done} items of the loop were done already, and {source} has only {len(source)}")
        self._go_on()
        return source[done:], done

    def _go_on(self) -> None:
        if not self._waiting and self._restore_rng is not None:
            self._restore_rng()

    def place(self) -> int | None:
        """Return how many items the innermost loop has passed; None without a position."""
        for loop in self._ticks.loops[-1:]:
            for position in self._positions:
                if position.source is loop.source:
                    return position.done(loop.handed_out() - position.start)
        return None

    def not_taken_up(self) -> Iterator[str]:
        """Yield what no loop of the process has taken up, a line each; call it at its end."""
        if self._waiting:
            yield "no loop took up the stored position: the process has no loop over the same source any more"
        if self._extended_at == self._ticks.step:
            yield "the process had ended, and what has changed gave it nothing more to do"
        if self._left_out:
            yield f"batches {show(self._left_out)} were not left out: the process had no loop over data that ticks"

    def close(self) -> None:
        """End the process."""
        self._ticks.on_prepare = lambda source: (source, 0)
        self._ticks.lacks_boundary = False

    def capture(self) -> tuple[dict[str, Any], str]:
        """Return the state to store, and why the process can't be resumed from there, or ""."""
        inside = [loop.source for loop in self._ticks.loops]
        positions = [
            (loop, position)
            for loop in self._ticks.loops
            for position in self._positions
            if position.source is loop.source
        ]
        obstacle = self._obstacle(inside, len(positions))
        states: list[dict[str, Any]] = []
        for loop, position in positions:
            try:
                state = position.state_dict(loop.handed_out() - position.start)
                encode_state({type(position.source).__name__: state})
            except Exception as error:  # noqa: BLE001 - of the source's own code, or a value that can't be stored
                text = text_of(error) if isinstance(error, StateError) else f"{type(error).__name__}: {text_of(error)}"
                obstacle = obstacle or f"its position can't be stored: {text}"
            else:
                states.append(state)
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
        if self._without_position is None and isinstance(outer, Resumable):
            return {"state": None, "loaders": [outer.state_dict()]}
        return None

    def _obstacle(self, inside: Sequence[object], positions: int) -> str:
        """Return why running `execute` again from the top does not come to where it is now."""
        if is_stateful(self.process) or self._is_between(inside):
            return ""
        if self._ticks.outside:
            return "it ticks outside of track(..., tick=True)"
        if self.kept and len(self._outer) == 1 and inside and isinstance(inside[0], range):
            return f"its loop uses {', '.join(self.kept)}, which no checkpoint holds"
        other = inside[-1] if len(inside) > 1 else self._without_position
        reason = "" if other is None else position_of(other)
        if isinstance(reason, str) and reason:
            return reason
        if len(inside) > 1:
            return "it is in the middle of an item of its outer loop"
        if self._begun > 1:
            return "it loops over several loaders"
        return "" if positions == 1 else "it is behind its loop"

    def _is_between(self, inside: Sequence[object]) -> bool:
        """Return whether it is between two items of its only outer loop, over a `range`."""
        return (
            self._replays
            and len(inside) == len(self._outer) == 1
            and isinstance(inside[0], range)
            and not self._ticks.outside
        )
