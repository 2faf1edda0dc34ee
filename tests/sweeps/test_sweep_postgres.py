"""A sweep whose storage is a PostgreSQL server: Debian's own, started here on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import sweep_helpers as helpers

from programs import needs
from ridgepole.errors import SweepError
from ridgepole.sweeps import load_sweep, sweep_pipeline

pytest.importorskip("psycopg")
BIN = next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)
pytestmark = [
    needs("initdb", "postgresql", found=BIN),
    pytest.mark.fault("a sweep's storage locked or away: waited for and said; stopped, it goes on"),
]


class Cluster:
    """A server of its own, as the user `postgres` where the tests run as root: it refuses to run as that."""

    def __init__(self):
        self.home = Path(tempfile.mkdtemp(prefix="ridgepole-postgres-"))
        self.port = free_port()
        self._as = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if self._as:
            shutil.chown(self.home, "postgres")
        self.call("initdb", "-D", str(self.home / "data"), "-A", "trust", "-U", "ridge", "--no-sync")
        self.url = f"postgresql://ridge@127.0.0.1:{self.port}/postgres"

    def call(self, name, *arguments):
        command = [*self._as, str(BIN / name), *arguments]
        subprocess.run(command, check=True, cwd=self.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self):
        options = f"-p {self.port} -k {self.home} -h 127.0.0.1 -F"
        self.call("pg_ctl", "-D", str(self.home / "data"), "-o", options, "-w", "start")

    def stop(self):
        self.call("pg_ctl", "-D", str(self.home / "data"), "-m", "immediate", "-w", "stop")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def cluster():
    made = Cluster()
    made.start()
    yield made
    made.stop()
    shutil.rmtree(made.home)


def test_two_sweeps_share_a_database(cluster, toy, grid, toy_loss):
    toy(grid | {"ridgepole": {"storage": cluster.url}})
    results = [sweep_pipeline("sweep.json", progress=False) for _ in range(2)]
    assert results[0].id != results[1].id
    for result in results:
        assert result.counts == {"finished": 6}
        for trial in result.trials:
            assert trial.value == toy_loss(trial.params["lr"], trial.params["train.epochs"])
        assert load_sweep(result.id).trials == result.trials


def test_a_server_that_is_away_for_a_moment(cluster, toy, grid, capfd):
    """It dies without a word in the middle; the driver waits, says so, and records what it had to."""
    grid["parameters"]["pause"] = {"value": 0.1}
    toy(grid | {"ridgepole": {"storage": cluster.url}})

    def go_away():
        helpers.until((Path.cwd() / "steps").exists, what="the first trial")
        cluster.stop()
        time.sleep(2.0)
        cluster.start()

    timer = threading.Thread(target=go_away)
    timer.start()
    result = sweep_pipeline("sweep.json", progress=False)
    timer.join()
    assert result.counts == {"finished": 6}
    assert len({tuple(trial.params.items()) for trial in result.trials}) == 6
    assert "is locked or unreachable" in capfd.readouterr().err


def test_a_driver_that_is_killed(cluster, toy, grid, tmp_path, ridgepole):
    grid["parameters"]["pause"] = {"value": 0.1}
    toy(grid | {"ridgepole": {"storage": cluster.url, "executor": "process", "workers": 2}})
    command = [sys.executable, "-m", "ridgepole", "sweep", "start", "sweep.json"]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    steps = tmp_path / "steps"
    while not steps.exists() or len(steps.read_text().splitlines()) < 6:
        assert driver.poll() is None, "it has ended before it could be killed"
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    done = ridgepole("sweep", "resume", timeout=100)
    assert done.returncode == 0, done.stderr
    result = load_sweep()
    assert result.counts == {"finished": 6}
    assert len({tuple(trial.params.items()) for trial in result.trials}) == 6


def test_a_server_that_is_not_there(toy, grid, monkeypatch):
    monkeypatch.setattr("ridgepole.sweeps.study.storage.PATIENCE", 1.0)
    toy(grid | {"ridgepole": {"storage": f"postgresql://ridge:secret@127.0.0.1:{free_port()}/postgres"}})
    with pytest.raises(SweepError, match=r"ridge:\*\*\*@127.* can't be used for 1 s now.*sweep resume") as caught:
        sweep_pipeline("sweep.json", progress=False)
    assert "secret" not in str(caught.value)
