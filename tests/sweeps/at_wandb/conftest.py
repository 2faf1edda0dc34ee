"""Surroundings for sweeps at W&B: a server on loopback, nobody's account, agents that ask often."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # for the modules there that are no tests

from wandb_server import KEY, SweepServer

QUICK = """
import sys
if "ridgepole.sweeps.wandb.agent" in " ".join(sys.orig_argv):
    import wandb.agents.pyagent
    wandb.agents.pyagent.Agent.HEARTBEAT_SLEEP_SECONDS = 0.1
"""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "sitecustomize.py").write_text(QUICK)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "quick"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(monkeypatch):
    one = SweepServer()
    monkeypatch.setenv("WANDB_BASE_URL", one.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    yield one
    one.close()
