"""Which items make up which batch, on which rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ridgepole.loading.order import BATCH, Order, derive

if TYPE_CHECKING:
    from ridgepole.loading.order import Numbers

Job: TypeAlias = tuple[int, list[int]]
"""What is sent to be fetched: the seed of the batch's own randomness, and the numbers of its items."""

BLOCK = 8192
"""About how many places are worked out at once: few enough to start at once, enough to use numpy well."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """All batches of one rank.

    Places are dealt to the ranks in turn, as torch's DistributedSampler does. Where they don't come out even, the
    first places of the epoch are dealt again; with `drop_last` what doesn't fill a batch on every rank is left out.

    Attributes:
        order: Which item stands at a place.
        length: Items in the data set, at least 1.
        batch_size: Items in a batch of one rank.
        epochs: How often all of it is gone through.
        drop_last: Whether only full batches count.
        rank: This rank.
        world_size: Number of ranks.
        seed: Seeds the batches' randomness.
    """

    order: Order
    length: int
    batch_size: int
    epochs: int
    drop_last: bool
    rank: int
    world_size: int
    seed: int

    @property
    def share(self) -> int:
        """Items of this rank in an epoch; every rank has as many."""
        return self.length // self.world_size if self.drop_last else -(-self.length // self.world_size)

    @property
    def batches_per_epoch(self) -> int:
        """Batches of this rank in an epoch."""
        return self.share // self.batch_size if self.drop_last else -(-self.share // self.batch_size)

    def jobs(self, start: int) -> Iterator[Job]:
        """The batches from number `start` on, through all epochs; what comes before is not looked at."""
        epoch, first = divmod(start, self.batches_per_epoch)
        for epoch in range(epoch, self.epochs):  # noqa: B020 - goes on where it stands
            yield from self._epoch(epoch, first)
            first = 0

    def _epoch(self, epoch: int, first: int) -> Iterator[Job]:
        size, last = self.batch_size, self.batches_per_epoch
        order = self.order.epoch(epoch)
        at_once = max(1, BLOCK // size)
        for begin in range(first, last, at_once):
            end = min(begin + at_once, last)
            items = order(self._places(begin * size, min(end * size, self.share))).tolist()
            for batch in range(begin, end):
                chosen = items[(batch - begin) * size : (batch - begin + 1) * size]
                yield derive(BATCH, self.seed, epoch, batch, self.rank), chosen

    def _places(self, begin: int, end: int) -> Numbers:
        """This rank's places from `begin` to `end`; those beyond the last are the first again."""
        import numpy as np

        return (np.arange(begin, end, dtype=np.int64) * self.world_size + self.rank) % self.length


class Sampler:
    """What a torch DataLoader takes its indices from: the jobs from a settable start on."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.start = 0

    def __iter__(self) -> Iterator[Job]:
        return self.schedule.jobs(self.start)

    def __len__(self) -> int:
        return self.schedule.batches_per_epoch * self.schedule.epochs
