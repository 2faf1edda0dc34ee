"""Tensor files in the safetensors layout, written and read in one pass while a second thread hashes.

Layout: the length of the header as a little-endian u64; the header, a JSON object of `{name: {dtype, shape,
data_offsets}}` padded with blanks to a multiple of 8; the bytes of the tensors, without gaps
(https://github.com/huggingface/safetensors, "Format"). The package itself is not used: it hashes nothing, so that every
byte would be read a second time, and it takes blocks only as tensors or arrays.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from math import prod
from typing import Any, BinaryIO

import orjson

from ridgepole.checkpoint.blobs import ITEM_SIZE, Blob
from ridgepole.checkpoint.hashing import CHUNK, Digest, FileSink
from ridgepole.checkpoint.untree import buffer_for

MAX_HEADER = 100_000_000
"""Bytes; the safetensors package refuses longer ones too."""


class TensorFileError(ValueError):
    """Not a whole and well-formed tensor file."""


def write_tensors(sink: FileSink, blobs: Mapping[str, Blob]) -> None:
    """Writes a tensor file; tensors of other devices are copied to the CPU one by one.

    Args:
        sink: Writes and hashes.
        blobs: What to write, by name.

    Raises:
        OSError: If the system refuses.
    """
    # large elements first, so that each tensor is aligned to its element in the file
    ordered = sorted(blobs.items(), key=lambda item: -ITEM_SIZE[item[1].dtype])
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, blob in ordered:
        header[name] = {"dtype": blob.dtype, "shape": blob.shape, "data_offsets": (offset, offset + blob.size)}
        offset += blob.size
    text = orjson.dumps(header)
    text += b" " * (-len(text) % 8)
    sink.write(memoryview(struct.pack("<Q", len(text)) + text))
    for _, blob in ordered:
        data = blob.read()
        assert len(data) == blob.size, f"{len(data)} bytes for {blob}"
        sink.write(data)


def read_tensors(file: BinaryIO, size: int, memory: Mapping[str, str], digest: Digest) -> dict[str, Any]:
    """Reads a tensor file into fresh memory. What comes back is sound only if the digest is, too.

    Args:
        file: At its beginning.
        size: Its length in bytes, as the system gives it.
        memory: For each tensor who allocates its bytes, see `Blob.memory`.
        digest: Takes every byte that is read.

    Returns:
        The bytes by name, as `untree.Buffers`.

    Raises:
        TensorFileError: If it is no tensor file, or not the one that `memory` describes.
    """
    length = struct.unpack("<Q", _read(file, min(8, size), digest).ljust(8, b"\xff"))[0]
    if length > min(size - 8, MAX_HEADER):
        raise TensorFileError(f"a header of {length} bytes in a file of {size}")
    buffers: dict[str, Any] = {}
    for name, count in _entries(_read(file, length, digest), size - 8 - length):
        if name not in memory:
            raise TensorFileError(f"an entry {name[:100]!r} that its tree doesn't list")
        buffers[name], view = buffer_for(memory[name], count)
        for start in range(0, count, CHUNK):
            part = view[start : start + CHUNK]
            _fill(file, part)
            digest.update(part)
    if len(buffers) != len(memory):
        raise TensorFileError(f"{len(buffers)} entries where its tree lists {len(memory)}")
    return buffers


def _entries(header: bytes, size: int) -> list[tuple[str, int]]:
    """Names and lengths in the order of the file; every bound is checked before anything is allocated."""
    try:
        parsed = orjson.loads(header)
    except ValueError:
        raise TensorFileError("a header that is no JSON") from None
    if not isinstance(parsed, dict):
        raise TensorFileError("a header that is no object")
    parsed.pop("__metadata__", None)
    spans = sorted((*_span(name, entry), name) for name, entry in parsed.items())
    end = 0
    for first, last, name in spans:
        if first != end:
            raise TensorFileError(f"a gap or an overlap before {name[:100]!r}")
        end = last
    if end != size:
        raise TensorFileError(f"{end} bytes of tensors where there are {size}")
    return [(name, last - first) for first, last, name in spans]


def _span(name: str, entry: Any) -> tuple[int, int]:
    try:
        item, shape, (first, last) = ITEM_SIZE[entry["dtype"]], entry["shape"], entry["data_offsets"]
        counts = [first, last, *shape]
        if len(counts) > 66 or not all(type(n) is int and 0 <= n < 2**63 for n in counts):
            raise ValueError
        if prod(shape) * item != last - first:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise TensorFileError(f"an entry {name[:100]!r} that describes no tensor") from None
    return first, last


def _read(file: BinaryIO, count: int, digest: Digest) -> bytes:
    data = bytearray(count)
    _fill(file, memoryview(data))
    digest.update(memoryview(data))
    return bytes(data)


def _fill(file: BinaryIO, view: memoryview) -> None:
    while view:
        count = file.readinto(view)  # type: ignore[attr-defined]  # BinaryIO lacks what every binary file has
        if not count:
            raise TensorFileError("a file that ends too early")
        view = view[count:]
