"""The reader of W&B's run files: while they grow, across blocks, and after damage."""

import json
import struct
import zlib

import pytest

from ridgepole.loggers.wandb.run_file import RunFile

pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")

BLOCK = 32 * 1024
HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)


def history(**values):
    record = pb.Record()
    for name, value in values.items():
        item = record.history.item.add()
        if name.startswith("key_"):
            item.key = name[4:]
        else:
            item.nested_key.extend(name.split("__"))
        item.value_json = json.dumps(value)
    return record.SerializeToString()


def log(*records, at=7):
    """Lay records out as LevelDB does, from an offset in the file on."""
    out = b""
    for data in records:
        first = True
        while first or data:
            left = BLOCK - (at + len(out)) % BLOCK
            if left < 7:
                out += bytes(left)
                continue
            piece, data = data[: left - 7], data[left - 7 :]
            kind = (1 if not data else 2) if first else (4 if not data else 3)
            out += struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(bytes((kind,)))), len(piece), kind) + piece
            first = False
    return out


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run-x.wandb"


def test_rows_are_read_once_while_the_file_grows_byte_by_byte(path):
    rows = [{"loss": 0.5, "_step": 0}, {"inner__accuracy": 1, "key_plain": "text"}, {"loss": float("nan")}]
    whole = HEADER + log(*(history(**row) for row in rows))
    reader, found, counts = RunFile(path), [], []
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        found += reader.rows()
        counts.append(len(found))
    assert found[:2] == [{"loss": 0.5, "_step": 0}, {"inner.accuracy": 1, "plain": "text"}]
    assert found[2]["loss"] != found[2]["loss"]
    assert counts.index(1) == len(HEADER + log(history(**rows[0])))  # not before its last byte
    assert counts[-1] == 3


def test_records_go_across_blocks(path):
    rows = [{"text": "x" * size, "number": number} for number, size in enumerate((10, 40_000, 32_740, 5, 100_000, 1))]
    path.write_bytes(HEADER + log(*(history(**row) for row in rows)))
    assert [row["number"] for row in RunFile(path).rows()] == [0, 1, 2, 3, 4, 5]
    assert [len(row["text"]) for row in RunFile(path).rows()] == [10, 40_000, 32_740, 5, 100_000, 1]


def test_damage_costs_the_rest_of_its_block_only(path):
    rows = [history(number=number, text="x" * 1000) for number in range(100)]
    whole = bytearray(HEADER + log(*rows))
    whole[BLOCK + 500] ^= 1
    path.write_bytes(whole)
    numbers = [row["number"] for row in RunFile(path).rows()]
    lost = set(range(100)) - set(numbers)
    assert numbers == sorted(numbers)
    assert lost
    assert max(lost) - min(lost) + 1 == len(lost) <= 33


@pytest.mark.parametrize("content", [b"", b":W", b"not a run file at all", HEADER, HEADER + bytes(100)])
def test_a_file_without_records_has_no_rows(path, content):
    path.write_bytes(content)
    assert list(RunFile(path).rows()) == []
    assert list(RunFile(path.with_name("missing")).rows()) == []


def test_the_summary_is_kept(path):
    record = pb.Record()
    update = record.summary.update.add()
    update.key, update.value_json = "final", "7.5"
    path.write_bytes(HEADER + log(record.SerializeToString(), b"\xff\xff no record"))
    reader = RunFile(path)
    assert list(reader.rows()) == []
    assert reader.summary == {"final": 7.5}


@pytest.mark.skipif("value" not in pb.HistoryItem.DESCRIPTOR.oneofs_by_name, reason="this client has no typed values")
def test_typed_values_of_newer_clients_are_read(path):
    record = pb.Record()
    for name, field, value in (("a", "number", 0.5), ("b", "integer", 3), ("c", "text", "x"), ("d", "json", "[1]")):
        item = record.history.item.add()
        item.key = name
        setattr(item, field, value)
    path.write_bytes(HEADER + log(record.SerializeToString()))
    assert list(RunFile(path).rows()) == [{"a": 0.5, "b": 3, "c": "x", "d": [1]}]
