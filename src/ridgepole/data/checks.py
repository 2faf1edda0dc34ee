"""Check the arguments of a loader and its stored position."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ridgepole.launch import place
from ridgepole.permanence import current_run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ridgepole.data.samplers import Listed


def whole_number(value: object, name: str, least: int) -> int:
    """Return an integer of at least `least`, as a Python int."""
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
    """Return the number of items in a data set."""
    from torch.utils.data import IterableDataset

    kind = type(dataset).__name__
    advice = "turn it into a list, or give it __getitem__(index) and __len__()"
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"{kind} is an IterableDataset: it can only be read from its start, so a loader can't resume in the "
            f"middle. {advice.capitalize()}; or use torch's DataLoader, which can't resume there either"
        )
    if not hasattr(dataset, "__getitem__"):
        raise TypeError(f"the dataset must give items by number, and {kind} has no __getitem__: {advice}")
    try:
        length = len(dataset)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError) as error:
        raise TypeError(f"the dataset must have a length, and {kind} has none ({error}): {advice}") from error
    return length


def seed_of_run(seed: object) -> int:
    """Return the given seed, else the seed of the run, else 0."""
    if seed is None:
        run = current_run.get()
        return run.seed if run is not None else 0
    number = whole_number(seed, "seed", 0)
    if number >= 2**64:
        raise ValueError(f"seed must be less than 2**64, not {number}")
    return number


def ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return rank and world size: as given, else those of torch.distributed or the launcher."""
    if (rank is None) != (world_size is None):
        raise TypeError("rank and world_size belong together: pass both, or neither")
    if rank is None:
        rank, world_size = _launched()
    size = whole_number(world_size, "world_size", 1)
    own = whole_number(rank, "rank", 0)
    if own >= size:
        raise ValueError(f"rank must be less than world_size, but rank is {own} and world_size is {size}")
    return own, size


def share_of(global_batch: int, world_size: int, batch_size: int | None) -> int:
    """Return the batch size of each rank."""
    if batch_size != 1:  # the default
        raise ValueError(f"batch_size={batch_size} and global_batch={global_batch} say the same: pass one of them")
    if global_batch % world_size:
        least = global_batch - global_batch % world_size
        near = [size for size in (least, least + world_size) if size]
        raise ValueError(
            f"global_batch={global_batch} can't be divided among {world_size} ranks: use a multiple of {world_size}, "
            f"such as {' or '.join(map(str, near))}, or another number of ranks"
        )
    return global_batch // world_size


def whole_order(global_batch: int | None, listed: Listed | None) -> None:
    """Check that a global batch is not asked of a sampler that gives each rank a share."""
    if global_batch is not None and listed is not None and listed.shares:
        raise ValueError(
            f"global_batch deals the items to the ranks, which {type(listed.sampler).__name__} does already: "
            "pass batch_size with it, or a sampler for all ranks"
        )


def _launched() -> tuple[int, int]:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return place()


def checked_weights(weights: Any, length: int) -> NDArray[np.float64]:
    """Return the weights, as an array.

    Raises:
        ValueError: If their number is wrong, one is negative or not finite, or all are 0.
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


def one_order(given: Mapping[str, Any], *, batch_size: int | None, drop_last: bool) -> None:
    """Check that at most one argument gives the order, and that a batch sampler is alone."""
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ValueError(f"{' and '.join(names)} each give the order of the items: pass one of them")
    if names == ["batch_sampler"] and (batch_size != 1 or drop_last):
        raise ValueError("batch_sampler gives whole batches: leave batch_size and drop_last out, and global_batch")


FORMAT = 1

_ADVICE = {
    "length": "load the same data set",
    "world_size": "run it on as many processes as before (with global_batch, any number of them)",
    "weights": "pass the same weights",
    "sampler": "pass the same sampler",
}


def read_cursor(state: Mapping[str, Any], now: Mapping[str, Any], batches_per_epoch: int) -> int:
    """Return the cursor of a stored state.

    Args:
        state: The `state_dict` of a loader, from this process or another.
        now: The `state_dict` of the loader to resume; its cursor is ignored.
        batches_per_epoch: Batches per epoch of the loader to resume.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"the state of a ResumableLoader is a mapping, as state_dict returns it, not {state!r}")
    written = state.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise ValueError(
            f"the loader's state has format {written}, written by a newer Ridgepole; this one reads up to {FORMAT}"
        )
    state = {"sampler": None, "first_epoch": 0, "dataset": None, "global_batch": None} | dict(
        state
    )  # older states lack them
    if missing := [key for key in now if key not in state and key != "leave_out"]:
        raise ValueError(f"this is not the state of a ResumableLoader: it has no {', '.join(missing)}")
    free = {"cursor", "epochs", "first_epoch", "dataset"}
    if now["global_batch"] is not None and now["global_batch"] == state["global_batch"]:
        free |= {"world_size", "batch_size"}  # the order does not depend on them
    fixed = [key for key in now if key not in free | {"leave_out"}]
    if different := [key for key in fixed if state[key] != now[key]]:
        found = "; ".join(f"{key} was {state[key]!r} and is {now[key]!r}" for key in different)
        advice = [_ADVICE.get(key, f"pass {key}={state[key]!r}") for key in different]
        raise ValueError(
            f"the loader can't resume from the stored state: {found}. The order would differ: "
            f"{' and '.join(advice)}, or start over without the loader's state"
        )
    return _checked(state["cursor"], state["epochs"], now["epochs"], batches_per_epoch)


def _checked(cursor: object, epochs_then: object, epochs: int, batches_per_epoch: int) -> int:
    if not isinstance(cursor, int) or isinstance(cursor, bool) or cursor < 0:
        raise ValueError(f"the loader's stored cursor must be an integer of at least 0, not {cursor!r}")
    if cursor > epochs * batches_per_epoch:
        needed = -(-cursor // batches_per_epoch)
        raise ValueError(
            f"the stored loader had handed out {cursor} batches of its {epochs_then} epochs, more than the "
            f"{epochs * batches_per_epoch} that there are with epochs={epochs}: pass epochs={needed} or more"
        )
    return cursor
