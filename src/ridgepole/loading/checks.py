"""What a loader is given, checked; and what it finds out by itself."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from ridgepole.launch import place
from ridgepole.permanence import current_run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def whole_number(value: object, name: str, least: int) -> int:
    """A whole number of at least `least`, as a Python int.

    Raises:
        TypeError: If it is not a whole number, or a bool.
        ValueError: If it is smaller.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # numpy's integers too
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be {least} or more, not {number}")
    return number


def dataset_length(dataset: object) -> int:
    """How many items a data set has.

    Raises:
        TypeError: If its items can't be asked for by number.
        ValueError: If it has none.
    """
    from torch.utils.data import IterableDataset

    kind = type(dataset).__name__
    advice = "turn it into a list, or give it __getitem__(index) and __len__()"
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"{kind} is an IterableDataset: its items come one after the other, and to go on in the middle all before "
            f"would have to be read again. {advice.capitalize()}; else use torch's DataLoader, which can't go on there"
        )
    if not hasattr(dataset, "__getitem__"):
        raise TypeError(f"the dataset must give items by number, and {kind} has no __getitem__: {advice}")
    try:
        length = len(dataset)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError) as error:
        raise TypeError(f"the dataset must have a length, and {kind} has none ({error}): {advice}") from error
    if length == 0:
        raise ValueError(f"the dataset ({kind}) is empty: there is nothing to load")
    return length


def seed_of_run(seed: object) -> int:
    """The given seed, else the run's, else 0.

    Raises:
        TypeError: If it is not a whole number.
        ValueError: If it doesn't fit into 64 bits.
    """
    if seed is None:
        run = current_run.get()
        return run.seed if run is not None else 0
    number = whole_number(seed, "seed", 0)
    if number >= 2**64:
        raise ValueError(f"seed must be less than 2**64, not {number}")
    return number


def ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """The given rank and number of ranks, else torch.distributed's, else the launcher's, else 0 of 1.

    Raises:
        TypeError: If one is given and the other is not, or one is not a whole number.
        ValueError: If the rank is not below the number of ranks.
    """
    if (rank is None) != (world_size is None):
        raise TypeError("rank and world_size belong together: pass both, or neither")
    if rank is None:
        rank, world_size = _launched()
    size = whole_number(world_size, "world_size", 1)
    own = whole_number(rank, "rank", 0)
    if own >= size:
        raise ValueError(f"rank must be less than world_size, but rank is {own} and world_size is {size}")
    return own, size


def _launched() -> tuple[int, int]:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return place()


def checked_weights(weights: Any, length: int) -> NDArray[np.float64]:
    """The weights, as an array.

    Args:
        weights: A list, an array or a tensor of one weight for each item.
        length: Items in the data set.

    Raises:
        ValueError: If there are not as many as items, one is negative or not finite, or all are 0.
    """
    import torch

    numbers = torch.as_tensor(weights, dtype=torch.float64, device="cpu").detach()
    if tuple(numbers.shape) != (length,):
        raise ValueError(f"weights must be one number for each of the {length} items, not of shape {[*numbers.shape]}")
    if not bool(torch.isfinite(numbers).all()) or bool((numbers < 0).any()):
        where = int((~torch.isfinite(numbers) | (numbers < 0)).nonzero()[0])
        raise ValueError(f"weights must be finite and not negative; that of item {where} is {float(numbers[where])}")
    if not bool(numbers.any()):
        raise ValueError("weights must not all be 0: nothing could be drawn")
    return numbers.numpy()
