"""Samplers of torch, or of the same form: their indices, listed for one epoch at a time.

An epoch is listed with random generators that are seeded for it, so that any batch of any epoch
can be found again without the epochs before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridgepole.data.fetching import borrowed_generators
from ridgepole.data.order import BATCH, ORDER, Job, derive

if TYPE_CHECKING:
    from ridgepole.data.order import Epoch


class Listed:
    """The indices that a sampler gives in each epoch.

    Attributes:
        sampler: The user's sampler or batch sampler.
        length: The number of its entries, the same in every epoch.
        shares: Whether it gives each rank its own share, as torch's `DistributedSampler` does.

    Raises:
        TypeError: If it can't be iterated, or has no length.
    """

    def __init__(self, sampler: Any, seed: int) -> None:
        kind = type(sampler).__name__
        if not hasattr(sampler, "__iter__") or not hasattr(sampler, "__len__"):
            raise TypeError(f"a sampler must have __iter__ and __len__, so that a place in it can be found; not {kind}")
        self.sampler, self.seed, self.length = sampler, seed, len(sampler)
        self._parts = [sampler, *filter(None, [getattr(sampler, "sampler", None)])]
        self.shares = any(hasattr(part, "num_replicas") and hasattr(part, "rank") for part in self._parts)
        self._epoch, self._entries = -1, list[Any]()

    def __str__(self) -> str:
        return f"{type(self.sampler).__name__} of {self.length}"

    def entries(self, epoch: int) -> list[Any]:
        """Return the entries of an epoch; the latest epoch is kept.

        Raises:
            ValueError: If their number is not the sampler's length.
        """
        if epoch != self._epoch:
            self._entries, self._epoch = self._list(epoch), epoch
        return self._entries

    def _list(self, epoch: int) -> list[Any]:
        import numpy as np

        seed = derive(ORDER, self.seed, epoch)
        generators = [each for part in self._parts if (each := getattr(part, "generator", None)) is not None]
        states = [generator.get_state() for generator in generators]
        for part in self._parts:
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)
        try:
            for generator in generators:
                generator.manual_seed(seed)
            with borrowed_generators(seed, np.random.MT19937(0)):
                entries = list(self.sampler)
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
        if len(entries) != self.length:
            raise ValueError(
                f"{type(self.sampler).__name__} gave {len(entries)} entries in epoch {epoch}, but its length is "
                f"{self.length}; a place can only be found if each epoch is as long as the sampler says"
            )
        return entries


@dataclass(frozen=True, slots=True)
class Sampled:
    """The order that a sampler gives."""

    listed: Listed

    def epoch(self, number: int) -> Epoch:
        """Return a function from places to the sampler's indices."""
        import numpy as np

        indices = np.array(self.listed.entries(number), dtype=np.int64)
        return lambda places: indices[places]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSchedule:
    """The batches of a batch sampler, dealt to the ranks in turn."""

    listed: Listed
    epochs: int
    rank: int
    world_size: int
    seed: int

    @property
    def batches_per_epoch(self) -> int:
        """Return the batches per epoch of this rank; it is the same on every rank."""
        return -(-self.listed.length // self.world_size)

    def jobs(self, start: int, first_epoch: int = 0) -> Iterator[Job]:
        """Yield the batches from number `start` on."""
        for number in range(start, self.epochs * self.batches_per_epoch):
            epoch, batch = divmod(number, self.batches_per_epoch)
            epoch += first_epoch
            batches = self.listed.entries(epoch)
            chosen = batches[(batch * self.world_size + self.rank) % len(batches)]
            yield derive(BATCH, self.seed, epoch, batch, self.rank), list(chosen)
