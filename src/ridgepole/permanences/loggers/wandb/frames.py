"""How the two processes talk: a length of four bytes and a marshalled tuple of plain values, either way.

Marshal is the interpreter's own format, the fastest there is for plain values, and knows NaN, bytes and integers of any
size. It holds data alone, and both ends are the same interpreter.
"""

from __future__ import annotations

import marshal
import os
import struct
from collections.abc import Iterator
from typing import Any

_LENGTH = struct.Struct("<I")
MAX_FRAME = 2**32 - 1  # bytes


def encode(frame: tuple[Any, ...]) -> bytes:
    """A frame as bytes.

    Raises:
        ValueError: If it holds anything but plain values, or is larger than `MAX_FRAME`.
    """
    data = marshal.dumps(frame)
    if len(data) > MAX_FRAME:
        raise ValueError(f"{len(data)} bytes are too many for one record")
    return _LENGTH.pack(len(data)) + data


def write_all(fd: int, data: bytes) -> None:
    """Writes everything, however many writes that takes.

    Raises:
        OSError: If the other end is gone.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_frames(fd: int) -> Iterator[tuple[Any, ...]]:
    """The frames that arrive, until the other end closes; a torn last one is left out."""
    with os.fdopen(os.dup(fd), "rb", buffering=1 << 16) as stream:
        while len(head := stream.read(_LENGTH.size)) == _LENGTH.size:
            (size,) = _LENGTH.unpack(head)
            data = stream.read(size)
            if len(data) < size:
                return
            yield marshal.loads(data)  # noqa: S302 - from our own process, and marshal runs no code
