"""The items of each batch, on each rank, in each epoch.

The order is computed place by place: nothing is shuffled as a whole, nothing is remembered.
The item at a place is a function of seed, epoch and place, in integer arithmetic that gives the
same on every machine and with every version of numpy and torch. (`torch.randperm` promises neither,
and needs 8 bytes an item.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isqrt
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ridgepole.data.ranges import Ranges, without

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.int64]
    Epoch: TypeAlias = Callable[[Numbers], Numbers]
    from ridgepole.data.order import Numbers

ORDER, WEIGHTED, BATCH, WORKERS = range(4)
"""The uses of a derived number, so that two uses never share one."""

_MASK = 2**64 - 1
_GAMMA, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# Fewer items take more rounds, so that each possible order is equally likely. The exact total
# variation distance from that is under 1e-4 for up to 6 items; with 12 rounds it is 0.02.
_FEW_ITEMS = 65_536
_ROUNDS_OF_FEW, _ROUNDS = 32, 12


def derive(*numbers: int, start: int = 0) -> int:
    """Return 64 pseudorandom bits that depend on every number and its position.

    `derive(a, b)` is `derive(b, start=derive(a))`. Each number is one step of SplitMix64 (Steele,
    Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
    """
    mixed = start
    for number in numbers:
        mixed = (mixed + _GAMMA ^ number) & _MASK
        mixed = (mixed ^ mixed >> 30) * _MIX_1 & _MASK
        mixed = (mixed ^ mixed >> 27) * _MIX_2 & _MASK
        mixed ^= mixed >> 31
    return mixed


def _mix(values: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64's finaliser of each value under its key."""
    import numpy as np

    mixed = values * np.uint64(_GAMMA) + keys
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(_MIX_1)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(_MIX_2)
    return mixed ^ mixed >> np.uint64(31)


class Order(Protocol):
    """The item at each place of an epoch."""

    def epoch(self, number: int) -> Epoch:
        """Return the order of an epoch: a function from places to item numbers."""
        ...


@dataclass(frozen=True)
class InTurn:
    """Every item once, in the order of the data set."""

    def epoch(self, number: int) -> Epoch:  # noqa: ARG002 - the same in every epoch
        """Return the places themselves."""
        return lambda places: places


@dataclass(frozen=True)
class Shuffled:
    """Every item once, in a new order each epoch.

    A place is a (row, column) of a board that is hardly larger than the data set. Each round moves
    one of the two by a keyed amount that depends on the other; so each round, and all of them
    together, is a permutation of the board. A place outside of the data set is permuted again until
    it is inside, which gives a permutation of the data set. This is the generalised Feistel cipher
    of Black and Rogaway, Ciphers with arbitrary finite domains (CT-RSA 2002).
    """

    length: int
    seed: int

    def epoch(self, number: int) -> Epoch:
        """Return a permutation of all places, set up in O(sqrt(length)) time."""
        # An even number of rows: on a board with odd sides only even permutations are possible.
        rows = isqrt(self.length - 1) + 1
        rows += rows % 2
        columns = -(-self.length // rows)
        rounds = _ROUNDS_OF_FEW if self.length < _FEW_ITEMS else _ROUNDS
        start = derive(ORDER, self.seed, number)
        keys = [derive(each, start=start) for each in range(rounds)]
        moves = list(zip(_moves(keys[::2], columns, rows), _moves(keys[1::2], rows, columns), strict=True))

        def permute(places: Numbers) -> Numbers:
            row, column = places // columns, places % columns
            for down, across in moves:
                row = (row + down[column]) % rows
                column = (column + across[row]) % columns
            cells: Numbers = row * columns + column
            return cells

        def items(places: Numbers) -> Numbers:
            found = permute(places)
            while (outside := found >= self.length).any():
                found[outside] = permute(found[outside])
            return found

        return items


def _moves(keys: list[int], places: int, below: int) -> NDArray[np.int64]:
    """Return for each key a row of `places` numbers, all smaller than `below`."""
    import numpy as np

    mixed = _mix(np.arange(places, dtype=np.uint64), np.array(keys, np.uint64)[:, None])
    return (mixed % np.uint64(below)).astype(np.int64)


@dataclass(frozen=True)
class Weighted:
    """Items drawn with replacement, each with a probability proportional to its weight.

    Attributes:
        seed: The seed.
        sums: Cumulative sums of the weights, shape (length,).
    """

    seed: int
    sums: NDArray[np.float64] = field(compare=False)

    def epoch(self, number: int) -> Epoch:
        """Return an independent draw for each place."""
        import numpy as np

        total, key = self.sums[-1], np.array(derive(WEIGHTED, self.seed, number), np.uint64)
        last = np.searchsorted(self.sums, total)  # drawn if rounding gives the total itself

        def items(places: Numbers) -> Numbers:
            bits = _mix(places.astype(np.uint64), key) >> np.uint64(11)
            drawn = bits.astype(np.float64) * 2.0**-53 * total  # a float has 53 bits
            found: Numbers = np.minimum(np.searchsorted(self.sums, drawn, side="right"), last)
            return found

        return items


Job: TypeAlias = tuple[int, list[int]]
"""A batch to fetch: the seed of its own randomness, and the numbers of its items."""

BLOCK = 8192
"""About how many places are computed at once: few for a quick start, enough for numpy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All batches of one rank.

    Places are dealt to the ranks in turn, as in torch's DistributedSampler. If they don't divide
    evenly, the first places of the epoch are used again; with `drop_last`, places that don't fill a
    batch on every rank are dropped.

    Attributes:
        order: The item at each place.
        length: Items in the data set.
        batch_size: Items in a batch of one rank.
        epochs: Number of epochs.
        drop_last: Whether only full batches count.
        rank: This rank.
        world_size: Number of ranks.
        seed: Seeds the batches' randomness.
        whole: Whether the places of all ranks' batches of one number follow each other, and the
            last ones of an epoch are filled up or dropped: then the items of all ranks together do
            not depend on the number of ranks.
    """

    order: Order
    length: int
    batch_size: int
    epochs: int
    drop_last: bool
    rank: int
    world_size: int
    seed: int
    whole: bool = False

    @property
    def share(self) -> int:
        """Return the items per epoch of this rank; it is the same on every rank."""
        if self.whole:
            of_all = self.batch_size * self.world_size
            batches = self.length // of_all if self.drop_last else -(-self.length // of_all)
            return batches * self.batch_size
        return self.length // self.world_size if self.drop_last else -(-self.length // self.world_size)

    @property
    def batches_per_epoch(self) -> int:
        """Return the batches per epoch of this rank."""
        return self.share // self.batch_size if self.drop_last else -(-self.share // self.batch_size)

    def jobs(self, start: int, first_epoch: int = 0) -> Iterator[Job]:
        """Yield the batches from number `start` on; earlier ones are not computed."""
        if not self.batches_per_epoch:
            return
        epoch, first = divmod(start, self.batches_per_epoch)
        for epoch in range(epoch, self.epochs):  # noqa: B020 - continues from there
            yield from self._epoch(first_epoch + epoch, first)
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
        """Return this rank's places from `begin` to `end`; places beyond the last wrap around."""
        import numpy as np

        own = np.arange(begin, end, dtype=np.int64)
        if self.whole:
            batch, item = own // self.batch_size, own % self.batch_size
            return ((batch * self.world_size + self.rank) * self.batch_size + item) % self.length
        return (own * self.world_size + self.rank) % self.length


class Batches(Protocol):
    """All batches of one rank."""

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        ...

    @property
    def batches_per_epoch(self) -> int:
        """Return the batches per epoch of this rank."""
        ...

    def jobs(self, start: int, first_epoch: int = 0) -> Iterator[Job]:
        """Yield the batches from number `start` on, counted from an epoch."""
        ...


class Sampler:
    """The sampler of torch's DataLoader: the jobs from a settable start on, without some ranges."""

    def __init__(self, schedule: Batches) -> None:
        self.schedule = schedule
        self.start = self.first_epoch = 0
        self.left_out: Ranges = ()

    def __iter__(self) -> Iterator[Job]:
        return iter(without(self.schedule.jobs(self.start, self.first_epoch), self.start, self.left_out))

    def __len__(self) -> int:
        return self.schedule.batches_per_epoch * self.schedule.epochs
