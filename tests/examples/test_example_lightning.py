"""The Lightning example, shortened."""

import importlib.util
from pathlib import Path

import pytest

from ridgepole import load_checkpoint, read_metrics
from ridgepole.rundir import list_runs

SCRIPT = Path(__file__).parents[2] / "examples" / "lightning" / "train.py"
EPOCHS, STEPS_PER_EPOCH = 3, 23


@pytest.mark.skipif(importlib.util.find_spec("pytorch_lightning") is None, reason="needs pytorch_lightning")
def test_it_learns_and_is_recorded(tmp_path, torch_server):
    done = torch_server.call("--epochs", str(EPOCHS), cwd=tmp_path, script=SCRIPT)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = list_runs(tmp_path / "runs")
    assert run.status == "finished"
    assert run.json("config.resolved.json")["params"] == {"width": 64, "lr": 0.003, "epochs": str(EPOCHS)}
    metrics = read_metrics(run.path)
    assert metrics.filter(name="loss")["step"].to_list() == list(range(EPOCHS * STEPS_PER_EPOCH))
    accuracies = metrics.filter(name="val/accuracy")["value"].to_list()
    assert len(accuracies) == EPOCHS
    assert accuracies[-1] > 0.8
    assert load_checkpoint(run.path, "latest")["state"]["trainer"]["global_step"] == EPOCHS * STEPS_PER_EPOCH
