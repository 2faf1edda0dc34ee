"""The loggers of other people's tools pass the same contract, read back with those tools' own readers."""

import json
import struct
from math import inf, nan
from pathlib import Path

import pytest

from ridgepole.permanences import TensorBoardLogger, WandBLogger
from ridgepole.testing import LoggerContract


class TestTensorBoardLogger(LoggerContract):
    def make_logger(self, tmp_path):
        return TensorBoardLogger(tmp_path / "events")

    def read_back(self, logger, tmp_path):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        reader = EventAccumulator(str(tmp_path / "events"), size_guidance={"scalars": 0})
        reader.Reload()
        return [(event.step, tag, event.value) for tag in reader.Tags()["scalars"] for event in reader.Scalars(tag)]


class TestWandBLogger(LoggerContract):
    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch):
        self.environment = monkeypatch

    def make_logger(self, tmp_path):
        self.environment.setenv("WANDB_DIR", str(tmp_path))
        return WandBLogger(project="contract", mode="offline")

    def read_back(self, logger, tmp_path):
        from wandb.proto.wandb_internal_pb2 import Record

        directory = Path(logger.get_state()["sync_dir"])
        (path,) = directory.glob("*.wandb")
        for data in wandb_records(path.read_bytes()):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                # a picture is a mapping, whose entries have keys of several parts
                items = [item for item in record.history.item if len(item.nested_key) < 2]
                row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
                step = row.pop("step")
                for name, value in row.items():
                    if not name.startswith("_"):
                        yield step, name, {"NaN": nan, "Infinity": inf, "-Infinity": -inf}.get(str(value), value)


def wandb_records(data):
    """The records of a `.wandb` file: LevelDB's log format (blocks of 32 KiB), behind a header of 7 bytes."""
    assert data[:4] == b":W&B"
    at, record = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield record
            record = b""
