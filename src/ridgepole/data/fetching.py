"""Fetch the items of a batch with random numbers of its own.

Augmentation draws from the global generators of python, numpy and torch. They are seeded for each
batch. So the drawn numbers depend neither on the batches before nor on the process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ridgepole.data.order import Job, derive
from ridgepole.data.workers import outlast_stops

if TYPE_CHECKING:
    from numpy.random import BitGenerator

_PYTHON, _NUMPY, _TORCH = range(3)


def seed_generators(seed: int) -> None:
    """Seed the global generators, each differently: else python and numpy draw the same numbers.

    torch's GPU generators stay as they are: in the main process they belong to the training.
    """
    import numpy as np
    import torch

    random.seed(derive(seed, _PYTHON))
    np.random.seed(derive(seed, _NUMPY) & 0xFFFFFFFF)
    torch.default_generator.manual_seed(derive(seed, _TORCH))


@contextmanager
def borrowed_generators(seed: int, stand_in: BitGenerator) -> Iterator[None]:
    """Seed the global generators, and restore them afterwards.

    Args:
        seed: The seed.
        stand_in: A Mersenne Twister that numpy's functions use meanwhile. It is passed in because
            creating one is expensive.
    """
    import torch
    from numpy.random import mtrand

    python, torch_state = random.getstate(), torch.default_generator.get_state()
    # numpy's generator is swapped as a whole, because setting its state is expensive. Only the
    # second of a pair of normal variates, which is kept outside of it, must be restored.
    own, numpy_state = mtrand.get_bit_generator(), mtrand.get_state(legacy=False)
    try:
        mtrand.set_bit_generator(stand_in)
        seed_generators(seed)
        yield
    finally:
        mtrand.set_bit_generator(own)
        if numpy_state["has_gauss"]:
            mtrand.set_state(numpy_state)
        torch.default_generator.set_state(torch_state)
        random.setstate(python)


class Fetcher:
    """The data set that torch's DataLoader sees: each "item" is a whole batch.

    Attributes:
        dataset: The user's data set.
        collate: Makes a batch of a list of items.
        borrows: Whether to restore the global generators: in the main process the training uses
            them.
    """

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any], borrows: bool) -> None:
        self.dataset = dataset
        self.collate = collate
        self.borrows = borrows

    def __getitem__(self, job: Job) -> Any:
        seed, items = job
        if self.borrows:
            with borrowed_generators(seed, self._stand_in):
                return self._fetch(items)
        seed_generators(seed)
        return self._fetch(items)

    @cached_property
    def _stand_in(self) -> BitGenerator:
        import numpy as np

        return np.random.MT19937(0)

    def _fetch(self, items: list[int]) -> Any:
        # torch's name for fetching several items; Hugging Face's data sets and torch's Subset have
        # it
        if many := getattr(self.dataset, "__getitems__", None):
            return self.collate(many(items))
        dataset = self.dataset
        return self.collate([dataset[item] for item in items])


class Single:
    """Collates the one item of a batch of one, without a batch."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> Any:
        """Return the item."""
        return self.collate(items[0])


class WorkerStart:
    """Runs in each new worker, before the user's `worker_init_fn`.

    Attributes:
        then: The user's function.
        die_with_parent: Whether the worker is killed when the thread ends that has started it.
    """

    def __init__(self, then: Callable[[int], object] | None) -> None:
        self.then = then
        self.die_with_parent = False

    def __call__(self, worker_id: int) -> None:
        """Let the worker outlast the signals of a stop, and show it the user's own data set."""
        outlast_stops(die_with_parent=self.die_with_parent)
        from torch.utils.data import get_worker_info

        info: Any = get_worker_info()
        # It is frozen, and holds the fetcher; user code expects its own data set.
        object.__setattr__(info, "dataset", info.dataset.dataset)
        if self.then is not None:
            self.then(worker_id)


def unchanged(batch: Any) -> Any:
    """Return the batch unchanged, instead of torch's conversion of single items."""
    return batch
