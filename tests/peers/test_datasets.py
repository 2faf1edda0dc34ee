"""Data sets of Hugging Face's as sources of a loop: what a killed run had not seen comes next."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("datasets", reason="make peers runs it where datasets is installed")

from fork_server import ForkServer

PIPELINE = """
[pipeline]
package = "datasets_job"
seed = 3
progress = false
checkpoint = { every_steps = 4 }

[permanences.seen]
type = "Seen"

[processes.train]
type = "train"
"""
LENGTHS = {"mapped": 15, "workers": 16, "loader": 15, "resumable": 15}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = ForkServer(
        tmp_path_factory.mktemp("server"), "torch", "datasets", "torchdata.stateful_dataloader", "ridgepole.cli"
    )
    yield server
    server.close()


def project(folder):
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("datasets_job.py"), folder)
    (folder / "job.toml").write_text(PIPELINE)
    return folder


@pytest.mark.parametrize(
    "name", ["iterable", "streamed", "mapped", "shards in another order", "buffer", "workers", "loader", "resumable"]
)
def test_a_killed_run_sees_each_item_once_and_in_order(server, tmp_path, name):
    environment = {"SOURCE": name, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    whole, cut = project(tmp_path / "whole"), project(tmp_path / "cut")
    done = server.call("run", "job.toml", cwd=whole, **environment)
    assert done.returncode == 0, done.stderr
    expected = json.loads((whole / "seen.json").read_text())
    assert len(expected) == LENGTHS.get(name, 60)

    killed = server.call("run", "job.toml", cwd=cut, KILL_AT="10", **environment)
    assert killed.returncode == -9, killed.stderr
    assert not (cut / "seen.json").exists()
    resumed = server.call("resume", "latest", cwd=cut, **environment)
    assert resumed.returncode == 0, resumed.stderr
    assert "begins again" not in resumed.stderr
    assert json.loads((cut / "seen.json").read_text()) == expected
