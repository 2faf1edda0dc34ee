"""Iterables that are tracked, without running Python for each item.

`chain(compress(items, repeat(True, n)), end)` hands out the items from C. `repeat` loses one
element for each item; `length_hint` tells how many are left. `end` is asked for an item only when
the source is exhausted, and is deleted when the loop was left early: both ends are seen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, compress, islice, repeat
from operator import itemgetter, length_hint, sub
from typing import Any, Generic, Protocol, Self, TypeVar

from ridgepole.permanence import RunContext
from ridgepole.steptimes import describe_source
from ridgepole.ticks import Ticks

_NEVER_RAISE = (list, tuple, range, dict, set, frozenset, str, bytes)


class Iteration:
    """One pass over an iterable.

    Attributes:
        left: The selectors of `compress`; each item takes one.
        asked: The requests to a source that may raise or wait; each takes one, before the item.
        whole: Whether the last item is done too, not only the items before it.
    """

    __slots__ = ("asked", "left", "whole")

    def __init__(self) -> None:
        self.left = repeat(True, sys.maxsize)
        self.asked: repeat[bool] | None = None
        self.whole = False

    def items(self, source: Iterable[Any]) -> Iterator[Any]:
        """Return an iterator over a source that counts its items; `iter()` may raise."""
        if type(source) not in _NEVER_RAISE:
            self.asked = repeat(True, sys.maxsize)
            source = map(itemgetter(1), zip(self.asked, source, strict=False))
        return compress(source, self.left)

    def handed_out(self) -> int:
        """Count the items that were handed out, including the current one."""
        return sys.maxsize - length_hint(self.left)

    def done(self) -> int:
        """Count the items whose loop body has run: all except the current one."""
        handed_out = self.handed_out()
        if self.asked is not None and sys.maxsize - length_hint(self.asked) > handed_out:
            return handed_out  # the source works on the next item, or has raised there
        return handed_out if self.whole else max(0, handed_out - 1)


class Counter:
    """The progress of a task: the items of its iterations, plus explicit advances.

    `extra` is for the hot path: an explicit advance is `counter.extra += step` and nothing else.
    Base and iteration are replaced together, so that another thread never counts an item twice.
    """

    extra: float = 0
    _state: tuple[float, Iteration | None] = (0, None)

    @property
    def completed(self) -> float:
        """Return the steps done so far."""
        base, one = self._state
        return base + self.extra + (one.done() if one is not None else 0)

    @completed.setter
    def completed(self, value: float) -> None:
        one = self._state[1]
        self._state = (value - self.extra - (one.done() if one is not None else 0), one)

    @property
    def running(self) -> bool:
        """Tell whether an iteration is running."""
        return self._state[1] is not None

    def begin(self, one: Iteration, base: float) -> None:
        """Start an iteration at a count of `base`."""
        self.extra = 0
        self._state = (base, one)

    def end(self, one: Iteration, exhausted: bool) -> bool:
        """End an iteration; return False if it has already ended or was replaced by another."""
        base, current = self._state
        if current is not one:
            return False
        one.whole = one.whole or exhausted
        self._state = (base + one.done(), None)
        return True

    def note(self, values: Mapping[str, Any]) -> None:
        """Take values to show beside the count. This class does not show them."""

    def describe(self, description: str) -> None:
        """Change the text of the row. This class does not show it."""


T_ticking = TypeVar("T_ticking")

LONGEST_CHUNK = 64
"""The most items between two counts. If a loop slows down, a timed checkpoint can be this late."""

CHUNK_SECONDS = 0.001


class _Waits(Generic[T_ticking]):
    """Measures how long the source of a loop takes for its items, without Python for each item.

    `zip` asks its iterators in turn, from C: one of the clock, the source, one of the clock. A list
    or a range is not measured.

    Args:
        source: The source of the loop.
        items: The iterator over its items.
    """

    def __init__(self, source: object, items: Iterator[T_ticking]) -> None:
        self._begun: list[float] = []
        self._ended: list[float] = []
        self.first = self.next = items
        if type(source) not in _NEVER_RAISE:
            clock = iter(time.perf_counter, None)
            ended = map(self._ended.append, clock)
            # The first item of a chunk begins when the chunk does, whose time is known already.
            self.first = map(itemgetter(0), zip(items, ended, strict=False))
            begun = map(self._begun.append, clock)
            self.next = map(itemgetter(1), zip(begun, items, ended, strict=False))

    def take(self, began: float) -> float:
        """Return the seconds of waiting in a chunk that began at a time, and forget them."""
        if not self._ended:
            return 0.0
        seconds: float = sum(map(sub, self._ended, [began, *self._begun]))
        self._begun.clear()
        self._ended.clear()
        return seconds


class ChunkedIterator(Generic[T_ticking]):
    """A loop that ticks after each window of items; the last one may be shorter."""

    def __init__(
        self,
        source: object,
        items: Iterator[T_ticking],
        iteration: Iteration,
        ticks: Ticks,
        *,
        skipped: int = 0,
        window: int = 1,
        units: Mapping[str, float] | None = None,
        flops_per_item: float = 0.0,
    ) -> None:
        self.source = source
        self._source = describe_source(source, units, flops_per_item)
        self._waits = _Waits(source, items)
        self._iteration = iteration
        self._ticks = ticks
        self._skipped, self._window = skipped, window
        self._ticked = 0
        self._suspended = self._suspended_for_good = self._interrupted = False
        # One item is handed out for each entry. An iterator over a list checks its length every
        # time, so clearing the list ends a chunk without losing an item, even in a signal handler.
        self._allowed: list[Iterator[T_ticking]] = []

    def handed_out(self) -> int:
        """Count the items of the source up to the current one."""
        return self._skipped + self._iteration.handed_out()

    def pending(self) -> int:
        """Count the steps that are done and not ticked yet."""
        return 0 if self._suspended_for_good else max(0, self._iteration.done() - self._ticked) // self._window

    def begun(self) -> int:
        """Count the steps that have begun and were not ticked."""
        if self._suspended:
            return 0
        items = sys.maxsize - length_hint(self._iteration.left) - self._ticked
        return items if self._window == 1 else -(-items // self._window)

    def take_pending(self) -> int:
        """Mark the pending steps as ticked and return their number."""
        steps = self.pending()
        self._ticked += steps * self._window
        return steps

    def interrupt(self) -> None:
        """End the chunk with the current item; one that is a single step ends by itself."""
        self._interrupted = True
        if self._window == 1 or self._suspended:
            self._allowed.clear()

    def suspend_counting(self, *, for_good: bool) -> None:
        """Leave the current item, or all items from it on, to ticks inside the loop body."""
        self._suspended = True
        self._suspended_for_good = self._suspended_for_good or for_good
        self.interrupt()

    def chunks(self) -> Iterator[Iterator[T_ticking]]:
        """Yield iterators over the items, chunk by chunk, and tick between them."""
        self._ticks.enter(self)
        self._ticks.times.source = self._source
        began = 0.0
        try:
            size = 1
            while True:
                wanted, began = self._allow(size), time.perf_counter()
                yield map(next, self._allowed)
                done = self._count_items(began)
                if self._suspended_for_good:
                    yield from self._one_by_one()
                    return
                if self._suspended:  # the loop body has ticked for these items
                    self._suspended, size = False, 1
                    self._ticks.between_items(self)
                elif done:
                    fast = self._window == 1 and time.perf_counter() - began < CHUNK_SECONDS / 2
                    size = min(LONGEST_CHUNK, 2 * size) if fast else 1
                    self._tick(-(-done // self._window))
                if done < wanted and not self._interrupted:  # the source is exhausted
                    return
        finally:
            self._ticks.times.waited(self._waits.take(began))  # of a loop that was left early
            self._ticks.leave(self)

    def _one_by_one(self) -> Iterator[Iterator[T_ticking]]:
        """Yield the items that are left, a chunk each; the loop body ticks for them."""
        done = 1
        while done:
            began = time.perf_counter()
            yield islice(self._waits.first, 1)
            done = self._count_items(began)

    def _count_items(self, began: float) -> int:
        """Return how many items were done since the last call, in a chunk that began at a time."""
        done = self._iteration.handed_out() - self._ticked
        self._ticked += done
        times = self._ticks.times
        times.waited(self._waits.take(began))
        if self._suspended_for_good or not self._suspended:  # else these are the items of a loop inside
            times.add_items(done * self._source.batch_size)
        return done

    def _allow(self, size: int) -> int:
        """Allow the next chunk at most `size` steps; return how many items it may hand out."""
        self._interrupted = False
        self._allowed[:] = [self._waits.first, *[self._waits.next] * (size * self._window - 1)]
        # Read last: a checkpoint may be due by now
        del self._allowed[min(self._ticks.steps_ahead(), size) * self._window :]
        return len(self._allowed)

    def _tick(self, steps: int) -> None:
        try:
            self._ticks.done(self, steps)
        except BaseException:
            self._iteration.whole = True  # a stop takes effect after the step: the item is done
            raise


T = TypeVar("T")


class Host(Protocol):
    """The owner of a tracked iterable: a progress manager or the null manager."""

    def _begin_pass(self, tracked: TrackedIterable[Any], one: Iteration) -> Counter: ...
    def _end_pass(self, counter: Counter, one: Iteration, exhausted: bool) -> None: ...


class SilentHost:
    """Counts, and shows nothing."""

    def _begin_pass(self, tracked: TrackedIterable[Any], one: Iteration) -> Counter:
        counter = Counter()
        counter.begin(one, tracked.base)
        return counter

    def _end_pass(self, counter: Counter, one: Iteration, exhausted: bool) -> None:
        counter.end(one, exhausted)


class _End(Iterator[Any]):
    """The chain's end: asked once the source is exhausted, deleted if the loop is left early."""

    __slots__ = ("counter", "host", "one")

    def __init__(self, host: Host, counter: Counter, one: Iteration) -> None:
        self.host = host
        self.counter = counter
        self.one = one

    def __next__(self) -> Any:
        self.host._end_pass(self.counter, self.one, exhausted=True)  # noqa: SLF001 - one unit with its host
        raise StopIteration

    def __del__(self) -> None:
        self.host._end_pass(self.counter, self.one, exhausted=False)  # noqa: SLF001


class TrackedIterable(Generic[T]):
    """The iterable that `track` returns. It can be iterated repeatedly.

    Without an iterable it is a bar that `update` advances: `with track(total=n) as bar:`.

    Attributes:
        name: Name of the bar.
        total: Steps at the end, or None if unknown.
        initial: Steps done before the first item.
        unit: The name of a step in rates.
        unit_scale: Whether counts have a prefix, such as `1.5M`.
        leave: Whether the row stays after the end.
        base: The count at which the latest iteration began; a resumed loader skips items.
    """

    def __init__(
        self,
        host: Host,
        iterable: Iterable[T] | None,
        *,
        name: str,
        total: float | None = None,
        initial: float = 0,
        unit: str = "it",
        unit_scale: bool = False,
        leave: bool = True,
        run: RunContext | None = None,
        window: int = 1,
        units: Mapping[str, float] | None = None,
        flops_per_item: float = 0.0,
    ) -> None:
        if iterable is None and run is not None:
            raise TypeError(f"track({name!r}) ticks after each item of an iterable; call controller.tick() instead")
        self.name = name
        if window < 0:
            raise ValueError(f"tick of {name!r} must be a number of items, not {window}")
        self._window = window
        self.unit_scale, self.leave = unit_scale, leave
        self._units = {unit: _amount(count, f"units[{unit!r}]") for unit, count in dict(units or {}).items()}
        self._flops_per_item = _amount(flops_per_item, "flops_per_item")
        self.base = self.initial = _steps(initial, f"initial of {name!r}")
        self.total = self._total_of(iterable, total)
        self.unit = unit
        self._host = host
        self._iterable = iterable
        self._run = run
        self._counter: Counter | None = None
        self._by_hand: Iteration | None = None
        self._early: dict[str, Any] = {}
        self._description = ""

    def _total_of(self, iterable: object, total: float | None) -> float | None:
        if iterable is None:
            return total_steps(total, f"total of {self.name!r}")
        if not hasattr(iterable, "__iter__") and not hasattr(iterable, "__getitem__"):
            raise TypeError(f"track({self.name!r}) expected an iterable, got {type(iterable).__name__}")
        if total is not None:
            return total_steps(total, f"total of {self.name!r}")
        try:
            size = length_hint(iterable, -1)
        except (TypeError, NotImplementedError):  # len() of an endless loader raises
            return None
        return None if size < 0 else self.initial + size

    def __iter__(self) -> Iterator[T]:
        if self._iterable is None:
            raise TypeError(f"track({self.name!r}) has no iterable to loop over; advance it with update()")
        return self._iterate(self._iterable)

    def __reversed__(self) -> Iterator[T]:
        return self._iterate(reversed(self._iterable))  # type: ignore[call-overload]

    def _iterate(self, iterable: Iterable[T]) -> Iterator[T]:
        source, skipped = (iterable, 0) if self._run is None else self._run.ticks.prepare(iterable)
        self.base = self.initial + max(skipped, _skipped(iterable))
        one = Iteration()
        items: Iterator[T] = one.items(source)  # first: iter() may raise
        if self._run is not None:
            ticking = ChunkedIterator(
                iterable,
                items,
                one,
                self._run.ticks,
                skipped=skipped,
                window=self._window,
                units=self._units,
                flops_per_item=self._flops_per_item,
            )
            items = chain.from_iterable(ticking.chunks())
        return chain(items, _End(self._host, self._begin(one), one))

    def _begin(self, one: Iteration) -> Counter:
        self._counter = counter = self._host._begin_pass(self, one)  # noqa: SLF001
        if self._early:
            self.set(**self._early)
            self._early = {}
        if self._description:
            counter.describe(self._description)
        return counter

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # TypeError in the iterable's own words

    def __length_hint__(self) -> int:
        return length_hint(self._iterable)

    def __bool__(self) -> bool:
        return bool(len(self)) if hasattr(self._iterable, "__len__") else True

    def __contains__(self, item: object) -> bool:
        return item in self._iterable  # type: ignore[operator]

    # --- by hand

    def update(self, steps: float = 1) -> None:
        """Advance the bar; the first call shows it."""
        if self._counter is None:
            self._by_hand = Iteration()
            self._begin(self._by_hand)
        assert self._counter is not None
        self._counter.extra += steps

    def close(self, *, failed: bool = False) -> None:
        """End a bar that `update` advances; below its total it says `stopped`."""
        counter, one = self._counter, self._by_hand
        if counter is not None and one is not None:
            done = not failed and (self.total is None or counter.completed >= self.total)
            self._host._end_pass(counter, one, exhausted=done)  # noqa: SLF001
            self._counter = self._by_hand = None

    def __enter__(self) -> Self:
        if self._iterable is None:
            self.update(0)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close(failed=kind is not None)

    def set_description(self, description: str) -> None:
        """Change the text of the row, also before the loop begins."""
        self._description = description
        if self._counter is not None:
            self._counter.describe(description)

    def set(self, **values: Any) -> None:
        """Show values behind the bar, such as `set(loss=loss)`, until they are set again.

        The call keeps a reference. At most twice a second it turns the values into text, on the
        calling thread; so it waits for a tensor on a device at most twice a second.

        Args:
            **values: Numbers, strings, or arrays and tensors of one element.
        """
        counter = self._counter
        if counter is None:
            self._early.update(values)
        else:
            counter.note(values)


def _skipped(source: object) -> int:
    """Return how many items the next iteration over a source skips at its start."""
    if not hasattr(source, "load_state_dict"):  # the usual case, without an import
        return 0
    from ridgepole.data.protocol import Resumable

    return source.start if isinstance(source, Resumable) else 0


def _amount(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise TypeError(f"{what} must be a number of at least 0, not {value!r}")
    return float(value)


def total_steps(value: object, what: str) -> float | None:
    """Check a total; return None if it is unknown (None or infinite)."""
    return None if value is None or value == float("inf") else _steps(value, what)


def _steps(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        if not hasattr(value, "__index__") or isinstance(value, bool):
            raise TypeError(f"the {what} must be a number of steps, not {value!r}")
        value = int(value.__index__())  # a numpy integer
    if not value >= 0:  # NaN too
        raise ValueError(f"the {what} must be 0 or more, not {value!r}")
    return value
