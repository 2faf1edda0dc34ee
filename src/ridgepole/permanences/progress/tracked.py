"""Iterables that are tracked.

`chain(compress(items, repeat(True, n)), end)` hands out the items from C. How many were handed out is what `repeat`
has lost, read with `length_hint` whenever somebody wants to know. `end` is asked for an item only when the source is
exhausted, and is deleted when the loop was left early; so both ends are seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, compress
from operator import length_hint
from typing import Any, Generic, Protocol, TypeVar

from ridgepole.permanence import RunContext
from ridgepole.permanences.progress.counting import Counter, Pass
from ridgepole.permanences.progress.ticking import Chunked

T = TypeVar("T")


class Host(Protocol):
    """Who a tracked iterable belongs to: a progress manager, or its null twin."""

    def _begin_pass(self, tracked: Tracked[Any], one: Pass) -> Counter: ...
    def _end_pass(self, counter: Counter, one: Pass, exhausted: bool) -> None: ...


class _End(Iterator[Any]):
    """The last link of the chain: asked when the source is exhausted, deleted when the loop was left early."""

    __slots__ = ("counter", "host", "one")

    def __init__(self, host: Host, counter: Counter, one: Pass) -> None:
        self.host = host
        self.counter = counter
        self.one = one

    def __next__(self) -> Any:
        self.host._end_pass(self.counter, self.one, exhausted=True)  # noqa: SLF001 - one unit with its host
        raise StopIteration

    def __del__(self) -> None:
        self.host._end_pass(self.counter, self.one, exhausted=False)  # noqa: SLF001


class Tracked(Generic[T]):
    """What `track` returns: iterate over it, as often as you like; `len` it; `set` values to show.

    Attributes:
        name: Name of the bar.
        total: Steps at the end, or None where unknown.
        initial: Steps done before the first item.
        unit: What a step is called in rates.
        base: The count at which the latest pass began: a loader that goes on in the middle leaves items out.
    """

    def __init__(
        self,
        host: Host,
        iterable: Iterable[T],
        *,
        name: str,
        total: float | None = None,
        initial: float = 0,
        unit: str = "it",
        run: RunContext | None = None,
    ) -> None:
        self.name = name
        self.base = self.initial = _steps(initial, f"initial of {name!r}")
        self.total = self._total_of(iterable, total)
        self.unit = unit
        self._host = host
        self._iterable = iterable
        self._run = run
        self._counter: Counter | None = None
        self._early: dict[str, Any] = {}

    def _total_of(self, iterable: object, total: float | None) -> float | None:
        if not hasattr(iterable, "__iter__") and not hasattr(iterable, "__getitem__"):
            raise TypeError(f"track({self.name!r}) needs something to iterate over, not {type(iterable).__name__}")
        if total is not None:
            return total_steps(total, f"total of {self.name!r}")
        try:
            size = length_hint(iterable, -1)
        except (TypeError, NotImplementedError):  # a loader over an endless data set has a len() that raises
            return None
        return None if size < 0 else self.initial + size

    def __iter__(self) -> Iterator[T]:
        if self._run is not None:
            self._run.ticks.prepare(self._iterable)
        self.base = self.initial + _left_out(self._iterable)
        one = Pass()
        items: Iterator[T] = compress(self._iterable, one.left)  # before begin: the source's iter() may raise
        if self._run is not None:
            items = chain.from_iterable(Chunked(self._iterable, items, one, self._run.ticks).chunks())
        self._counter = counter = self._host._begin_pass(self, one)  # noqa: SLF001
        if self._early:
            self.set(**self._early)
            self._early = {}
        return chain(items, _End(self._host, counter, one))

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # TypeError in the iterable's own words

    def __length_hint__(self) -> int:
        return length_hint(self._iterable)

    def set(self, **values: Any) -> None:
        """Shows values behind the bar, such as `set(loss=loss)`; they stay until they are set again.

        Only a reference is kept. Twice a second at most, a call turns the values into text, on the thread that
        calls; a tensor on a device is therefore waited for at most twice a second.

        Args:
            **values: Numbers, texts, or arrays and tensors of one element.
        """
        counter = self._counter
        if counter is None:
            self._early.update(values)
        else:
            counter.note(values)


def _left_out(source: object) -> int:
    """How many items the next pass over a source leaves out at its start."""
    if not hasattr(source, "load_state_dict"):  # nearly everything; the others may cost an import
        return 0
    from ridgepole.loading.protocol import Resumable

    return source.start if isinstance(source, Resumable) else 0


def total_steps(value: object, what: str) -> float | None:
    """Checks a total; None where it is unknown (None or infinite).

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is negative or not a number at all (NaN).
    """
    return None if value is None or value == float("inf") else _steps(value, what)


def _steps(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        if not hasattr(value, "__index__") or isinstance(value, bool):
            raise TypeError(f"the {what} must be a number of steps, not {value!r}")
        value = int(value.__index__())  # a numpy integer
    if not value >= 0:  # NaN too
        raise ValueError(f"the {what} must be 0 or more, not {value!r}")
    return value
