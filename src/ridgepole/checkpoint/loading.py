"""Reading one checkpoint, verified: every file is hashed in the same pass in which it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ridgepole.checkpoint.files import check_hash, check_recorded, check_size, opened, read_recorded
from ridgepole.checkpoint.hashing import Digest
from ridgepole.checkpoint.layout import part_names
from ridgepole.checkpoint.manifest import CheckpointInfo, DamagedError, FileRecord
from ridgepole.checkpoint.tensors import TensorFileError, read_tensors
from ridgepole.checkpoint.untree import TreeError, decode_state


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A checkpoint that could not be used, where an earlier one was used instead.

    Attributes:
        name: Of its directory.
        reason: What is wrong with it.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"checkpoint {self.name} can't be used: {self.reason}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint that was read and found sound.

    Attributes:
        info: What it is.
        state: What was saved, with the types it had; tensors on the CPU.
        parts: The states of the ranks that were asked for and have one.
        passed_over: Better fitting checkpoints that are damaged, in the order in which they were tried. Tell the user.
    """

    info: CheckpointInfo
    state: dict[str, Any]
    parts: dict[int, Any]
    passed_over: tuple[PassedOver, ...] = ()


def load_checkpoint(info: CheckpointInfo, ranks: Iterable[int]) -> tuple[dict[str, Any], dict[int, Any]]:
    """Reads and verifies all files of a checkpoint and decodes the main state and the parts that are asked for.

    Args:
        info: Which; its manifest is sound.
        ranks: Whose parts; a rank without one is left out.

    Raises:
        DamagedError: If anything is not what was written.
        MissingExtraError: If torch or numpy is needed and not installed.
    """
    files = dict(info.files or {})
    state = _read_part(info, files, 0)
    wanted = [rank for rank in ranks if rank and part_names(rank)[0] in files]
    parts = {rank: _read_part(info, files, rank) for rank in wanted}
    for name, record in files.items():  # of the ranks that nobody asked for: all ranks must choose alike
        check_recorded(info.path, name, record)
    if type(state) is not dict:
        raise DamagedError("its state is no mapping")
    return state, parts


def _read_part(info: CheckpointInfo, files: dict[str, FileRecord], rank: int) -> Any:
    """One rank's state; takes its files out of `files`."""
    tree_name, tensors_name = part_names(rank)
    try:
        if tree_name not in files:
            raise DamagedError(f"{tree_name} is not in its manifest")
        document = orjson.loads(read_recorded(info.path, tree_name, files.pop(tree_name)))
        memory = document["memory"]
        buffers: Mapping[str, Any] = {}
        if tensors_name in files:
            record = files.pop(tensors_name)
            with opened(info.path, tensors_name) as (file, size), Digest() as digest:
                check_size(tensors_name, size, record)
                buffers = read_tensors(file, size, memory, digest)
                check_hash(tensors_name, digest, record)
        return decode_state(document["state"], buffers)
    except TensorFileError as error:
        raise DamagedError(f"{tensors_name} is damaged: {error}") from error
    except (TreeError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{tree_name} is malformed: {error}") from error
