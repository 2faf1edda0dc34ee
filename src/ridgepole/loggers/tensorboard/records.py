"""The bytes of an event file: TensorFlow's records, and events of scalars encoded by hand.

A record is, little-endian: length of the data (64 bits), masked CRC-32C of those 8 bytes (32 bits),
the data, masked CRC-32C of the data (32 bits). The mask is a rotation by 15 bits to the right plus
a constant. Source:
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.

An event of one scalar is 40 bytes that hardly change. `scalars_event` writes the protocol buffers
of `Event(wall_time=…, step=…, summary=Summary(value=[Summary.Value(tag=…, simple_value=…)]))` in
the encoding of https://protobuf.dev/programming-guides/encoding/, with the field numbers of
TensorBoard's `event.proto` and `summary.proto`. Building the messages takes twice as long as the
rest of logging.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO

from ridgepole.metrics.values import Value

HEADER_BYTES = 12
_FOOTER_BYTES = 4
_MASK_DELTA = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_SHORT = 1024  # headers of records up to this length are cached

_pack_length = struct.Struct("<Q").pack
_pack_crc = struct.Struct("<I").pack


@cache
def _crc32c() -> Callable[[bytes], int]:
    """Return CRC-32C in C (google-crc32c), else in Python, hundreds of times slower."""
    try:
        from google_crc32c import value
    except ImportError:
        return _slow_crc32c
    return value  # type: ignore[no-any-return]


@cache
def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ _POLYNOMIAL if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


def _slow_crc32c(data: bytes) -> int:
    table = _table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[crc & 0xFF ^ byte] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
    """Return the checksum of data as records store it."""
    crc = _crc32c()(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _header(length: int) -> bytes:
    packed = _pack_length(length)
    return packed + _pack_crc(masked_crc(packed))


@cache
def _short_header(length: int) -> bytes:
    return _header(length)


def framed(data: bytes) -> bytes:
    """Return data as one record."""
    length = len(data)
    header = _short_header(length) if length <= _SHORT else _header(length)
    return header + data + _pack_crc(masked_crc(data))


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the data of each whole record of a file.

    Reading ends at a torn or damaged header: nothing after it can be found. Records with damaged
    data are skipped. A file that can't be read has no records.
    """
    with contextlib.suppress(OSError):
        for data, _ in records_with_ends(path):
            yield data


def records_with_ends(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the data of each whole record of a file, and the offset behind it.

    Raises:
        OSError: If the file can't be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        yield from _records(file, 0, size)


def read_new_records(path: Path, start: int) -> tuple[list[bytes], int]:
    """Return the whole records of a growing file from an offset on, and the offset behind them."""
    found: list[bytes] = []
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(start)
            for data, end in _records(file, start, size):
                found.append(data)
                start = end
    except OSError:
        pass  # it may be removed at any moment
    return found, start


def _records(file: BinaryIO, at: int, size: int) -> Iterator[tuple[bytes, int]]:
    while at + HEADER_BYTES + _FOOTER_BYTES <= size:
        header = file.read(HEADER_BYTES)
        length = int.from_bytes(header[:8], "little")
        at += HEADER_BYTES + length + _FOOTER_BYTES
        if header != _header(length) or at > size:
            return
        data = file.read(length)
        if file.read(_FOOTER_BYTES) == _pack_crc(masked_crc(data)):
            yield data, at


SCALARS = frozenset((float, int, bool))

_TAGS_KEPT = 65536

_double = struct.Struct("<d").pack
_float = struct.Struct("<f").pack

# Field number times 8, plus the wire type: 0 a varint, 1 eight bytes, 2 a length and as many bytes,
# 5 four bytes.
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
    """Return all of a `Summary.Value` before the four bytes of its number."""
    text = tag.encode()
    inner = _TAG + _varint(len(text)) + text + _SIMPLE_VALUE
    return _VALUE + _varint(len(inner) + 4) + inner


def scalars_event(metrics: Mapping[str, Value], step: int, now: float) -> bytes:
    """Return an event of scalars.

    Raises:
        OverflowError: If a number is too large for 32 bits; protocol buffers make it infinite.
    """
    values = b"".join([_head(name) + _float(value) for name, value in metrics.items()])
    return b"".join((_WALL_TIME, _double(now), _STEP, _varint(step), _SUMMARY, _varint(len(values)), values))
