"""Read the file that W&B's client writes for a run, also while it grows.

`run-<id>.wandb` is a log in LevelDB's format
(https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a header of 7 bytes. Blocks
have 32 KiB; a piece of a record has CRC-32, length (16 bits) and kind: 1 a whole record, 2 its
first piece, 3 a middle one, 4 the last. Each record is a `Record` of the client's protocol buffers.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ridgepole.errors import MissingExtraError

_HEADER = b":W&B"
_HEADER_BYTES = 7
_BLOCK = 32 * 1024
_piece = struct.Struct("<IHB")
_WHOLE, _FIRST, _LAST = 1, 2, 4


class RunFile:
    """One run's file, read from its beginning.

    Args:
        path: The file; it may not be there yet.

    Attributes:
        path: As given.
        summary: The summary's numbers and texts so far, by flat name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.summary: dict[str, Any] = {}
        self._offset = 0

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the history that were written since the last call, by flat name.

        Names of nested values are joined by dots. Damaged records are skipped.

        Raises:
            MissingExtraError: If the client is not installed.
        """
        for record in self.records():
            kind = record.WhichOneof("record_type")
            if kind == "history":
                yield dict(map(_entry, record.history.item))
            elif kind == "summary":
                self.summary |= dict(map(_entry, record.summary.update))

    def records(self) -> Iterator[Any]:
        """Yield the client's `Record`s that were written since the last call; errors as `rows`."""
        for data in self._bodies():
            record = _parsed(data)
            if record is not None:
                yield record

    @property
    def bytes_read(self) -> int:
        """The number of bytes whose records were yielded or skipped."""
        return self._offset

    def _is_begun(self, file: BinaryIO) -> bool:
        """Return whether the header was written; go behind it."""
        if self._offset == 0 and file.read(_HEADER_BYTES).startswith(_HEADER):
            self._offset = _HEADER_BYTES
        return self._offset > 0

    def _bodies(self) -> Iterator[bytes]:
        """Yield whole records; one that is being written is left for the next call."""
        record: list[bytes] | None = None
        try:
            with self.path.open("rb") as file:
                if not self._is_begun(file):
                    return
                start = self._offset - self._offset % _BLOCK
                file.seek(start)
                at = self._offset - start
                while block := file.read(_BLOCK):
                    following = len(block) == _BLOCK and bool(file.peek(1))
                    while at + _piece.size <= len(block):
                        checksum, length, kind = _piece.unpack_from(block, at)
                        end = at + _piece.size + length
                        body = block[at + _piece.size : end]
                        if zlib.crc32(body, zlib.crc32(bytes((kind,)))) != checksum:
                            record = None  # the rest of the block is lost, or not written yet
                            if following:
                                self._offset = start + _BLOCK
                            break
                        at = end
                        if kind in (_WHOLE, _FIRST):
                            record = [body]
                        elif record is not None:
                            record.append(body)
                        if kind in (_WHOLE, _LAST):
                            self._offset = start + at
                            if record is not None:
                                yield b"".join(record)
                            record = None
                    if len(block) < _BLOCK:  # the file may grow before the next read, in the middle of this block
                        return
                    start, at = start + _BLOCK, 0
        except OSError:
            return


def _parsed(data: bytes) -> Any:
    try:
        from google.protobuf.message import DecodeError
        from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]
    except ImportError as error:
        raise MissingExtraError("wandb", "wandb", "reading a W&B run") from error
    record = Record()
    try:
        record.ParseFromString(data)
    except DecodeError:
        return None
    return record


def _entry(item: Any) -> tuple[str, Any]:
    """Return the name and the value of an item; newer clients have typed values beside the JSON."""
    name = ".".join(item.nested_key) or item.key
    found = item.WhichOneof("value") if "value" in item.DESCRIPTOR.oneofs_by_name else None
    if found in ("integer", "number", "boolean", "text"):
        return name, getattr(item, found)
    try:
        return name, json.loads((item.json if found == "json" else item.value_json) or "null")
    except ValueError:
        return name, None
