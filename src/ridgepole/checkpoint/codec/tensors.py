"""Tensor files in the safetensors layout, written and read in one pass while a thread hashes.

Layout: the length of the header as a little-endian u64; the header, a JSON object of `{name:
{dtype, shape, data_offsets}}` padded with blanks to a multiple of 8; the bytes of the tensors,
without gaps (https://github.com/huggingface/safetensors, "Format"). The package itself is not used:
it hashes nothing, so that every byte would be read twice, and it takes only tensors or arrays.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from math import prod
from typing import Any, BinaryIO

import orjson

from ridgepole.checkpoint.codec.decode import buffer_for
from ridgepole.checkpoint.codec.tensor_storage import ITEM_SIZE, Blob
from ridgepole.checkpoint.hashing import CHUNK, Digest, FileSink

MAX_HEADER = 100_000_000
"""Bytes; the safetensors package refuses longer ones too."""


class TensorFileError(ValueError):
    """The file is not a whole and well-formed tensor file."""


def write_tensors(sink: FileSink, blobs: Mapping[str, Blob]) -> None:
    """Write a tensor file; tensors of other devices are copied to the CPU one by one."""
    # large elements first, so that each tensor is aligned to its element in the file
    ordered = sorted(blobs.items(), key=lambda item: -ITEM_SIZE[item[1].dtype])
    # as safetensors.torch.save_model writes tied weights: the name that was left out, the one kept
    aliases = {alias: name for name, blob in ordered for alias in blob.aliases if alias not in blobs}
    header: dict[str, Any] = {"__metadata__": aliases | {"format": "pt"}}
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


def read_entries(file: BinaryIO, size: int) -> list[tuple[str, int, int]]:
    """Return the name of each tensor of a file, and where its bytes begin and end in the file.

    Raises:
        TensorFileError: It is not a tensor file.
    """
    with Digest() as unused:
        length = _header_length(file, size, unused)
        return [
            (name, first + 8 + length, last + 8 + length) for name, first, last in _header(file, size, length, unused)
        ]


def read_tensors(
    file: BinaryIO, size: int, memory: Mapping[str, str], digest: Digest, left_out: Collection[str] = ()
) -> dict[str, Any]:
    """Read a tensor file into fresh memory. The result is sound only if the digest is, too.

    Args:
        file: At its beginning.
        size: Its length in bytes, as the system gives it.
        memory: The owner of each tensor's bytes, see `Blob.memory`.
        digest: Takes every byte that is read.
        left_out: Names of tensors that are not read.

    Returns:
        The bytes by name, as `decode.Buffers`.

    Raises:
        TensorFileError: It is not a tensor file, or not the one that `memory` describes.
    """
    length = _header_length(file, size, digest)
    buffers: dict[str, Any] = {}
    missing = set(memory) - set(left_out)
    for name, first, last in _header(file, size, length, digest):
        count = last - first
        if name not in memory:
            raise TensorFileError(f"an entry {name[:100]!r} that its tree doesn't list")
        if name in left_out:
            file.seek(8 + length + last)
            continue
        missing.discard(name)
        buffers[name], view = buffer_for(memory[name], count)
        for start in range(0, count, CHUNK):
            part = view[start : start + CHUNK]
            fill(file, part)
            digest.update(part)
    if missing:
        raise TensorFileError(f"{len(buffers)} entries where its tree lists {len(memory)}")
    return buffers


def _header_length(file: BinaryIO, size: int, digest: Digest) -> int:
    length: int = struct.unpack("<Q", _read(file, min(8, size), digest).ljust(8, b"\xff"))[0]
    if length > min(size - 8, MAX_HEADER):
        raise TensorFileError(f"a header of {length} bytes in a file of {size}")
    return length


def _header(file: BinaryIO, file_size: int, length: int, digest: Digest) -> list[tuple[str, int, int]]:
    """Return names and places in the order of the file, all bounds checked before allocation."""
    size = file_size - 8 - length
    try:
        parsed = orjson.loads(_read(file, length, digest))
    except ValueError:
        raise TensorFileError("a header that is not JSON") from None
    if not isinstance(parsed, dict):
        raise TensorFileError("a header that is not an object")
    parsed.pop("__metadata__", None)
    spans = sorted((*_span(name, entry), name) for name, entry in parsed.items())
    end = 0
    for first, last, name in spans:
        if first != end:
            raise TensorFileError(f"a gap or an overlap before {name[:100]!r}")
        end = last
    if end != size:
        raise TensorFileError(f"{end} bytes of tensors where there are {size}")
    return [(name, first, last) for first, last, name in spans]


def _span(name: str, entry: Any) -> tuple[int, int]:
    try:
        item, shape, (first, last) = ITEM_SIZE[entry["dtype"]], entry["shape"], entry["data_offsets"]
        counts = [first, last, *shape]
        if len(counts) > 66 or not all(type(n) is int and 0 <= n < 2**63 for n in counts):
            raise ValueError
        if prod(shape) * item != last - first:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise TensorFileError(f"an entry {name[:100]!r} that is not a tensor") from None
    return first, last


def _read(file: BinaryIO, count: int, digest: Digest) -> bytes:
    data = bytearray(count)
    fill(file, memoryview(data))
    digest.update(memoryview(data))
    return bytes(data)


def fill(file: BinaryIO, view: memoryview) -> None:
    """Fill memory with the next bytes of a file.

    Raises:
        TensorFileError: The file ends before.
    """
    while view:
        count = file.readinto(view)  # type: ignore[attr-defined]  # BinaryIO lacks what every binary file has
        if not count:
            raise TensorFileError("a file that ends too early")
        view = view[count:]
