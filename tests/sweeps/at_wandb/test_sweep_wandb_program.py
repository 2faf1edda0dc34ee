"""Sweeps over a program whose trials W&B's server chooses: unchanged scripts, with and without its client."""

import json

import pytest

from ridgepole import read_metrics
from ridgepole.rundir import read_run
from ridgepole.sweeps import sweep_program

LOGS = """
import argparse
import wandb

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
given = parser.parse_args()
with wandb.init() as run:
    assert run.config.lr == given.lr
    for step in range(3):
        run.log({"loss": given.lr / (step + 1)})
"""
PRINTS = """
import json, sys
lr = float(sys.argv[1].partition("=")[2])
for step in range(3):
    print(json.dumps({"loss": lr / (step + 1)}), flush=True)
"""


@pytest.mark.parametrize("uses", ["its client", "standard output"])
def test_a_script_is_swept_and_logged_once(uses, server, tmp_path):
    client = uses == "its client"
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "train.py").write_text(LOGS if client else PRINTS)
    metric = {"name": "loss", "goal": "minimize"} | ({} if client else {"from": "stdout"})
    config = {
        "program": "train.py",
        "method": "grid",
        "project": "scripts",
        "metric": metric,
        "parameters": {"lr": {"values": [0.5]}},
        "ridgepole": {"executor": "wandb"},
    }
    (tmp_path / "beside" / "sweep.yaml").write_text(json.dumps(config))
    result = sweep_program("beside/sweep.yaml", progress=False)
    assert result.counts == {"finished": 1}, [trial.error for trial in result.trials]
    (trial,) = result.trials
    wanted = [0.5, 0.25, 0.5 / 3]
    assert trial.value == wanted[-1]
    assert [row["loss"] for row in server.rows["run000"]] == wanted, "each value once"
    assert server.exits["run000"] == 0
    frame = read_metrics(read_run(tmp_path / "runs" / trial.run).path)
    assert frame.filter(frame["name"] == "loss")["value"].to_list() == wanted
