"""A header in JSON and arrays behind it, in one block of bytes: for charts and for the index.

The layout is in docs/internals/view-wire.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

MAGIC = b"RPC1"
_ALIGN = 8
_TYPES = {"f64": "<f8", "f32": "<f4", "u32": "<u4", "u8": "|u1", "i64": "<i8"}
_NAMES = {np.dtype(code): name for name, code in _TYPES.items()}


class Writer:
    """Collects arrays, and gives the reference to each for the header."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, array: Array) -> dict[str, Any]:
        """Add an array, and return its reference."""
        data = np.ascontiguousarray(array)
        raw = data.tobytes()
        reference = {"at": self._size, "length": len(data), "type": _NAMES[data.dtype]}
        padding = -len(raw) % _ALIGN
        self._parts += [raw, bytes(padding)]
        self._size += len(raw) + padding
        return reference

    def finish(self, header: dict[str, Any]) -> bytes:
        """Return the container."""
        text = orjson.dumps(header)
        text += b" " * (-(8 + len(text)) % _ALIGN)
        return b"".join([MAGIC, struct.pack("<I", len(text)), text, *self._parts])


def split(data: Any) -> tuple[dict[str, Any], Callable[[dict[str, Any]], Array]]:
    """Return the header of a container, and the function that reads an array by its reference.

    The arrays are views of the data.

    Raises:
        ValueError: If it is not a container, or it is cut off.
    """
    buffer = memoryview(data).cast("B")
    if len(buffer) < 8 or bytes(buffer[:4]) != MAGIC:
        raise ValueError("not a container")
    (length,) = struct.unpack("<I", buffer[4:8])
    header = orjson.loads(buffer[8 : 8 + length])
    body = buffer[8 + length :]

    def array(reference: dict[str, Any]) -> Array:
        kind = np.dtype(_TYPES[reference["type"]])
        return np.frombuffer(body, kind, reference["length"], reference["at"])

    return header, array


def narrow(values: Array) -> Array:
    """Return values as 32-bit floats if that loses less than a millionth of their range."""
    if not len(values):
        return values.astype("<f4")
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        small = values.astype("<f4")
        lost = np.abs(small.astype("<f8") - values).max()
        span = values.max() - values.min()
    return small if lost <= span * 1e-6 or lost == 0.0 else values
