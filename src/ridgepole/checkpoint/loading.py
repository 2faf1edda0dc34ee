"""Read one checkpoint, hashing each file in the same pass; or inspect it without decoding."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import orjson

from ridgepole.checkpoint.codec.decode import TreeError, decode_state, torch_dtype
from ridgepole.checkpoint.codec.encode import children, walk
from ridgepole.checkpoint.codec.tensors import MAX_HEADER, TensorFileError, read_tensors
from ridgepole.checkpoint.hashing import Digest
from ridgepole.checkpoint.manifest import SHARDS, CheckpointInfo, DamagedError, part_names
from ridgepole.checkpoint.safe_open import (
    check_hash,
    check_recorded,
    check_size,
    opened,
    read_recorded,
    system_errors,
)
from ridgepole.checkpoint.sharded import Sharded, ShardFiles
from ridgepole.checkpoint.shards import Box, ShardedTensor, decode_index
from ridgepole.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class SkippedCheckpoint:
    """A checkpoint that could not be used, where an earlier one was used instead.

    Attributes:
        name: Of its directory.
        reason: Its damage.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"checkpoint {self.name} can't be used: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A checkpoint that was read and found sound.

    Attributes:
        info: Its manifest.
        state: The saved state, with the types it had; tensors on the CPU.
        parts: The states of the ranks that were asked for and have one.
        passed_over: Better fitting, damaged checkpoints, in the order of trial. Tell the user.
    """

    info: CheckpointInfo
    state: dict[str, Any]
    parts: dict[int, Any]
    passed_over: tuple[SkippedCheckpoint, ...] = ()


def load_checkpoint(
    info: CheckpointInfo, ranks: Iterable[int], *, verified: bool = False
) -> tuple[dict[str, Any], dict[int, Any]]:
    """Read and verify all files of a checkpoint; decode the main state and the parts of `ranks`.

    Tensors that are spread over ranks come back whole.

    Args:
        info: The checkpoint; its manifest is sound.
        ranks: The ranks whose parts are wanted; a rank without one is left out.
        verified: Whether all files were verified a moment ago. The files of other ranks are not
            read again then, and tensors that are spread over ranks come back as `Sharded`.

    Raises:
        DamagedError: A file is not what was written.
        MissingExtraError: Torch or numpy is needed and not installed.
    """
    return _Loading(info).load(ranks, verified=verified)


class _Loading:
    """Loads one checkpoint."""

    def __init__(self, info: CheckpointInfo) -> None:
        self._info = info
        self._left = dict(info.files or {})
        self._index = read_index(info)
        self._left.pop(SHARDS, None)
        self._files = ShardFiles(info.path)
        self._whole: dict[str, Any] = {}

    def load(self, ranks: Iterable[int], *, verified: bool) -> tuple[dict[str, Any], dict[int, Any]]:
        wanted = [0, *(rank for rank in ranks if rank and part_names(rank)[0] in self._left)]
        shard_files = {file for tensor in self._index.values() for file, _, _ in tensor.boxes}
        parts = {rank: self._read_part(rank, verified=verified) for rank in wanted}
        if not verified:
            for rank in range(1, self._info.world_size):
                if rank not in parts and part_names(rank)[1] in shard_files:
                    self._read_part(rank, verified=False)
            for name, record in self._left.items():  # of the other ranks: all ranks must choose alike
                check_recorded(self._info.path, name, record)
        states = {rank: self._decode(rank, *part, verified=verified) for rank, part in parts.items()}
        state = states.pop(0)
        if type(state) is not dict:
            raise DamagedError("its state is not a mapping")
        return state, states

    def _read_part(self, rank: int, *, verified: bool) -> tuple[Any, Mapping[str, Any]]:
        """Read the tree and the tensors of one rank; move its boxes into whole tensors."""
        info, (tree_name, tensors_name) = self._info, part_names(rank)
        if tree_name not in self._left:
            raise DamagedError(f"{tree_name} is not in its manifest")
        try:
            document = orjson.loads(read_recorded(info.path, tree_name, self._left.pop(tree_name)))
            tree, memory = document["state"], document["memory"]
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{tree_name} is malformed: {error}") from error
        record = self._left.pop(tensors_name, None)
        if record is None:
            return tree, {}
        boxes = self._boxes(tensors_name)
        left_out = boxes if verified else {}
        try:
            with opened(info.path, tensors_name) as (file, size), Digest() as digest:
                check_size(tensors_name, size, record)
                buffers = read_tensors(file, size, memory, digest, left_out)
                if not left_out:
                    check_hash(tensors_name, digest, record)
            if not verified:
                for key, box in boxes.items():
                    self._move(key, box, buffers.pop(key))
        except (TensorFileError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise DamagedError(f"{tensors_name} is damaged: {error}") from error
        return tree, buffers

    def _boxes(self, file: str) -> dict[str, Box]:
        return {
            key: (offset, size)
            for key, tensor in self._index.items()
            for name, offset, size in tensor.boxes
            if name == file
        }

    def _move(self, key: str, box: Box, data: Any) -> None:
        import torch

        tensor, (offset, size) = self._index[key], box
        dtype = torch_dtype(tensor.dtype)
        if key not in self._whole:
            self._whole[key] = torch.empty(tensor.shape, dtype=dtype)
        place = tuple(slice(first, first + count) for first, count in zip(offset, size, strict=True))
        self._whole[key][place] = data.view(dtype).view(size)

    def _decode(self, rank: int, tree: Any, buffers: Mapping[str, Any], *, verified: bool) -> Any:
        def sharded(key: str, dtype: Any, shape: tuple[int, ...], layout: str) -> Any:
            table = self._index.get(key, ShardedTensor(str(dtype), shape, ()))
            if table.shape != shape or not table.complete:
                raise ValueError(f"the shards of {key!r} don't fill it")
            if verified:
                return Sharded(key, dtype, shape, layout, table, self._files)
            import torch

            return self._whole[key] if key in self._whole else torch.empty(shape, dtype=dtype)

        try:
            return decode_state(tree, buffers, sharded)
        except (TreeError, ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{part_names(rank)[0]} is malformed: {error}") from error


def read_index(info: CheckpointInfo) -> dict[str, ShardedTensor]:
    """Read and verify the index of tensors that are spread over ranks; empty without one.

    Raises:
        DamagedError: It is not what was written, or the boxes of a tensor do not fill it.
    """
    record = (info.files or {}).get(SHARDS)
    if record is None:
        return {}
    try:
        return decode_index(read_recorded(info.path, SHARDS, record))
    except ValueError as error:
        raise DamagedError(f"{SHARDS} is malformed: {error}") from error


def sharded_keys(info: CheckpointInfo) -> list[str]:
    """Return the names of the tensors that are spread over ranks.

    Raises:
        CheckpointError: Their index is damaged or can't be read.
    """
    try:
        with system_errors(info.path, "the checkpoint can't be read"):
            return list(read_index(info))
    except DamagedError as error:
        raise CheckpointError(f"checkpoint {info.path} can't be read: {error}") from None


# --- inspection


@dataclass(frozen=True, slots=True)
class Content:
    """The amount that a checkpoint holds under one name.

    Attributes:
        tensors: Number of tensors and arrays; those that share memory count each.
        bytes: Of their data, once where it is shared, and of the text of everything else.
    """

    tensors: int
    bytes: int


def inspect(info: CheckpointInfo, section: str) -> dict[str, Content]:
    """Measure what a checkpoint holds under each name of a section, decoding nothing.

    So none of the packages that the checkpoint needs must be installed.

    Args:
        info: The checkpoint.
        section: A key of its state whose value is a mapping by text, such as `permanences`.

    Returns:
        By name; empty where there is no such section.

    Raises:
        CheckpointError: It is damaged, was written by a newer Ridgepole, or can't be read.
    """
    tree_name, tensors_name = part_names(0)
    try:
        if info.problem:
            raise DamagedError(info.problem)
        with system_errors(info.path, "the checkpoint can't be read"):
            document = orjson.loads(read_recorded(info.path, tree_name, (info.files or {})[tree_name]))
            sizes = _sizes(info, tensors_name) if tensors_name in (info.files or {}) else {}
        found = children(children(document["state"]).get(section, {"map": {}}))
        return {name: _measure(node, sizes) for name, node in found.items()}
    except DamagedError as error:
        raise CheckpointError(f"checkpoint {info.path} can't be read: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"checkpoint {info.path} is malformed ({type(error).__name__}: {error})") from None


def _sizes(info: CheckpointInfo, name: str) -> dict[str, int]:
    """Return bytes by name, from the tensor file's header: its data may be many gigabytes."""
    with opened(info.path, name) as (file, size):
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size - 8, MAX_HEADER):
            raise DamagedError(f"{name} has a header of {length} bytes")
        header = orjson.loads(file.read(length))
    header.pop("__metadata__", None)
    return {key: entry["data_offsets"][1] - entry["data_offsets"][0] for key, entry in header.items()}


def _measure(node: Any, sizes: Mapping[str, int]) -> Content:
    blocks: set[str] = set()
    tensors = spread = 0
    for tag, payload in walk(node):
        tensors += tag in ("torch", "numpy", "torch.sharded")
        if tag == "at":
            blocks.add(payload)
        elif tag == "torch.sharded":
            spread += prod(payload["shape"]) * payload["item"]
    return Content(tensors, spread + sum(sizes[name] for name in blocks) + len(orjson.dumps(node)))
