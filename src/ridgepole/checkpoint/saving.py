"""Writing one checkpoint: all or nothing, and on the disk before anything before it goes away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import orjson

from ridgepole.checkpoint.files import write_new
from ridgepole.checkpoint.layout import MANIFEST, is_file_name, part_names
from ridgepole.checkpoint.manifest import CheckpointInfo, FileRecord, encode_manifest, score_of
from ridgepole.checkpoint.policy import KeepBest
from ridgepole.checkpoint.tensors import write_tensors
from ridgepole.checkpoint.tree import encode_state
from ridgepole.errors import CheckpointError, StateError
from ridgepole.files import fsync_directory


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that is committed: on the disk, under its name.

    Attributes:
        info: What it is.
        pruned: Names of those that were removed because they need not be kept any longer.
        problems: What did not work after it was committed, such as writing the index. Tell the user.
    """

    info: CheckpointInfo
    pruned: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@contextmanager
def system_errors(path: Path, what: str) -> Iterator[None]:
    """Turns what the system refuses into a `CheckpointError` that says what did not work."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        reason = f"{what}: {error.strerror or error}; the checkpoints before it are untouched"
        raise CheckpointError(error.errno, reason, str(path)) from error


def write_part(directory: Path | str, rank: int, state: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the part of one rank into a save that rank 0 has begun, and forces it to the disk.

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
    return {name: asdict(record) for name, record in _write_state(Path(directory), rank, state).items()}


def _write_state(directory: Path, rank: int, state: Mapping[str, Any]) -> dict[str, FileRecord]:
    tree, blobs = encode_state(state)
    memory = {name: blob.memory for name, blob in blobs.items()}
    text = memoryview(orjson.dumps({"state": tree, "memory": memory}))
    tree_name, tensors_name = part_names(rank)
    with system_errors(directory, "the checkpoint was not saved"):
        records = {tree_name: write_new(directory / tree_name, lambda sink: sink.write(text))}
        if blobs:
            records[tensors_name] = write_new(directory / tensors_name, lambda sink: write_tensors(sink, blobs))
    return records


class Saving:
    """A save that is under way; use it as a context manager, so that nothing is left of it unless it is committed.

    Attributes:
        directory: Temporary; every other rank gives it to `write_part`.
        open: Whether its `with` block was entered, and it is neither committed nor given up.
    """

    def __init__(
        self,
        directory: Path,
        info: CheckpointInfo,
        keep_best: KeepBest | None,
        after: Callable[[CheckpointInfo], Saved],
    ) -> None:
        self.directory = directory
        self.open = False
        self._info = info
        self._keep_best = keep_best
        self._after = after

    def __enter__(self) -> Self:
        self.open = True  # not before: an interrupt between the two would leave it open for ever
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.open:
            self.open = False
            shutil.rmtree(self.directory, ignore_errors=True)

    def commit(
        self,
        state: Mapping[str, Any],
        *,
        parts: Iterable[Mapping[str, Any]] = (),
        score: float | None = None,
        protect: str | None = None,
        config_hash: str = "",
        world_size: int = 1,
        meta: Mapping[str, Any] | None = None,
    ) -> Saved:
        """Writes rank 0's state and the manifest, and gives the checkpoint its name.

        Args:
            state: Names and values.
            parts: What `write_part` returned on the other ranks.
            score: Value of the metric of `keep_best`.
            protect: The newest checkpoint with this tag is kept whatever `keep_last` says.
            config_hash: Identifies the config.
            world_size: Number of ranks.
            meta: Plain JSON values to be readable without loading.

        Returns:
            What was committed.

        Raises:
            StateError: If the state holds what can't be stored.
            CheckpointError: If the system refuses, or a part is not there.
        """
        if not self.open:
            raise CheckpointError(f"the save of {self._info.name} is over, or its `with` not entered: begin another")
        manifest = replace(
            self._info,
            score=score_of(self._keep_best, score),
            protect=protect,
            config_hash=config_hash,
            world_size=world_size,
            meta=_plain(meta or {}),
            files=_write_state(self.directory, 0, state) | self._receipts(parts),
        )
        data = memoryview(encode_manifest(manifest))
        with system_errors(self.directory, "the checkpoint was not saved"):
            write_new(self.directory / MANIFEST, lambda sink: sink.write(data))
            fsync_directory(self.directory)
            self.directory.rename(manifest.path)
        self.open = False
        with system_errors(manifest.path, "the checkpoint was written but may not be on the disk"):
            fsync_directory(manifest.path.parent)
        return self._after(manifest)

    def _receipts(self, parts: Iterable[Mapping[str, Any]]) -> dict[str, FileRecord]:
        """The files of the other ranks, each of which must be there in the length that was reported."""
        records: dict[str, FileRecord] = {}
        for part in parts:
            for name, fields in part.items():
                record = FileRecord(**fields)
                path = self.directory / name
                there = path.stat().st_size if is_file_name(name) and path.is_file() else None
                if there != record.size or name in (*records, *part_names(0)):
                    raise CheckpointError(f"the part {name!r} is not in {self.directory} as its rank reported it")
                records[name] = record
        return records


def _plain(meta: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain = orjson.loads(orjson.dumps(json.loads(json.dumps(dict(meta), allow_nan=False))))
    except (TypeError, ValueError, RecursionError) as error:
        raise StateError("meta", f"no plain JSON ({error})", "put it into the state, or store its text") from None
    return cast("dict[str, Any]", plain)
