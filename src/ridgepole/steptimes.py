"""Measure where the time of a run's steps goes: data, logging, checkpoints, other ranks, code."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

Part = Literal["data", "logging", "checkpoints", "ranks"]
"""The waits of a step; the rest of its time is the user's code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSource:
    """The source of a loop that ticks, as far as it says what it is.

    Attributes:
        kind: The name of its type.
        num_workers: Processes that load its batches; None where it does not say.
        batch_size: Items of a batch; 1 where it does not say.
        units: How many of a unit, such as tokens, one item has.
        flops_per_item: Floating-point operations of training one item; 0 if unknown.
    """

    kind: str
    num_workers: int | None = None
    batch_size: int = 1
    units: Mapping[str, float] = field(default_factory=dict)
    flops_per_item: float = 0.0


def describe_source(source: object, units: Mapping[str, float] | None, flops_per_item: float) -> LoopSource:
    """Describe the source of a loop, such as torch's `DataLoader`."""
    workers, size = (getattr(source, name, None) for name in ("num_workers", "batch_size"))
    return LoopSource(
        kind=type(source).__name__,
        num_workers=workers if type(workers) is int else None,
        batch_size=size if type(size) is int and size > 0 else 1,
        units=dict(units or {}),
        flops_per_item=flops_per_item,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The sums at one moment, in seconds.

    Attributes:
        seconds: Time inside of steps.
        steps: Number of steps.
        items: Items of the loops, batches times their size.
        parts: What the steps waited for.
    """

    seconds: float = 0.0
    steps: int = 0
    items: int = 0
    parts: Mapping[Part, float] = field(default_factory=dict)

    def since(self, before: Snapshot) -> Snapshot:
        """Return what was added after an earlier snapshot."""
        return Snapshot(
            seconds=self.seconds - before.seconds,
            steps=self.steps - before.steps,
            items=self.items - before.items,
            parts={part: took - before.parts.get(part, 0.0) for part, took in self.parts.items()},
        )


class StepTimes:
    """Sums of a run's step times. One thread makes the steps; others may take snapshots.

    Attributes:
        source: The source of the latest loop that ticks; None before any.
    """

    __slots__ = ("_by_hand", "_items", "_part", "_parts", "_seconds", "_since", "_steps", "_thread", "source")

    def __init__(self) -> None:
        self.source: LoopSource | None = None
        self._parts: dict[Part, float] = {"data": 0.0, "logging": 0.0, "checkpoints": 0.0, "ranks": 0.0}
        self._seconds = 0.0
        self._steps = self._items = 0
        self._since: float | None = None
        self._by_hand = False
        self._part: Part | None = None
        self._thread = threading.get_ident()

    def begin(self) -> None:
        """Begin an outermost loop."""
        self._thread = threading.get_ident()
        self._by_hand = False
        if self._since is None:
            self._since = perf_counter()

    def end(self, steps: int) -> None:
        """End the outermost loop, or what was ticked by hand."""
        since, self._since = self._since, None
        self._steps += steps
        if since is not None:
            self._seconds += perf_counter() - since

    def step_by_hand(self) -> None:
        """End a step outside of any loop. The first one only begins the next."""
        now = perf_counter()
        if self._since is not None and self._by_hand:
            self._seconds += now - self._since
            self._steps += 1
            self._items += 1 if self.source is None else self.source.batch_size
        else:
            self._thread = threading.get_ident()
        self._since, self._by_hand = now, True

    def pause(self) -> None:
        """Forget the step that was begun by hand: what follows belongs to no step."""
        if self._by_hand:
            self._since, self._by_hand = None, False

    def add_items(self, items: int) -> None:
        """Count items of a loop."""
        self._items += items

    def waited(self, seconds: float) -> None:
        """Add time that this thread waited for data."""
        if self._part is None and self._since is not None and threading.get_ident() == self._thread:
            self._parts["data"] += seconds

    def spent(self, part: Part, weight: int = 1) -> SpentBlock:
        """Add the time of a `with` block to a part, if it is in a step and not inside another part.

        Args:
            part: The part.
            weight: How many such blocks this one stands for.
        """
        return SpentBlock(self, part, weight)

    def open(self, part: Part) -> bool:
        """Begin a part; return False inside another one, outside of steps or on another thread."""
        if self._part is not None or self._since is None or threading.get_ident() != self._thread:
            return False
        self._part = part
        return True

    def close(self, part: Part, seconds: float) -> None:
        """End the part that `open` began."""
        self._part = None
        self._parts[part] += seconds

    def snapshot(self, pending: int = 0) -> Snapshot:
        """Return the sums up to now.

        Args:
            pending: Steps of the running loop.
        """
        since = self._since
        running = 0.0 if since is None else perf_counter() - since
        return Snapshot(
            seconds=self._seconds + running, steps=self._steps + pending, items=self._items, parts=dict(self._parts)
        )


class SpentBlock:
    """The block of `StepTimes.spent`; a class, as a generator costs more than a log call."""

    __slots__ = ("_began", "_part", "_times", "_weight")

    def __init__(self, times: StepTimes, part: Part, weight: int) -> None:
        self._times, self._part, self._weight = times, part, weight
        self._began: float | None = None

    def __enter__(self) -> None:
        if self._times.open(self._part):
            self._began = perf_counter()

    def __exit__(self, *error: object) -> None:
        if self._began is not None:
            self._times.close(self._part, self._weight * (perf_counter() - self._began))
