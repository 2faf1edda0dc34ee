"""TensorFlow's record format, in which event files are written.

A record is, little-endian: length of the data (64 bits), masked CRC-32C of those 8 bytes (32 bits), the data, masked
CRC-32C of the data (32 bits). The mask is a rotation by 15 bits to the right plus a constant. Source:
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

HEADER_BYTES = 12
_FOOTER_BYTES = 4
_MASK_DELTA = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_SHORT = 1024  # frames of records up to here are kept: scalars have few different lengths

_pack_length = struct.Struct("<Q").pack
_pack_crc = struct.Struct("<I").pack


@cache
def _crc32c() -> Callable[[bytes], int]:
    """CRC-32C in C where google-crc32c is installed; in Python, hundreds of times slower, where it is not."""
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
    """The checksum of some bytes as records hold it."""
    crc = _crc32c()(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _header(length: int) -> bytes:
    packed = _pack_length(length)
    return packed + _pack_crc(masked_crc(packed))


@cache
def _short_header(length: int) -> bytes:
    return _header(length)


def framed(data: bytes) -> bytes:
    """Data as one record."""
    length = len(data)
    header = _short_header(length) if length <= _SHORT else _header(length)
    return header + data + _pack_crc(masked_crc(data))


def read_records(path: Path) -> Iterator[bytes]:
    """The data of each whole record of a file.

    Where a header is torn or damaged nothing behind it can be found, and reading ends; a record whose data is damaged
    is passed over. A file that can't be read has no records.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            yield from _records(file, size)
    except OSError:
        return


def _records(file: BinaryIO, size: int) -> Iterator[bytes]:
    at = 0
    while at + HEADER_BYTES + _FOOTER_BYTES <= size:
        header = file.read(HEADER_BYTES)
        length = int.from_bytes(header[:8], "little")
        at += HEADER_BYTES + length + _FOOTER_BYTES
        if header != _header(length) or at > size:
            return
        data = file.read(length)
        if file.read(_FOOTER_BYTES) == _pack_crc(masked_crc(data)):
            yield data
