"""Values of tensors are those of the moment of the call, and a GPU is not waited for."""

import json
import threading

import numpy as np
import pytest
import torch

from ridgepole.errors import LogWriteError
from ridgepole.loggers.local import background
from ridgepole.metrics import LOSS_CURVE, MetricRecord, batch_loss, load_metrics, validation_loss, values
from ridgepole.permanences import BaseLoggerManager, BasicLogger, LoggerGroup


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("make", [torch.tensor, np.array], ids=["torch", "numpy"])
@pytest.mark.parametrize("value", [1.5, [1.5, 2.5], [[1.5] * 8] * 8])
def test_a_value_changed_after_the_call_is_logged_as_it_was(tmp_path, make, value):
    held = make(value)
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"a": held, "nested": {"b": held}})
        logger.log_metrics(MetricRecord("c", held))
        held[...] = -7
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "-7" not in text
    assert text.count("1.5") >= 3


class Gpu:
    """A device whose copies arrive when the test says so."""

    def __init__(self):
        self.done = threading.Event()
        self.copies = 0

    def tensor(self, value):
        return torch.tensor(value).as_subclass(OnGpu)

    def copy(self, tensor):
        self.copies += 1
        return tensor.detach().as_subclass(torch.Tensor).clone(), self

    def query(self):
        return self.done.is_set()

    def synchronize(self):
        assert self.done.wait(60), "the copy never arrived"


class OnGpu(torch.Tensor):
    is_cuda = True

    def item(self):
        raise AssertionError("the GPU is waited for")

    tolist = item


@pytest.fixture
def gpu(monkeypatch):
    made = Gpu()
    monkeypatch.setattr(values, "copy_to_host", made.copy)
    yield made
    made.done.set()


def test_the_loop_does_not_wait(gpu, tmp_path):
    with BasicLogger(tmp_path) as logger:
        held = gpu.tensor(0.5)
        logger.log_metrics({"loss": held, "cpu": 1.0})
        held.zero_()
        logger.log_metrics(batch_loss(gpu.tensor(0.25)))
        logger.log_metrics([validation_loss(gpu.tensor([1.0, 2.0]))], step=9)
        assert (logger.global_step, logger.last_step) == (10, 1)
        logger.log_metrics({"cpu": 2.0})
        assert [line["metrics"] for line in lines(tmp_path)] == [{"cpu": 2.0}], "something was written before its time"
        gpu.done.set()
        logger.flush()
        by_step = {(line["step"], *line["metrics"]): line["metrics"] for line in lines(tmp_path)}
        assert by_step == {
            (0, "loss", "cpu"): {"loss": 0.5, "cpu": 1.0},
            (1, "train/batch_loss"): {"train/batch_loss": 0.25},
            (9, "validation/loss"): {"validation/loss": [1.0, 2.0]},
            (10, "cpu"): {"cpu": 2.0},
        }
        assert logger.summary()["metrics"]["loss"]["last"] == 0.5
    seqs = [line["seq"] for line in lines(tmp_path)]
    assert sorted(seqs) == list(range(4))


@pytest.mark.parametrize("read", ["checkpoint", "summary", "curve", "cleanup", "durable"])
def test_every_reader_waits_for_the_gpu(gpu, tmp_path, read):
    logger = BasicLogger(tmp_path)
    logger.log_metrics({"loss": gpu.tensor(0.5)})
    threading.Timer(0.2, gpu.done.set).start()
    {"checkpoint": logger.checkpoint, "summary": logger.summary, "curve": lambda: logger.log_metric_figure(LOSS_CURVE),
     "cleanup": logger.cleanup, "durable": lambda: logger.flush(durable=True)}[read]()  # fmt: skip
    assert load_metrics(tmp_path).frame["value"].to_list() == [0.5]
    logger.cleanup()
    assert json.loads((tmp_path / "summary.json").read_text())["metrics"]["loss"]["last"] == 0.5


def test_a_gpu_that_never_answers_does_not_keep_the_run(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(background.DeferredRecords.drain, "__defaults__", (0.2,))
    logger = BasicLogger(tmp_path)
    logger.log_metrics({"loss": gpu.tensor(0.5)})
    logger.log_metrics({"cpu": 1.0})
    with pytest.raises(LogWriteError, match="the GPU has not delivered 1 record"):
        logger.cleanup()
    assert [line["metrics"] for line in lines(tmp_path)] == [{"cpu": 1.0}]


def test_what_cannot_be_logged_is_refused_at_once(gpu, tmp_path):
    with BasicLogger(tmp_path) as logger:
        with pytest.raises(TypeError, match="name 7"):
            logger.log_metrics({"loss": gpu.tensor(0.5), 7: 1.0})
        with pytest.raises(ValueError, match="twice"):
            logger.log_metrics({"a/b": gpu.tensor(0.5), "a": {"b": 1}})
        assert logger.global_step == 0
    assert lines(tmp_path) == []


def test_a_late_record_that_cannot_be_written(gpu, tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    logger = BasicLogger(tmp_path)
    logger.log_metrics({"loss": gpu.tensor(0.5)})
    gpu.done.set()
    with pytest.raises(LogWriteError):
        logger.flush()
    logger.flush()
    logger.cleanup()


class Collector(BaseLoggerManager):
    def __init__(self):
        self.got = []

    def log_metrics(self, metrics, *, step=None):
        self.got += [(record.step, record.name, record.value) for record in self.resolve(metrics, step)]

    def log_figure(self, name, figure):
        pass

    def cleanup(self):
        pass


def test_other_loggers_get_plain_values_in_order(gpu, tmp_path):
    sink = Collector()
    with BasicLogger(tmp_path / "a") as basic, BasicLogger(tmp_path / "b") as second:
        group = LoggerGroup([sink, basic, second])
        group.log_metrics({"a": 1.0})
        group.log_metrics({"loss": gpu.tensor(0.5)})
        group.log_metrics({"a": 2.0})
        assert sink.got == [(0, "a", 1.0)]
        gpu.done.set()
        group.log_metrics({"a": 3.0})
        group.flush()
        assert sink.got == [(0, "a", 1.0), (1, "loss", 0.5), (2, "a", 2.0), (3, "a", 3.0)]
        assert gpu.copies == 1, "a value was fetched once for each logger"
        assert group.global_step == sink.global_step == 4
    for name in "ab":
        assert {line["step"]: line["metrics"] for line in lines(tmp_path / name)} == {
            0: {"a": 1.0}, 1: {"loss": 0.5}, 2: {"a": 2.0}, 3: {"a": 3.0}}  # fmt: skip


def test_a_logger_by_itself_waits(gpu):
    sink = Collector()
    gpu.done.set()
    sink.log_metrics({"loss": gpu.tensor(0.5)})
    assert sink.got == [(0, "loss", 0.5)]
