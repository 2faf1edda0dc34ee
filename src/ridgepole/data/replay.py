"""Replay the order of torch's DataLoader without loading what was before a place in it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from ridgepole.data.positions import Position, check_ranks, has_state
from ridgepole.data.ranges import Ranges, ahead, without
from ridgepole.launch import place

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

_KIND = "order of a DataLoader"


def obstacle_of(loader: DataLoader[Any]) -> str:
    """Return why the order of a DataLoader can't be replayed, or ""."""
    from torch.utils.data import BatchSampler, DataLoader, IterableDataset

    kind = type(loader)
    if (kind.__iter__, kind._get_iterator) != (DataLoader.__iter__, DataLoader._get_iterator):  # noqa: SLF001
        return "with an __iter__ of its own, which has no position to store"
    if isinstance(loader.dataset, IterableDataset):
        what = f"over {type(loader.dataset).__name__}, an iterable-style data set"
        if has_state(loader.dataset):
            return f"{what} whose position its workers keep: use num_workers=0 or torchdata's StatefulDataLoader"
        return f"{what} without state_dict and load_state_dict"
    if loader.num_workers and not getattr(loader, "in_order", True):
        return "with in_order=False, whose order can't be replayed"
    batches = loader.batch_sampler
    sampler: Any = loader.sampler if batches is None else batches
    if type(batches) is BatchSampler:
        sampler = batches.sampler
    replays = type(sampler) in _replayable()
    return "" if replays else f"with a {type(sampler).__name__}, whose order can't be replayed"


def _replayable() -> tuple[type, ...]:
    """Return the samplers whose order is a function of generators that can be stored."""
    from torch.utils.data import RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler
    from torch.utils.data.distributed import DistributedSampler

    known = (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler, DistributedSampler)
    return (*known, list, tuple, range)


class ReplayPosition(Position):
    """The position in a DataLoader over a map-style data set.

    It is the states of the random generators right before the loop began, and the number of batches
    since. A resume restores them, lets the sampler draw the same indices again, and loads only
    those that are left.
    """

    def __init__(self, source: DataLoader[Any]) -> None:
        super().__init__(source)
        self._before: dict[str, Any] = {}

    def fits(self, stored: Mapping[str, Any]) -> bool:
        """Tell whether a stored position is that of a source of this kind."""
        return stored.get("kind") == _KIND

    def _begin(self) -> Iterable[Any]:
        import torch

        self._before = {
            "torch": torch.get_rng_state(),
            "generators": [generator.get_state() for generator in self._generators()],
            "epoch": getattr(self._sampler, "epoch", None),
            # Workers that persist draw no seed again, which shifts what the sampler draws
            "persisted": self.source._iterator is not None,  # noqa: SLF001 - torch has no public way to know
        }
        if self._before["persisted"] or not self.left_out:
            return without(self.source, 0, self.left_out)
        return self._entered(lambda: None)

    def _resume(self, stored: Mapping[str, Any]) -> Iterable[Any]:
        check_ranks(stored, self.source)
        now, then = self._order(), stored["order"]
        if different := [key for key in now if then.get(key) != now[key]]:
            found = "; ".join(f"{key} was {then.get(key)!r} and is {now[key]!r}" for key in different)
            raise ValueError(
                f"the loop over a {type(self.source).__name__} can't resume from the stored position, because the "
                f"order would differ: {found}"
            )
        self._before = dict(stored["before"])
        if stored.get("dataset") is not None:
            self.source.dataset.load_state_dict(stored["dataset"])
        if self._before["epoch"] is not None:
            self._sampler.set_epoch(self._before["epoch"])
        if self._before["persisted"]:
            return self._entered(self._restore_generators)
        self._restore_generators()
        return self._entered(lambda: None)

    def _entered(self, before: Callable[[], None]) -> Iterator[Any]:
        """Return an iterator over the batches from the start on.

        Args:
            before: Called right before the sampler draws.
        """
        loader = copy.copy(self.source)
        name = "sampler" if loader.batch_sampler is None else "batch_sampler"
        indices = _Indices(getattr(loader, name), self.start, self.left_out, before)
        # A DataLoader refuses another sampler by its __setattr__; this is a copy for one loop
        vars(loader).update({name: indices, "_iterator": None})
        batches: Iterator[Any] = iter(loader)
        indices.enter()
        if loader.persistent_workers and loader.num_workers:
            self.source._iterator = batches  # noqa: SLF001 - the next loop finds its workers
        return batches

    def _restore_generators(self) -> None:
        import torch

        torch.set_rng_state(self._before["torch"])
        for generator, state in zip(self._generators(), self._before["generators"], strict=True):
            generator.set_state(state)

    def _generators(self) -> list[Any]:
        found = (getattr(each, "generator", None) for each in (self.source, self._sampler))
        return list({id(each): each for each in found if each is not None}.values())

    @property
    def _sampler(self) -> Any:
        """Return what gives the indices: the sampler inside of a batch sampler, if there is one."""
        batches = self.source.batch_sampler
        return self.source.sampler if batches is None else getattr(batches, "sampler", batches)

    def _order(self) -> dict[str, Any]:
        """Return what makes the order, besides the generators."""
        batches, sampler = self.source.batch_sampler, self._sampler
        return {
            "dataset": len(self.source.dataset),
            "batch_size": getattr(batches, "batch_size", None),
            "drop_last": getattr(batches, "drop_last", None),
            "sampler": type(sampler).__name__,
            "length": len(sampler),
            "replacement": getattr(sampler, "replacement", None),
            "seed": getattr(sampler, "seed", None),
            "generators": len(self._generators()),
        }

    def _state(self, done: int) -> dict[str, Any]:
        dataset = self.source.dataset
        return {
            "kind": _KIND,
            "done": done,
            "ranks": place()[1],
            "order": self._order(),
            "before": self._before,
            "dataset": dataset.state_dict() if has_state(dataset) and not self.source.num_workers else None,
        }


class _Indices:
    """The indices of a sampler, in the first loop from a place on and without ranges.

    Args:
        sampler: The sampler, or batch sampler.
        start: How many of its entries are passed.
        left_out: The ranges to leave out.
        before: Called right before the sampler draws.
    """

    def __init__(self, sampler: Any, start: int, left_out: Ranges, before: Callable[[], None]) -> None:
        self._sampler, self._start, self._left_out, self._before = sampler, start, left_out, before
        self._entered: Iterator[Any] | None = None

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        if self._entered is None:  # torch makes an iterator, draws the workers' seed, and then asks for indices
            return self._first()
        return iter(self._sampler)

    def _first(self) -> Iterator[Any]:
        self.enter()
        assert self._entered is not None
        yield from self._entered

    def enter(self) -> None:
        """Let the sampler draw what is passed, unless it has been done."""
        if self._entered is None:
            self._before()
            indices = iter(self._sampler)
            for _ in islice(indices, self._start):
                pass
            self._entered = iter(without(indices, self._start, ahead(self._left_out, self._start)))
