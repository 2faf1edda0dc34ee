"""The executor `slurm` on a real SLURM, where there is one: a single node will do."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sweep_helpers as helpers

from ridgepole.sweeps import load_sweep, run_sweep, sweep_pipeline

pytestmark = pytest.mark.skipif(
    shutil.which("sbatch") is None or subprocess.run(["sinfo"], capture_output=True).returncode != 0,
    reason="needs a SLURM that answers: apt-get install slurm-wlm, and configure it",
)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


OURS = {"executor": "slurm", "workers": 2, "slurm": {"timeout_min": 60}}


def sweep_of(values):
    parameters = {"x": {"values": list(values)}}
    return {"method": "grid", "metric": {"name": "loss"}, "parameters": parameters, "ridgepole": OURS}


def job_of(trial: int) -> str:
    (name,) = (f"ridgepole-{load_sweep().id}-{trial}",)
    done = subprocess.run(["squeue", "--noheader", "--format=%i", f"--name={name}"], capture_output=True, text=True)
    return done.stdout.strip()


def test_trials_are_jobs(toy, grid, toy_loss):
    grid["parameters"]["lr"]["values"] = [0.1, 0.9]
    toy(grid | {"ridgepole": OURS})
    result = sweep_pipeline("sweep.json", progress=False)
    assert [trial.value for trial in result.trials] == [toy_loss(lr, epochs) for lr in (0.1, 0.9) for epochs in (2, 3)]
    assert len(list((result.path / "tasks").glob("*_submission.sh"))) == 4


@pytest.mark.parametrize(
    ("command", "ended"),
    [(["scancel"], ("failed", 1, "was cancelled")), (["scontrol", "requeue"], ("finished", 2, ""))],
    ids=["cancelled", "started anew"],
)
def test_a_job_that_somebody_ends(toy, grid, ridgepole, command, ended):
    grid["parameters"] = {"lr": {"values": [0.5]}, "train.epochs": {"value": 40}, "pause": {"value": 0.2}}
    root = toy(grid | {"ridgepole": OURS})
    driver = subprocess.Popen([sys.executable, "-m", "ridgepole", "sweep", "start", "sweep.json"], cwd=root)
    helpers.until((root / "steps").exists, what="a first step")
    time.sleep(0.5)
    subprocess.run([*command, job_of(0)], check=True)
    assert driver.wait(100) == (ended[0] == "failed"), "a sweep whose trials all failed ends with 1"
    (trial,) = load_sweep().trials
    assert (trial.status, trial.attempts) == ended[:2]
    assert ended[2] in trial.error


def test_a_driver_that_goes_on_takes_over_what_runs():
    driver = helpers.drive("endless", sweep_of([1]))
    helpers.until(Path("begun0").exists, what="the trial")
    driver.kill()
    driver.communicate()
    job = job_of(0)
    assert job, "it runs without its driver"
    again = helpers.drive("endless", sweep_of([1]), resume=load_sweep().id)
    time.sleep(3)
    assert job_of(0) == job
    again.send_signal(signal.SIGINT)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 130, errors
    assert load_sweep().counts == {"waiting": 1}
    result = run_sweep(helpers.square, sweep_of([1]), progress=False, resume="latest")
    assert [(trial.value, trial.attempts) for trial in result.trials] == [(4.0, 2)]
