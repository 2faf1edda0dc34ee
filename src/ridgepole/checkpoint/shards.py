"""The shards of a checkpoint: which rank writes which box, and the index of all boxes.

A tensor that is spread over ranks is a set of boxes. The ranks tell rank 0 the boxes that they
have; each box gets one owner, which writes it. The index, `shards.json`, names the file of each
box:

```
{"tensors": {"permanences.network.model.weight": {"dtype": "float32", "shape": [10, 4],
  "boxes": [["state.safetensors", [0, 0], [5, 4]], ["rank-00001.safetensors", [5, 0], [5, 4]]]}}}
```
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import orjson

from ridgepole.checkpoint.codec.tensor_storage import Shard
from ridgepole.errors import StateError

ADVICE = "give every tensor a name of its own, and the same name on every rank that has a part of it"

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Offset and size of a part of a tensor."""

Plan = Mapping[str, Sequence[Any]]
"""The boxes of one rank, in plain JSON: type, shape, offset and size by the tensor's name."""


def plan_of(shards: Mapping[str, Shard]) -> dict[str, list[Any]]:
    """Return the boxes of one rank in plain JSON."""
    return {key: [one.dtype, list(one.shape), list(one.offset), list(one.size)] for key, one in shards.items()}


@dataclass(frozen=True, slots=True)
class Assignment:
    """The owners of all boxes.

    Attributes:
        left_out: By rank, the tensors whose box another rank writes, and that rank.
        copied: By rank, the tensors whose box it writes and other ranks have, too.
    """

    left_out: Mapping[int, Mapping[str, int]]
    copied: Mapping[int, Sequence[str]]


def assign(plans: Mapping[int, Plan]) -> Assignment:
    """Give each box one owner: of the ranks that have it, the one with the fewest bytes so far.

    Raises:
        StateError: Two ranks have different tensors under one name.
    """
    described: dict[str, tuple[Any, Any]] = {}
    holders: dict[tuple[str, tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for rank in sorted(plans):
        for key, (dtype, shape, offset, size) in plans[rank].items():
            if described.setdefault(key, (dtype, shape)) != (dtype, shape):
                raise StateError(key, f"another tensor on rank {rank} than on a rank before it", ADVICE)
            holders.setdefault((key, tuple(offset), tuple(size)), []).append(rank)
    load = dict.fromkeys(plans, 0)
    left_out: dict[int, dict[str, int]] = {rank: {} for rank in plans}
    copied: dict[int, list[str]] = {rank: [] for rank in plans}
    for (key, _, size), ranks in sorted(holders.items(), key=lambda item: len(item[1])):
        owner = min(ranks, key=lambda rank: (load[rank], rank))
        load[owner] += prod(size)
        for rank in ranks:
            if rank != owner:
                left_out[rank][key] = owner
        if len(ranks) > 1:
            copied[owner].append(key)
    return Assignment(left_out, copied)


def different_copies(assignment: Assignment, digests: Mapping[int, Mapping[str, str]]) -> list[str]:
    """Return the tensors whose copies on several ranks are not the same, with the ranks."""
    return [
        f"{key} on rank {rank} and rank {owner}"
        for rank, kept in assignment.left_out.items()
        for key, owner in kept.items()
        if digests[rank].get(key) != digests[owner].get(key)
    ]


# --- the index


@dataclass(frozen=True, slots=True)
class ShardedTensor:
    """A tensor of the index.

    Attributes:
        dtype: In torch's word.
        shape: Of the whole.
        boxes: File, offset and size of each part.
    """

    dtype: str
    shape: tuple[int, ...]
    boxes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def complete(self) -> bool:
        """Return whether the boxes fill the whole, each element once."""
        return fills(self.shape, tuple((offset, size) for _, offset, size in self.boxes))


def merge(written: Iterable[tuple[str, Plan]]) -> dict[str, ShardedTensor]:
    """Return the index of what was written: for each tensor file the boxes in it."""
    found: dict[str, ShardedTensor] = {}
    for file, plan in written:
        for key, (dtype, shape, offset, size) in plan.items():
            box = (file, tuple(offset), tuple(size))
            known = found.get(key)
            if known is not None and (known.dtype, known.shape) != (dtype, tuple(shape)):
                raise StateError(key, "another tensor on one rank than on another", ADVICE)
            boxes = () if known is None else known.boxes
            if box[1:] not in (other[1:] for other in boxes):  # a rank that was not told has written a copy
                found[key] = ShardedTensor(dtype, tuple(shape), (*boxes, box))
    return found


def encode_index(tensors: Mapping[str, ShardedTensor]) -> bytes:
    """Return the bytes of the index."""
    table = {key: {"dtype": one.dtype, "shape": one.shape, "boxes": one.boxes} for key, one in tensors.items()}
    return orjson.dumps({"tensors": table})


def decode_index(data: bytes) -> dict[str, ShardedTensor]:
    """Read the index.

    Raises:
        ValueError: It is malformed, or a tensor's boxes do not fill it.
    """
    try:
        tensors = {
            key: ShardedTensor(
                str(one["dtype"]),
                _numbers(one["shape"]),
                tuple((str(file), _numbers(offset), _numbers(size)) for file, offset, size in one["boxes"]),
            )
            for key, one in orjson.loads(data)["tensors"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    lacking = next((key for key, one in tensors.items() if not one.complete), None)
    if lacking is not None:
        raise ValueError(f"the shards of {lacking} don't fill it")
    return tensors


def _numbers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(each) is int and 0 <= each < 2**63 for each in value):
        raise ValueError("a malformed shape")
    return tuple(value)


@lru_cache(maxsize=256)
def fills(shape: tuple[int, ...], boxes: tuple[Box, ...]) -> bool:
    """Return whether boxes fill a shape, each element once."""
    for offset, size in boxes:
        if not len(offset) == len(size) == len(shape):
            return False
        if any(first + count > whole for first, count, whole in zip(offset, size, shape, strict=True)):
            return False
    if sum(prod(size) for _, size in boxes) != prod(shape):
        return False
    return not any(_overlap(a, b) for a, b in itertools.combinations(boxes, 2))


def _overlap(a: Box, b: Box) -> bool:
    return all(
        first < other + length and other < first + count
        for first, count, other, length in zip(a[0], a[1], b[0], b[1], strict=True)
    )
