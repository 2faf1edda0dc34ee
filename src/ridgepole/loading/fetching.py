"""Fetches a batch's items with random numbers of the batch's own.

Augmentation draws from the global generators of python, numpy and torch. They are seeded for each batch, so that what
it draws depends neither on the batches before it nor on which process it runs in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ridgepole.loading.order import derive
from ridgepole.loading.schedule import Job

if TYPE_CHECKING:
    from numpy.random import BitGenerator

_PYTHON, _NUMPY, _TORCH = range(3)


def seed_generators(seed: int) -> None:
    """Seeds the global generators, each differently: python's and numpy's would draw the same numbers otherwise.

    torch's generators of GPUs are left alone: on the main process they are the training's.
    """
    import numpy as np
    import torch

    random.seed(derive(seed, _PYTHON))
    np.random.seed(derive(seed, _NUMPY) & 0xFFFFFFFF)
    torch.default_generator.manual_seed(derive(seed, _TORCH))


@contextmanager
def borrowed_generators(seed: int, stand_in: BitGenerator) -> Iterator[None]:
    """Seeds the global generators, and gives them back as they were.

    Args:
        seed: The seed.
        stand_in: A Mersenne Twister for numpy's functions to use meanwhile. Making one costs more than all of this.
    """
    import torch
    from numpy.random import mtrand

    python, torch_state = random.getstate(), torch.default_generator.get_state()
    # numpy's generator is taken out whole, since setting its state would be the largest cost here. Only the
    # second of a pair of normal variates, which is kept outside of it, must be put back.
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
    """What a torch DataLoader takes for its data set: each "item" of it is a whole batch.

    Attributes:
        dataset: The user's data set.
        collate: Makes a batch of a list of items.
        borrows: Whether the global generators must be given back: they are somebody else's on the main process.
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
        # torch's own name for fetching several at once; Hugging Face's data sets and torch's Subset have it
        if many := getattr(self.dataset, "__getitems__", None):
            return self.collate(many(items))
        dataset = self.dataset
        return self.collate([dataset[item] for item in items])


class WorkerStart:
    """Runs in each new worker, before the user's `worker_init_fn`."""

    def __init__(self, then: Callable[[int], object] | None) -> None:
        self.then = then

    def __call__(self, worker_id: int) -> None:
        """Shows the worker the user's own data set."""
        from torch.utils.data import get_worker_info

        info: Any = get_worker_info()
        # It is frozen, and names the fetcher; whoever asks for it wants the data set that they know.
        object.__setattr__(info, "dataset", info.dataset.dataset)
        if self.then is not None:
            self.then(worker_id)


def unchanged(batch: Any) -> Any:
    """The batch as it is: in place of torch's own conversion of single items."""
    return batch
