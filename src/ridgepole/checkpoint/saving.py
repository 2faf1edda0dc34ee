"""Write one checkpoint: all or nothing, and on the disk before an older one is removed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import orjson

from ridgepole.checkpoint.codec.encode import children, encode_state, walk
from ridgepole.checkpoint.codec.tensors import write_tensors
from ridgepole.checkpoint.codec.torch_values import tensor_bytes
from ridgepole.checkpoint.manifest import (
    ERROR,
    MANIFEST,
    SHARDS,
    CheckpointInfo,
    FileRecord,
    Score,
    encode_manifest,
    is_file_name,
    part_names,
)
from ridgepole.checkpoint.policy import KeepBest
from ridgepole.checkpoint.safe_open import system_errors, write_new
from ridgepole.checkpoint.shards import ADVICE, Assignment, different_copies, encode_index, merge, plan_of
from ridgepole.errors import CheckpointError, StateError
from ridgepole.files import fsync_directory, remove_tree

_SHARDS = "shards"
"""The key of a receipt that is not a file's name."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that is committed: on the disk, under its name.

    Attributes:
        info: Its manifest.
        pruned: Names of those that were removed because they need not be kept any longer.
        problems: Failures after the commit, such as writing the index. Tell the user.
    """

    info: CheckpointInfo
    pruned: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class HostBuffer:
    """Memory that holds the copy of a state, and is used again for the next one."""

    def __init__(self) -> None:
        self._memory: Any = None
        self.size = 0

    def reserve(self, size: int) -> Any:
        """Return at least so many bytes: a tensor if torch is imported, pinned for CUDA."""
        if size > self.size:
            self._memory, self.size = None, 0  # before the larger one is made
            torch = sys.modules.get("torch")
            if torch is None:
                self._memory = bytearray(size)
            else:
                pinned = torch.cuda.is_available() and torch.cuda.is_initialized()
                self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
            self.size = size
        return self._memory


class Part:
    """The encoded state of one rank, before it is written.

    Args:
        state: Names and values, as for `CheckpointStore.save`.

    Attributes:
        plan: The boxes of tensors that are spread over ranks, in plain JSON.

    Raises:
        StateError: If the state holds what can't be stored.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._encoded = encode_state(state)
        self.plan = plan_of(self._encoded.shards)

    @property
    def size(self) -> int:
        """Bytes of a copy of it."""
        return sum(_aligned(blob.size) for blob in self._encoded.blobs.values())

    def copy_to(self, buffer: HostBuffer) -> None:
        """Copy all that the state refers to; what changes after that is not stored."""
        memory = buffer.reserve(self.size)
        view = memory if isinstance(memory, bytearray) else tensor_bytes(memory)
        start, waits = 0, set()
        for name, blob in self._encoded.blobs.items():
            place = memoryview(view)[start : start + blob.size]
            if blob.tensor is not None and blob.size:
                target = memory[start : start + blob.size].view(blob.tensor.dtype).view(blob.tensor.shape)
                target.copy_(blob.tensor, non_blocking=True)
                waits.add(blob.tensor.device)
            elif blob.size:
                place[:] = blob.read()
            self._encoded.blobs[name] = replace(blob, read=_held(place), tensor=None)
            start += _aligned(blob.size)
        for device in waits:
            if device.type != "cpu":
                sys.modules["torch"].accelerator.synchronize(device)

    def digest(self, *path: str) -> str:
        """Return a hash of what is stored under a path of text keys, without tensors in shards."""
        node = self._encoded.tree
        for key in path:
            node = children(node)[key]
        digest = hashlib.sha256(orjson.dumps(node))
        for name in sorted({name for tag, name in walk(node) if tag == "at"}):
            digest.update(self._encoded.blobs[name].read())
        return digest.hexdigest()[:32]

    def write(
        self, directory: Path, rank: int, left_out: Collection[str] = (), copied: Collection[str] = ()
    ) -> dict[str, Any]:
        """Write the files of this rank, and force them to the disk.

        Args:
            directory: `Saving.directory` of rank 0.
            rank: This rank.
            left_out: The tensors whose box another rank writes.
            copied: The tensors whose box other ranks have, too.

        Returns:
            The receipt for `Saving.commit`, of plain JSON values.

        Raises:
            CheckpointError: If the system refuses.
        """
        blobs = {name: blob for name, blob in self._encoded.blobs.items() if name not in left_out}
        memory = {name: blob.memory for name, blob in blobs.items()}
        text = memoryview(orjson.dumps({"state": self._encoded.tree, "memory": memory}))
        tree_name, tensors_name = part_names(rank)
        with system_errors(directory, "the checkpoint was not saved"):
            records = {tree_name: write_new(directory / tree_name, lambda sink: sink.write(text))}
            if blobs:
                records[tensors_name] = write_new(directory / tensors_name, lambda sink: write_tensors(sink, blobs))
        receipt: dict[str, Any] = {name: asdict(record) for name, record in records.items()}
        if self.plan:
            receipt[_SHARDS] = {
                "file": tensors_name,
                "plan": {key: box for key, box in self.plan.items() if key not in left_out},
                "digests": {key: self._digest_of(key) for key in (*left_out, *copied)},
            }
        return receipt

    def _digest_of(self, key: str) -> str:
        return hashlib.sha256(self._encoded.blobs[key].read()).hexdigest()[:32]


def write_part(directory: Path | str, rank: int, state: Mapping[str, Any]) -> dict[str, Any]:
    """Write the part of one rank into a save that rank 0 has begun, and force it to the disk.

    Args:
        directory: `Saving.directory` of rank 0, on a filesystem that both see.
        rank: From 1 on; rank 0's own state goes to `Saving.commit`.
        state: Names and values, as for `CheckpointStore.save`.

    Returns:
        The receipt for `Saving.commit`, of plain JSON values.

    Raises:
        StateError: If the state holds what can't be stored.
        CheckpointError: If the system refuses.
    """
    if rank < 1:
        raise ValueError(f"rank {rank} has no part of its own: rank 0's state is what commit() takes")
    return Part(state).write(Path(directory), rank)


class Saving:
    """A save that is under way; use it as a context manager, which removes what was not committed.

    Attributes:
        directory: Temporary; every other rank gives it to `write_part`.
        open: Whether its `with` block was entered, and it is neither committed nor left.
    """

    def __init__(
        self,
        directory: Path,
        info: CheckpointInfo,
        keep_best: KeepBest | None,
        rename: Callable[[Path, Path], None],
        after: Callable[[CheckpointInfo], Saved],
    ) -> None:
        self.directory = directory
        self.open = False
        self._info = info
        self._keep_best = keep_best
        self._rename = rename
        self._after = after

    def __enter__(self) -> Self:
        self.open = True  # not before: an interrupt between the two would leave it open for ever
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.open:
            self.open = False
            with contextlib.suppress(OSError):
                remove_tree(self.directory)

    def commit(
        self,
        state: Mapping[str, Any] | Part,
        *,
        parts: Iterable[Mapping[str, Any]] = (),
        assignment: Assignment | None = None,
        score: float | None = None,
        protect: str | None = None,
        config_hash: str = "",
        world_size: int = 1,
        meta: Mapping[str, Any] | None = None,
    ) -> Saved:
        """Write rank 0's state and the manifest, and give the checkpoint its name.

        The arguments and errors are those of `CheckpointStore.save`.

        Args:
            state: Names and values, or the part of rank 0.
            parts: What `write_part` returned on the other ranks, in the order of the ranks.
            assignment: The owners of the boxes of tensors that are spread over ranks, if the ranks
                were told.
            score: Value of the metric of `keep_best`.
            protect: Tags, with spaces between them; the newest checkpoint with a tag is kept.
            config_hash: Identifies the config.
            world_size: Number of ranks.
            meta: Plain JSON values.

        Returns:
            The committed checkpoint.
        """
        if not self.open:
            raise CheckpointError(f"the save of {self._info.name} is over, or its `with` not entered: begin another")
        part = state if isinstance(state, Part) else Part(state)
        left_out, copied = ({}, ()) if assignment is None else (assignment.left_out[0], assignment.copied[0])
        receipts = [part.write(self.directory, 0, left_out, copied), *parts]
        files = self._checked(receipts) | self._write_index(receipts)
        manifest = replace(
            self._info,
            score=_score(self._keep_best, score),
            protect=protect,
            config_hash=config_hash,
            world_size=world_size,
            meta=_plain(meta or {}),
            files=files,
        )
        data = memoryview(encode_manifest(manifest))
        with system_errors(self.directory, "the checkpoint was not saved"):
            write_new(self.directory / MANIFEST, lambda sink: sink.write(data))
            fsync_directory(self.directory)
            self._rename(self.directory, manifest.path)
        self.open = False
        with system_errors(manifest.path, "the checkpoint was written but may not be on the disk"):
            fsync_directory(manifest.path.parent)
        saved = self._after(manifest)
        return replace(saved, problems=(*_different(assignment, receipts), *saved.problems))

    def _checked(self, receipts: Sequence[Mapping[str, Any]]) -> dict[str, FileRecord]:
        """Return the files of all ranks, each checked to have the reported length."""
        records: dict[str, FileRecord] = {}
        for name, fields in [item for receipt in receipts for item in receipt.items() if item[0] != _SHARDS]:
            record = FileRecord(**fields)
            path = self.directory / name
            there = path.stat().st_size if is_file_name(name) and path.is_file() else None
            if there != record.size or name in records:
                raise CheckpointError(f"the part {name!r} is not in {self.directory} as its rank reported it")
            records[name] = record
        return records

    def _write_index(self, receipts: Sequence[Mapping[str, Any]]) -> dict[str, FileRecord]:
        """Write the index of tensors that are spread over ranks, if there are any.

        Raises:
            StateError: The shards of one do not fill it.
        """
        written = [(one[_SHARDS]["file"], one[_SHARDS]["plan"]) for one in receipts if _SHARDS in one]
        if not written:
            return {}
        tensors = merge(written)
        if self._info.kind != ERROR:  # that one holds the shards of one rank alone, for inspection
            for key, tensor in tensors.items():
                if not tensor.complete:
                    raise StateError(key, "a tensor whose shards on all ranks don't fill it once", ADVICE)
        data = memoryview(encode_index(tensors))
        with system_errors(self.directory, "the checkpoint was not saved"):
            return {SHARDS: write_new(self.directory / SHARDS, lambda sink: sink.write(data))}


def _different(assignment: Assignment | None, receipts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe copies of one box that differ between ranks."""
    if assignment is None:
        return []
    digests = {rank: receipt.get(_SHARDS, {}).get("digests", {}) for rank, receipt in enumerate(receipts)}
    found = different_copies(assignment, digests)
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    text = f"copies that should be equal differ: {', '.join(found[:3])}{more}; one of each is stored; {ADVICE}"
    return [text] if found else []


def _held(place: memoryview) -> Callable[[], memoryview]:
    return lambda: place


def _aligned(size: int) -> int:
    """Round up, so that a tensor of any type may begin there."""
    return -(-size // 64) * 64


def _score(keep_best: KeepBest | None, value: float | None) -> Score | None:
    """Return the score of a checkpoint; None for a value that is missing or not finite."""
    if keep_best is None or value is None or not math.isfinite(value):
        return None
    return Score(keep_best.metric, keep_best.mode, float(value))


def _plain(meta: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain = orjson.loads(orjson.dumps(json.loads(json.dumps(dict(meta), allow_nan=False))))
    except (TypeError, ValueError, RecursionError) as error:
        raise StateError("meta", f"not plain JSON ({error})", "put it into the state, or store its text") from None
    return cast("dict[str, Any]", plain)
