"""A run replayed into other people's tools, read back with their own readers."""

import json
import os
import struct

import numpy as np
import pytest
from matplotlib.figure import Figure

from ridgepole import Pipeline, process
from ridgepole.errors import RunDirError
from ridgepole.export import export_run, refill
from ridgepole.loggers.media_types import AnnotatedImage, Box, Histogram, Mask, Table
from ridgepole.permanences import BaseLoggerManager, BasicLogger, NullLogger


@process
def everything(logger: BaseLoggerManager):
    for step in range(3):
        logger.log_metrics({"loss": 0.5 - step / 8, "note": "fine"})
    logger.log_metrics({"loss": 4.0}, step=1)
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([1, 2])
    logger.log_figure("curve", figure)
    logger.log_image(
        "street",
        np.full((6, 8, 3), 7, np.uint8),
        masks={"truth": {"labels": np.eye(6, 8, dtype=int), "names": {1: "road"}}},
        boxes={"found": [{"corners": (1, 1, 4, 5), "label": 2, "name": "car", "score": 0.5}]},
    )
    logger.log_table("worst", {"file": ["a.png", 'b "quoted", é'], "loss": [1.5, None]}, step=2)
    logger.log_histogram("weights", [1.0, 2.0, 2.0, float("nan")], bins=2)
    logger.log_text("sample", "some *text*\n" * 3)
    logger.log_text("long", "x" * 100_000)
    logger.log_hparams({"lr": 0.1, "nested": {"kind": "adam", "none": None}}, {"accuracy": 0.75})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Pipeline("all", progress=False, seed=3).process("work", everything).run(tmp_path_factory.mktemp("r")).path


class Hooks(NullLogger):
    """Keeps what reaches the hooks."""

    def __init__(self):
        self.got = []
        self.flushed = 0

    def log_rendered(self, name, rendered, *, step=None):
        self.got.append(("figure", name, rendered, step))

    def _log_image(self, name, image, step):
        self.got.append(("image", name, image, step))

    def _log_table(self, name, table, step):
        self.got.append(("table", name, table, step))

    def _log_histogram(self, name, histogram, step):
        self.got.append(("histogram", name, histogram, step))

    def _log_text(self, name, text, step):
        self.got.append(("text", name, text, step))

    def _log_hparams(self, params, metrics, step):
        self.got.append(("hparams", params, metrics, None))

    def flush(self, durable=False):
        self.flushed += 1


def test_media_reach_the_hooks_as_they_were_given(run):
    sink = Hooks()
    done = refill(run, sink)
    assert done.skipped == ()
    assert done.media == 7
    kinds = [(kind, name) for kind, name, *_ in sink.got[:-1]]
    assert kinds == [("figure", "curve"), ("image", "street"), ("table", "worst"), ("histogram", "weights"),
                     ("text", "sample"), ("text", "long")]  # fmt: skip
    figure, image, table, histogram, text, long, hparams = sink.got
    assert [entry[3] for entry in sink.got] == [1, 1, 2, 1, 1, 1, None]
    assert figure[2].data.startswith(b"\x89PNG")
    assert isinstance(image[2], AnnotatedImage)
    assert (image[2].pixels == 7).all(), "the picture without what is drawn into it"
    mask = image[2].masks["truth"]
    assert isinstance(mask, Mask)
    assert (np.asarray(mask.labels) == np.eye(6, 8)).all()
    assert mask.names == {1: "road"}
    assert image[2].boxes == {"found": (Box((1, 1, 4, 5), label=2, name="car", score=0.5),)}
    assert table[2] == Table(("file", "loss"), (("a.png", 1.5), ('b "quoted", é', None)))
    assert histogram[2] == Histogram(counts=(1, 2), edges=(1.0, 1.5, 2.0), total=5.0, squares=9.0, nonfinite=1, nan=1)
    assert text[2] == "some *text*\n" * 3
    assert long[2] == "x" * 100_000
    assert hparams[1:3] == ({"lr": 0.1, "nested/kind": "adam", "nested/none": None}, {"accuracy": 0.75})


def test_media_into_another_local_record(run, tmp_path):
    with BasicLogger(tmp_path) as copy:
        assert refill(run, copy).media == 7
    one, two = Hooks(), Hooks()
    refill(run, one)
    refill(tmp_path, two)
    plain = [[(kind, name, step) for kind, name, _, step in sink.got if kind != "hparams"] for sink in (one, two)]
    assert plain[0] == plain[1]
    assert one.got[2] == two.got[2]
    assert one.got[-1] == two.got[-1]


def test_damaged_media_are_named_and_the_rest_goes_on(run, tmp_path):
    with BasicLogger(tmp_path) as copy:
        refill(run, copy)
    (table,) = (tmp_path / "tables").iterdir()
    table.write_bytes(b'"a"\r\n1,2\r\n')
    (text,) = (tmp_path / "texts").iterdir()
    text.unlink()
    (tmp_path / "hparams.json").write_text("{")
    (mask,) = (tmp_path / "figures").glob("*.mask0.png")
    mask.write_bytes(b"")
    done = refill(tmp_path, Hooks())
    assert done.media == 3
    assert sorted(reason.split(": ")[0] for reason in done.skipped) == [
        "hyperparameters", "image 'street' of step 1", "table 'worst' of step 2", "text 'long' of step 1"]  # fmt: skip


def test_a_backend_with_a_queue_is_flushed_on_the_way(tmp_path):
    with BasicLogger(tmp_path) as logger:
        for i in range(2500):
            logger.log_metrics({"a": i})
    sink = Hooks()
    refill(tmp_path, sink)
    assert sink.flushed == 3


def test_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = export_run(run, "tensorboard")
    assert done.path == run / "export" / "tensorboard"
    assert (done.records, done.media, done.skipped) == (4, 7, ())
    reader = EventAccumulator(str(done.path), size_guidance={"scalars": 0, "images": 0})
    reader.Reload()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    wanted = [(line["step"], line["metrics"]["loss"], line["time"]) for line in lines]
    assert [(event.step, event.value, event.wall_time) for event in reader.Scalars("loss")] == wanted
    assert {"curve", "street"} <= set(reader.Tags()["images"])
    (curve,) = reader.Images("curve")
    (file,) = [json.loads(x)["file"] for x in (run / "media.jsonl").read_text().splitlines() if '"curve"' in x]
    assert curve.encoded_image_string == (run / file).read_bytes()
    assert "weights" in reader.Tags()["histograms"] + reader.Tags()["tensors"]


@pytest.mark.process
def test_wandb_off_line(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    done = export_run(run, "wandb", tmp_path / "out")
    assert (done.records, done.media, done.skipped) == (4, 7, ())
    (file,) = (tmp_path / "out").rglob("*.wandb")
    assert run.name in file.name
    assert file.name != f"run-{run.name}.wandb", "a run of its own: the one that was logged live has all of it already"
    rows = [row for row in wandb_history(file.read_bytes()) if "loss" in row]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["_timestamp"] for row in rows] == [line["time"] for line in lines]
    assert [(row["step"], row["loss"]) for row in rows] == [(0, 0.5), (1, 0.375), (2, 0.25), (1, 4.0)]
    assert not list(run.glob("wandb*")), "the run itself is only read"
    assert json.loads((tmp_path / "out/export.json").read_text())["complete"]


def test_wandb_without_a_key_leaves_nothing(run, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(Exception, match=r"(?i)key"):
        export_run(run, "wandb", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_backend_that_drops_records_makes_no_export(run, tmp_path, monkeypatch):
    from ridgepole.loggers.tensorboard import TensorBoardLogger

    state = TensorBoardLogger.get_state
    monkeypatch.setattr(TensorBoardLogger, "get_state", lambda self: state(self) | {"dropped": 2})
    with pytest.raises(RunDirError, match="TensorBoardLogger lost 2 records"):
        export_run(run, "tensorboard", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def wandb_history(data):
    """The history of a `.wandb` file: LevelDB's log format (blocks of 32 KiB), behind a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

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
            parsed, record = Record.FromString(record), b""
            if parsed.WhichOneof("record_type") == "history":
                items = [item for item in parsed.history.item if len(item.nested_key) < 2]
                yield {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
