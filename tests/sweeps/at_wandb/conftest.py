"""Surroundings for sweeps at W&B: a server on loopback, nobody's account, agents that ask often."""

import pytest

from wandb_server import KEY, SweepServer, forget_account

QUICK = """
import sys
if "ridgepole.sweeps.wandb.agent" in " ".join(sys.orig_argv):
    import wandb.agents.pyagent
    wandb.agents.pyagent.Agent.HEARTBEAT_SLEEP_SECONDS = 0.1
"""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path, quick_python):
    forget_account(monkeypatch, tmp_path / "home")
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "sitecustomize.py").write_text(QUICK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "quick"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(monkeypatch):
    one = SweepServer()
    monkeypatch.setenv("WANDB_BASE_URL", one.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    yield one
    one.close()
