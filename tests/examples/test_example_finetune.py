"""The Hugging Face example, shortened: a model from scratch, and the same model fine-tuned."""

import importlib.util
from pathlib import Path

import pytest

from ridgepole import read_metrics
from ridgepole.rundir import list_runs

SCRIPT = Path(__file__).parents[2] / "examples" / "finetune" / "train.py"


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs transformers")
def test_a_trained_model_is_fine_tuned(tmp_path, torch_server):
    def train(*words):
        done = torch_server.call("--epochs", "3", *words, cwd=tmp_path, script=SCRIPT, HF_HUB_OFFLINE="1")
        assert done.returncode == 0, done.stdout + done.stderr
        run = next(list_runs(tmp_path / "runs"))
        metrics = read_metrics(run.path)
        losses = metrics.filter(name="loss")["value"].to_list()
        assert losses[-1] < losses[0]
        assert len(metrics.filter(name="accuracy")) == 3
        return run

    base = train()
    tuned = train("--base", str(base.path / "model"))
    assert tuned.json("config.resolved.json")["params"]["base"] == str(base.path / "model")
    for run in (base, tuned):
        assert (run.path / "model" / "model.safetensors").is_file()
