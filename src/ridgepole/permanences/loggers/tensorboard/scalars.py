"""Scalars as protocol buffers, written by hand: an event of one scalar is 40 bytes that hardly change.

The bytes are those that `Event(wall_time=…, step=…, summary=Summary(value=[Summary.Value(tag=…, simple_value=…)]))`
stands for, in the encoding of https://protobuf.dev/programming-guides/encoding/ with the field numbers of TensorBoard's
`event.proto` and `summary.proto`. Building the messages takes twice as long as everything else that logging does.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache

from ridgepole.metrics.values import Value

SCALARS = frozenset((float, int, bool))

_TAGS_KEPT = 65536

_double = struct.Struct("<d").pack
_float = struct.Struct("<f").pack

# Field number times 8, plus the wire type: 0 a varint, 1 eight bytes, 2 a length and as many bytes, 5 four bytes.
_WALL_TIME = b"\x09"  # Event.wall_time = 1
_STEP = b"\x10"  # Event.step = 2
_SUMMARY = b"\x2a"  # Event.summary = 5
_VALUE = b"\x0a"  # Summary.value = 1
_TAG = b"\x0a"  # Summary.Value.tag = 1
_SIMPLE_VALUE = b"\x15"  # Summary.Value.simple_value = 2


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


@lru_cache(maxsize=_TAGS_KEPT)
def _head(tag: str) -> bytes:
    """Everything of a `Summary.Value` that stands before the four bytes of its number."""
    text = tag.encode()
    inner = _TAG + _varint(len(text)) + text + _SIMPLE_VALUE
    return _VALUE + _varint(len(inner) + 4) + inner


def scalars_event(metrics: Mapping[str, Value], step: int, now: float) -> bytes:
    """Scalars at a step.

    Args:
        metrics: Names, and values whose types are all among `SCALARS`.
        step: The step, not negative.
        now: Seconds since the epoch.

    Returns:
        The event.

    Raises:
        OverflowError: If a number is too large for 32 bits; the messages themselves make it infinite.
    """
    values = b"".join([_head(name) + _float(value) for name, value in metrics.items()])
    return b"".join((_WALL_TIME, _double(now), _STEP, _varint(step), _SUMMARY, _varint(len(values)), values))
