"""The protocol of the two processes: a length of four bytes, then a marshalled tuple.

Marshal is the interpreter's own format, the fastest for plain values. It supports NaN, bytes and
integers of any size, and holds only data. Both ends are the same interpreter.
"""

from __future__ import annotations

import marshal
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from ridgepole.metrics.convert import MAX_DEPTH, JsonText


def plain(value: Any) -> Any:
    """Convert a value to exact `dict`, `list`, `str`, `bool`, `int`, `float` and None.

    Values of other types become text.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value) if kind is not str else str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)


def nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat parameters as W&B keeps them: names divided at `/`, sequences as lists.

    A name stays whole if a part of it is empty or is a parameter itself, or if it has too many.
    """
    made: dict[str, Any] = {}
    for name, value in params.items():
        *path, last = name.split("/")
        whole = "" in (*path, last) or len(path) > MAX_DEPTH
        whole = whole or any("/".join(path[: end + 1]) in params for end in range(len(path)))
        table = made
        for part in () if whole else path:
            table = table.setdefault(part, {})
        table[name if whole else last] = plain(value.parsed() if isinstance(value, JsonText) else value)
    return made


def merged(known: Any, new: Any) -> Any:
    """Return a value, with the entries that a table had before."""
    if not (isinstance(known, Mapping) and isinstance(new, Mapping)):
        return new
    return {**known, **{key: merged(known.get(key), value) for key, value in new.items()}}


_LENGTH = struct.Struct("<I")
MAX_FRAME = 2**32 - 1  # bytes


def encode(frame: tuple[Any, ...]) -> bytes:
    """Encode a frame.

    Raises:
        ValueError: If it holds anything but plain values, or is larger than `MAX_FRAME`.
    """
    data = marshal.dumps(frame)
    if len(data) > MAX_FRAME:
        raise ValueError(f"{len(data)} bytes are too many for one record")
    return _LENGTH.pack(len(data)) + data


def write_all(fd: int, data: bytes | bytearray) -> None:
    """Write all data, in several writes if needed."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_frames(fd: int) -> Iterator[tuple[Any, ...]]:
    """Yield the frames that arrive, until the other end closes; drop a torn last frame."""
    with os.fdopen(os.dup(fd), "rb", buffering=1 << 16) as stream:
        while len(head := stream.read(_LENGTH.size)) == _LENGTH.size:
            (size,) = _LENGTH.unpack(head)
            data = stream.read(size)
            if len(data) < size:
                return
            yield marshal.loads(data)  # noqa: S302 - from our own process; marshal runs no code
