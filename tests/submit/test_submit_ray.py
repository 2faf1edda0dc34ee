"""`ridgepole submit` on a real Ray cluster of one node."""

import json
import os
import signal
import time

import job_project
import psutil
import pytest
from sweep_places import Head

from isolation import send
from ridgepole.checkpoint import CheckpointStore
from ridgepole.rundir import list_runs

pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def head():
    made = Head()
    yield made
    made.kill()


@pytest.fixture
def call(ridgepole, tmp_path):
    job_project.write_project(tmp_path / "project")

    def call(*arguments, code=0):
        done = ridgepole("submit", *arguments, cwd=tmp_path / "project", timeout=150, NO_COLOR="1")
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    return call


def until(ready, what):
    limit = time.monotonic() + 90
    while not ready():
        assert time.monotonic() < limit, f"{what} never came"
        time.sleep(0.1)


def test_a_job_runs_to_its_end_and_one_that_no_node_can_run_is_refused(head, call, tmp_path):
    (tmp_path / "project" / "enough").touch()
    job = json.loads(call("work.toml", "--executor", "ray", "--address", head.address, "--json"))
    until(lambda: json.loads(call("status", job["job"][:14], "--json"))["state"] == "finished", "the end")
    (run,) = list_runs(tmp_path / "project" / "runs")
    assert run.status == "finished"
    assert call("logs").count("step ") == 5
    errors = call("work.toml", "--executor", "ray", "--address", head.address, "--nodes", "2", code=2)
    assert "1 of the 1 nodes of the Ray cluster have CPU 1, and the job needs 2" in errors
    assert len(list((tmp_path / "project" / "runs" / ".jobs").glob("2*"))) == 1


@pytest.mark.torture
@pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")
def test_a_job_survives_a_lost_worker_and_is_cancelled_with_a_checkpoint(head, call, tmp_path):
    """The job outlives the command that has submitted it."""
    job = json.loads(call("work.toml", "--executor", "ray", "--address", head.address, "--json"))
    folder = tmp_path / "project"
    log = folder / "runs" / ".jobs" / job["job"] / "job.log"
    until(lambda: len(job_project.steps(log)) >= 5, "five steps")
    (run,) = list_runs(folder / "runs")
    trainer = psutil.Process(run.fields["pid"])
    send(trainer.ppid(), signal.SIGKILL)  # Ray's worker, as when its node vanishes: the kernel ends the run with it
    until(lambda: json.loads(call("status", "latest", "--json"))["starts"] == 2, "the second start")
    assert "does the same and is" in call("work.toml", "--executor", "ray", "--address", head.address, code=2)
    before = len(job_project.steps(log))
    until(lambda: len(job_project.steps(log)) > before + 3, "further steps")
    call("cancel", job["job"])
    until(lambda: json.loads(call("status", "latest", "--json"))["state"] == "cancelled", "the end")
    (run,) = list_runs(folder / "runs")
    assert (run.status, run.fields["attempt"]) == ("interrupted", 2)
    assert CheckpointStore(run.path / "checkpoints").list()[-1].step == job_project.steps(log)[-1]


def test_a_cluster_that_is_not_there_and_options_of_slurm_are_refused(call, tmp_path):
    errors = call("work.toml", "--executor", "ray", "--address", "127.0.0.1:1", code=2)
    assert "no Ray cluster listens at 127.0.0.1:1" in errors
    assert "give --address HOST:PORT or 'auto'" in call("work.toml", "--executor", "ray", code=2)
    assert "--time can't be used with --executor ray" in call("work.toml", "--executor", "ray", "--time", "1", code=2)
    assert list((tmp_path / "project" / "runs" / ".jobs").glob("2*")) == []
