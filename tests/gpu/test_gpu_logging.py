"""Metrics of a real GPU: never waited for, and the values of the moment of the call."""

import json

import pytest
import torch

from ridgepole.metrics import MetricRecord, batch_loss
from ridgepole.permanences import BaseLoggerManager, BasicLogger, LoggerGroup

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture
def no_waiting():
    """Any synchronisation that PyTorch knows of is an error."""
    torch.empty(64, pin_memory=True)  # the first pinned memory is made before
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def values(directory, name):
    found = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["metrics"][name] for line in found if name in line["metrics"]}


def test_no_synchronisation_and_the_values_of_the_call(tmp_path, no_waiting):
    loss = torch.zeros((), device="cuda")
    with BasicLogger(tmp_path) as logger:
        for _ in range(200):
            loss += 1
            logger.log_metrics({"loss": loss, "vector": loss.repeat(3), "cpu": 1.0})
            logger.log_metrics(batch_loss(loss))
            logger.log_metrics([MetricRecord("half", loss.half()), {"array": loss.repeat(100)}])
            loss *= 1  # in place, right after
        torch.cuda.set_sync_debug_mode("default")
    assert values(tmp_path, "loss") == {3 * i: i + 1.0 for i in range(200)}
    assert values(tmp_path, "vector")[0] == [1.0, 1.0, 1.0]
    assert values(tmp_path, "half") == {3 * i + 2: i + 1.0 for i in range(200)}
    assert values(tmp_path, "array")[2]["mean"] == 1.0


def test_the_call_returns_while_the_gpu_is_busy(tmp_path):
    matrix = torch.randn(4096, 4096, device="cuda")
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"warm": matrix.sum()})
        logger.flush()
        for _ in range(200):
            matrix = torch.tanh(matrix @ matrix)
        done = torch.cuda.Event()
        logger.log_metrics({"mean": matrix.mean()})
        done.record()
        assert not done.query(), "log_metrics waited for the GPU"
        logger.flush()
    assert values(tmp_path, "mean").keys() == {1}


def test_a_group_waits_for_no_gpu_either(tmp_path, no_waiting):
    class Collector(BaseLoggerManager):
        got = ()

        def log_metrics(self, metrics, *, step=None):
            self.got = (*self.got, *(record.value for record in self.resolve(metrics, step)))

        def log_figure(self, name, figure):
            pass

        def cleanup(self):
            pass

    sink = Collector()
    with BasicLogger(tmp_path) as basic:
        group = LoggerGroup([basic, sink])
        loss = torch.ones((), device="cuda")
        for _ in range(50):
            group.log_metrics({"loss": loss})
            loss += 1
        torch.cuda.set_sync_debug_mode("default")
        group.flush()
    assert sink.got == tuple(range(1, 51))
