"""`run_sweep(main)` with functions that are written for `wandb.agent`, without W&B's service."""

import os
from pathlib import Path

import pytest

from ridgepole.sweeps import run_sweep

wandb = pytest.importorskip("wandb")

# The client leaves the file of a sweep's parameters open
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
GRID = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"lr": {"values": [0.1, 0.2]}}}
QUIET = {
    "WANDB_X_DISABLE_STATS": "true",
    "WANDB_X_DISABLE_META": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_SILENT": "true",
}


@pytest.fixture(autouse=True)
def _no_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


def main():
    with wandb.init(config={"lr": 77.0, "kept": 1}) as run:
        assert run.config.kept == 1
        assert run.offline
        for step in range(4):
            run.log({"loss": run.config.lr / (step + 1), "inner": {"accuracy": step}})
            wandb.log({"inner": {"accuracy": 10 + step}})


def values(result):
    return [(trial.params["lr"], trial.value, trial.status, trial.error) for trial in result.trials]


def test_a_function_for_wandbs_agent_is_a_trial(tmp_path):
    before = dict(os.environ)
    result = run_sweep(main, GRID, progress=False)
    assert values(result) == [(0.1, 0.025, "finished", ""), (0.2, 0.05, "finished", "")]
    assert dict(os.environ) == before
    assert not (tmp_path / "wandb").exists()
    assert len(list(result.path.rglob("run-*.wandb"))) == 2
    assert wandb.Run.log.__module__.startswith("wandb.")  # as before


def nested():
    with wandb.init() as run:
        run.log({"inner": {"accuracy": run.config.lr}})


def test_a_nested_metric_has_its_dotted_name():
    metric = {"name": "inner.accuracy", "goal": "maximize"}
    result = run_sweep(nested, GRID | {"metric": metric}, progress=False)
    assert result.best.params == {"lr": 0.2}


def endless():
    with wandb.init() as run:
        for _ in range(2 if run.config.lr < 0.3 else 10**9):
            run.log({"loss": run.config.lr})


def test_a_worse_trial_is_pruned_at_its_next_log_call():
    rule = {"type": "hyperband", "min_iter": 2, "eta": 2}
    parameters = {"lr": {"values": [0.1, 0.2, 0.3]}}
    result = run_sweep(endless, GRID | {"early_terminate": rule, "parameters": parameters}, progress=False)
    assert [trial.status for trial in result.trials] == ["finished", "finished", "pruned"]


def test_a_run_of_the_users_own_is_left_alone(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    with wandb.init(dir=Path.cwd()) as own:

        def objective(trial):
            wandb.log({"loss": 5.0})
            return trial.params["lr"]

        result = run_sweep(objective, GRID, progress=False)
        assert wandb.run is own
    assert [trial.value for trial in result.trials] == [0.1, 0.2]
