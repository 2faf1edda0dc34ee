"""An import needs no more memory for a large store than for a small one."""

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from ridgepole.loggers.tensorboard.records import framed, scalars_event

BLOCK = 32 * 1024
WIDE = 24 << 10  # KiB; a reader that kept the large file would need more than all of its 40 MB
PROGRAM = """
import re, sys
from pathlib import Path
from ridgepole.importers import import_runs

(done,) = import_runs(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
status = Path("/proc/self/status").read_text()
print(done.values, re.search(r"VmHWM:\\s+(\\d+)", status)[1])
"""


def write_wandb(folder, rows):
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    at = 7
    with (folder / "run-x.wandb").open("wb") as file:
        file.write(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
        for number in range(rows):
            record = pb.Record()
            for name, value in (("_step", number), ("loss", 1 / (number + 1)), ("text", "x" * 4000)):
                item = record.history.item.add()
                item.nested_key.append(name)
                item.value_json = json.dumps(value)
            data, first = record.SerializeToString(), True
            while first or data:
                left = BLOCK - at % BLOCK
                if left < 7:
                    at += file.write(bytes(left))
                    continue
                piece, data = data[: left - 7], data[left - 7 :]
                kind = (1 if not data else 2) if first else (4 if not data else 3)
                crc = zlib.crc32(piece, zlib.crc32(bytes((kind,))))
                at += file.write(struct.pack("<IHB", crc, len(piece), kind) + piece)
                first = False
    return 2 * rows


def write_events(folder, rows):
    pytest.importorskip("tensorboard")
    metrics = {f"a rather long name of a metric, number {number}": 0.5 for number in range(50)}
    with (folder / "events.out.tfevents.1.host").open("wb") as file:
        for number in range(rows):
            file.write(framed(scalars_event(metrics, number, 1.7e9 + number)))
    return 50 * rows


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc for the peak of a process's memory")
@pytest.mark.parametrize(
    ("kind", "write", "few", "many"), [("wandb", write_wandb, 100, 10_000), ("tensorboard", write_events, 40, 4000)]
)
def test_a_large_store_needs_the_memory_of_a_small_one(tmp_path, kind, write, few, many):
    peaks = []
    for rows in (few, many):
        folder = tmp_path / str(rows)
        folder.mkdir()
        values = write(folder, rows)
        command = [sys.executable, "-c", PROGRAM, kind, str(folder), str(tmp_path / f"runs-{rows}")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        found, peak = map(int, done.stdout.split())
        assert found == values
        peaks.append(peak)
    small, large = peaks
    assert large < small + WIDE
