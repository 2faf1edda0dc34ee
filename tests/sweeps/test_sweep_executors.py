"""What is the same on every executor: values, pruning, failures, retries, stopping, killed workers and drivers."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import sweep_helpers as helpers
from sweep_places import on_executors

from isolation import send
from ridgepole.errors import MissingExtraError
from ridgepole.extras import install_command
from ridgepole.rundir import read_run
from ridgepole.sweeps import load_sweep, run_sweep, sweep_pipeline, sweep_program

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sweep_of(values, place, **more):
    config = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"x": {"values": list(values)}}}
    return config | {"ridgepole": place} | more


def start(*arguments, cwd):
    """`ridgepole sweep ...` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ridgepole", "sweep", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def steps(root: Path) -> list[str]:
    return [line.split()[1] for line in (root / "steps").read_text().splitlines()]


@pytest.mark.parametrize(
    ("executor", "package", "extra"),
    [("ray", "ray", "ray"), ("ray", "cloudpickle", "ray"), ("slurm", "submitit", "slurm")],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(executor, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"needs {package}, .*{re.escape(install_command(extra))}"):
        run_sweep(helpers.square, sweep_of([1], {"executor": executor}), progress=False)
    assert not Path("runs").exists(), "nothing was made"


@pytest.mark.usefixtures("fresh_python")
@on_executors()
def test_the_same_file_gives_the_same_trials(toy, grid, toy_loss, place):
    grid["parameters"]["lr"]["values"] = [0.1, 0.9]
    root = toy(grid | {"ridgepole": place})
    result = sweep_pipeline("sweep.json", progress=False)
    assert result.status == "finished"
    told = [(trial.number, trial.status, trial.params, trial.value, trial.attempts) for trial in result.trials]
    wanted = [(lr, epochs) for lr in (0.1, 0.9) for epochs in (2, 3)]
    assert told == [
        (number, "finished", {"lr": lr, "train.epochs": epochs}, toy_loss(lr, epochs), 1)
        for number, (lr, epochs) in enumerate(wanted)
    ]
    assert all(read_run(root / "runs" / trial.run).fields["sweep"]["trial"] == trial.number for trial in result.trials)


PROGRAM = """
import argparse, json
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
given = parser.parse_args()
print(json.dumps({"loss": given.x / 2}))
"""


@on_executors("slurm", "ray")
def test_an_unchanged_script_runs_there(place):
    Path("train.py").write_text(PROGRAM)
    metric = {"metric": {"name": "loss", "from": "stdout"}, "program": "train.py"}
    result = sweep_program(sweep_of([3.0, 5.0], place, **metric), progress=False)
    assert [(trial.status, trial.value, trial.error) for trial in result.trials] == [
        ("finished", 1.5, ""),
        ("finished", 2.5, ""),
    ]
    runs = [read_run(Path("runs") / trial.run) for trial in result.trials]
    assert [(run.status, run.fields["exit_code"]) for run in runs] == [("finished", 0)] * 2
    assert [run.fields["script"]["command"][2:] for run in runs] == [["train.py", "--x=3.0"], ["train.py", "--x=5.0"]]
    assert all('"loss"' in (run.path / "console.log").read_text() for run in runs)


@on_executors()
def test_pruning_reaches_the_trial(place):
    config = sweep_of([1, 2], place | {"workers": 1}, early_terminate={"type": "hyperband", "min_iter": 5})
    result = run_sweep(helpers.prunable, config, progress=False)
    assert [trial.status for trial in result.trials] == ["finished", "pruned"]
    assert result.trials[1].value == 1.0


@on_executors()
def test_a_failing_trial_fails_alone(place):
    result = run_sweep(helpers.endings, sweep_of([3, 5, 6], place), progress=False)
    assert [trial.status for trial in result.trials] == ["failed", "failed", "finished"]
    assert result.trials[0].error == "ValueError: three"
    assert result.trials[1].error == "TypeError: run_once must return a number, not str"


@on_executors()
def test_a_retry_goes_on_from_the_checkpoint(toy, grid, toy_loss, place):
    grid["parameters"] = {"lr": {"values": [0.5]}, "train.epochs": {"value": 5}, "fail_at": {"value": 3}}
    root = toy(grid | {"ridgepole": place | {"on_trial_error": "retry"}})
    (root / "mends").touch()
    (trial,) = sweep_pipeline("sweep.json", progress=False).trials
    assert (trial.status, trial.attempts, trial.value, len(trial.runs)) == ("finished", 2, toy_loss(0.5, 5), 1)
    assert steps(root) == ["1", "2", "3", "4", "5"]


@on_executors("process", "slurm", "ray")
def test_the_trial_of_a_killed_worker_goes_on_from_its_checkpoint(toy, grid, toy_loss, place, capfd):
    grid["parameters"] = {"lr": {"values": [0.5, 0.1]}, "train.epochs": {"value": 5}, "fail_at": {"value": 3}}
    grid["parameters"]["how"] = {"value": "SIGKILL"}
    root = toy(grid | {"ridgepole": place | {"on_trial_error": "retry", "workers": 1}})
    (root / "mends").touch()
    result = sweep_pipeline("sweep.json", progress=False)
    assert [(trial.status, trial.attempts) for trial in result.trials] == [("finished", 2), ("finished", 1)]
    assert result.trials[0].value == toy_loss(0.5, 5)
    assert len(result.trials[0].runs) == 1
    assert steps(root)[:5] == ["1", "2", "3", "4", "5"]
    told = capfd.readouterr().err
    reasons = {"process": "its worker process was killed", "slurm": "its job", "ray": "its Ray task ended with"}
    assert f"trial 0 failed and will be tried again: {reasons[place['executor']]}" in told


@on_executors("slurm", "ray")
def test_ctrl_c_leaves_a_checkpoint_and_resume_goes_on_from_it(toy, grid, toy_loss, ridgepole, place):
    """Of the whole terminal, as a real one is: no task may get it but through the driver."""
    grid["parameters"] = {"lr": {"values": [0.5]}, "train.epochs": {"value": 40}, "train.pause": {"value": 0.05}}
    root = toy(grid | {"ridgepole": place})
    driver = subprocess.Popen(
        [sys.executable, "-m", "ridgepole", "sweep", "start", "sweep.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        start_new_session=True,
    )
    helpers.until(lambda: "0.5 2\n" in text_of(root / "steps"), what="a tick")
    send(driver.pid, signal.SIGINT, group=True)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130, errors
    stopped = load_sweep()
    assert (stopped.status, stopped.counts) == ("interrupted", {"waiting": 1})
    run = read_run(root / "runs" / stopped.trials[0].run)
    assert run.status == "interrupted"
    done = ridgepole("sweep", "resume")
    assert done.returncode == 0, done.stderr
    (trial,) = load_sweep().trials
    assert (trial.status, trial.attempts, trial.run) == ("finished", 2, run.id)
    assert trial.value == toy_loss(0.5, 40)
    assert steps(root) == [str(step) for step in range(1, 41)], "no step is missing, none was done twice"


@on_executors("slurm", "ray")
def test_two_ctrl_c_end_what_does_not_listen(place):
    driver = helpers.drive("deaf", sweep_of([1], place))
    helpers.until(Path("begun0").exists, what="the trial")
    pid = int(Path("begun0").read_text())
    driver.send_signal(signal.SIGINT)
    time.sleep(1)  # it asks the worker, which does not listen
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130, errors
    assert load_sweep().counts == {"waiting": 1}
    helpers.until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", what="its end")


@on_executors("slurm", "ray")
def test_a_sweep_whose_driver_is_killed_is_complete_and_exact_after_a_resume(toy, grid, toy_loss, ridgepole, place):
    grid["parameters"] = {"lr": {"values": [0.1, 0.5, 0.9]}, "train.epochs": {"value": 20}, "pause": {"value": 0.05}}
    root = toy(grid | {"ridgepole": place})
    driver = start("start", "sweep.json", cwd=root)
    helpers.until(lambda: text_of(root / "steps").count(" 2\n") == 2, what="a tick of both")
    driver.kill()
    driver.communicate()
    assert load_sweep().status == "crashed"
    done = ridgepole("sweep", "resume", timeout=100)
    assert done.returncode == 0, done.stderr
    result = load_sweep()
    assert [(trial.number, trial.status, trial.value) for trial in result.trials] == [
        (number, "finished", toy_loss(lr, 20)) for number, lr in enumerate((0.1, 0.5, 0.9))
    ]
    assert len({trial.run for trial in result.trials}) == 3
    assert len(steps(root)) == 60, "no step is missing, none was done twice"
    if place["executor"] == "slurm":
        assert [trial.attempts for trial in result.trials] == [1, 1, 1], "jobs outlive their driver"
