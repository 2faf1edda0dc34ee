"""Readers of files that another process writes: whatever pieces they see, they find every record once."""

import io
import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ridgepole.loggers.tensorboard.records import framed, read_new_records
from ridgepole.loggers.wandb.run_file import RunFile
from ridgepole.scripts.follow import RecordSource

BLOCK = 32 * 1024
HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)


class Growing(io.RawIOBase):
    """A file that grows by a chunk each time that a reader has come to its end."""

    def __init__(self, data: bytes, ends: list[int]) -> None:
        self.data, self.ends, self.at = data, ends, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.ends[0]}[whence]
        return self.at

    def readinto(self, buffer, /) -> int:
        piece = self.data[self.at : self.ends[0]][: len(buffer)]
        buffer[: len(piece)] = piece
        self.at += len(piece)
        if not piece and len(self.ends) > 1:
            self.ends.pop(0)
        return len(piece)


class GrowingPath:
    """Opens the same growing file again and again."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.data, self.ends = data, [0]
        for size in sizes:
            self.ends.append(min(self.ends[-1] + size, len(data)))
        self.ends.append(len(data))

    @property
    def is_whole(self) -> bool:
        return len(self.ends) == 1

    def open(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(Growing(self.data, self.ends))


def leveldb(*records: bytes) -> bytes:
    """Lay records out as LevelDB does."""
    out = HEADER
    for data in records:
        first = True
        while first or data:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += bytes(left)
                continue
            piece, data = data[: left - 7], data[left - 7 :]
            kind = (1 if not data else 2) if first else (4 if not data else 3)
            out += struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(bytes((kind,)))), len(piece), kind) + piece
            first = False
    return out


# Around the end of a block, where 0 to 6 bytes are left over, and records of several blocks
RECORDS = st.lists(st.sampled_from([0, 1, 100, BLOCK - 40, *range(BLOCK - 24, BLOCK - 4), 2 * BLOCK + 5]), max_size=5)
CHUNKS = st.lists(st.sampled_from([1, 6, 7, 100, 5000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK]), max_size=12)


@given(RECORDS, CHUNKS)
@example([100] * 700, [BLOCK - 50, 100, BLOCK, BLOCK - 60])
def test_records_of_a_growing_w_b_file_are_each_found_once(sizes, chunks):
    records = [bytes((number % 256,)) * size for number, size in enumerate(sizes)]
    path = GrowingPath(leveldb(*records), chunks)
    reader, found = RunFile(path), []
    while not path.is_whole:
        path.ends.pop(0)
        found += reader._bodies()
    found += reader._bodies()
    assert found == records


@pytest.mark.parametrize("around", [BLOCK, 2 * BLOCK])
def test_a_w_b_file_that_grows_by_bytes_loses_nothing_at_the_end_of_a_block(around):
    records = [bytes((number % 256,)) * 100 for number in range(700)]
    whole = leveldb(*records)
    path = GrowingPath(whole, [around - 20, *[1] * 40])
    reader, found = RunFile(path), []
    while not path.is_whole:
        path.ends.pop(0)
        found += reader._bodies()
    found += reader._bodies()
    assert found == records


@given(st.lists(st.sampled_from([0, 1, 100, 8192 - 16, 8192, 70_000]), max_size=6), CHUNKS)
def test_records_of_a_growing_event_file_are_each_found_once(sizes, chunks):
    records = [bytes((number,)) * size for number, size in enumerate(sizes)]
    path = GrowingPath(b"".join(map(framed, records)), chunks)
    found, offset = [], 0
    while True:
        last = path.is_whole
        more, offset = read_new_records(path, offset)
        found += more
        if last:
            break
        path.ends.pop(0)
    assert found == records


@given(st.lists(st.integers(1, 90), max_size=20))
def test_rows_of_a_growing_record_are_each_found_once(tmp_path_factory, sizes):
    directory = tmp_path_factory.mktemp("run")
    whole = b"".join(b'{"seq":%d,"time":0,"step":%d,"metrics":{"loss":%d}}\n' % (n, n, n) for n in range(20))
    source, found, at = RecordSource(directory), [], 0
    for size in [*sizes, len(whole)]:
        with (directory / "metrics.jsonl").open("ab") as file:
            file.write(whole[at : at + size])
        at += size
        found += source.poll()
    assert [value for row in found for value in row.values.values()] == list(range(20))
