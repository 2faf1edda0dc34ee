"""`ridgepole sweep start|resume|status|best`, and what `check` says of a sweep."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ridgepole.rundir import read_run
from ridgepole.sweeps import load_sweep, run_sweep


def start(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "ridgepole", "sweep", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_start_status_and_best(toy, grid, ridgepole, toy_loss):
    toy(grid | {"name": "first"})
    done = ridgepole("sweep", "start", "sweep.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("finished in ")
    assert "6 of 6 trials (6 finished)" in done.stdout
    assert "first: 6/6 done in" in done.stderr, "sparse lines where there is no terminal"
    shown = ridgepole("sweep", "status").stdout
    assert "first" in shown
    assert len([line for line in shown.splitlines() if " finished " in line]) == 6
    assert "5*" in shown
    best = ridgepole("sweep", "best").stdout
    assert "-s lr=0.9" in best
    assert "-s train.epochs=3" in best
    assert "ridgepole run " in best
    told = json.loads(ridgepole("sweep", "status", "--json").stdout)
    assert [trial["value"] for trial in told["trials"]][5] == toy_loss(0.9, 3)
    assert told["best"] == 5
    told = json.loads(ridgepole("sweep", "best", "--json").stdout)
    assert told["trial"]["number"] == 5
    assert told["settings"] == ["lr=0.9", "train.epochs=3", "pipeline.seed=1"]


def test_trials_stand_in_runs_ls_and_the_sweep_does_not(toy, grid, ridgepole):
    toy(grid)
    told = json.loads(ridgepole("sweep", "start", "sweep.json", "--count", "2", "--json").stdout)
    assert (told["limit"], told["counts"]) == (2, {"finished": 2})
    runs = json.loads(ridgepole("runs", "ls", "--json").stdout)
    assert [run["status"] for run in runs] == ["finished"] * 2
    assert {run["id"] for run in runs} == {trial["run"] for trial in told["trials"]}


def test_resume_with_a_larger_count_goes_on(toy, grid, ridgepole):
    toy(grid)
    assert ridgepole("sweep", "start", "sweep.json", "--count", "2").returncode == 0
    first = load_sweep()
    done = ridgepole("sweep", "resume", "--count", "5")
    assert done.returncode == 0, done.stderr
    again = load_sweep()
    assert (again.id, len(again.trials)) == (first.id, 5)
    assert again.trials[:2] == first.trials


def test_another_root_and_base_overrides(toy, grid, ridgepole, toy_loss):
    grid["parameters"] = {"lr": {"values": [0.5]}}
    root = toy(grid)
    done = ridgepole("sweep", "start", "sweep.json", "--run-dir", "there", "-s", "train.epochs=2")
    assert done.returncode == 0, done.stderr
    assert not (root / "runs").exists()
    told = json.loads(ridgepole("sweep", "best", "--run-dir", "there", "--json").stdout)
    assert told["trial"]["value"] == toy_loss(0.5, 2)
    assert told["settings"] == ["train.epochs=2", "lr=0.5", "pipeline.seed=1"]


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_ctrl_c_leaves_a_checkpoint_and_resume_goes_on_from_it(toy, grid, ridgepole, toy_loss, executor):
    grid["parameters"] = {"lr": {"values": [0.5]}, "train.epochs": {"value": 60}, "train.pause": {"value": 0.05}}
    root = toy(grid)
    driver = start("start", "sweep.json", "--executor", executor, cwd=root)
    end = time.monotonic() + 40
    while time.monotonic() < end and not (root / "steps").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130, errors
    stopped = load_sweep()
    assert (stopped.status, stopped.counts) == ("interrupted", {"waiting": 1})
    assert f"go on with: ridgepole sweep resume {stopped.id}" in errors
    run = read_run(root / "runs" / stopped.trials[0].run)
    assert run.status == "interrupted"
    done = ridgepole("sweep", "resume", "--executor", executor)
    assert done.returncode == 0, done.stderr
    (trial,) = load_sweep().trials
    assert (trial.status, trial.attempts, trial.run) == ("finished", 2, run.id)
    assert trial.value == toy_loss(0.5, 60)
    assert [line.split()[1] for line in (root / "steps").read_text().splitlines()] == [str(i) for i in range(1, 61)]


def test_a_killed_driver_whose_trial_had_finished_is_not_run_again(toy, grid, ridgepole, toy_loss):
    """The run is there and finished; only the ledger had not heard of it."""
    grid["parameters"] = {"lr": {"values": [0.5]}}
    root = toy(grid)
    assert ridgepole("sweep", "start", "sweep.json").returncode == 0
    journal = load_sweep().path / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    cut = next(index for index, line in enumerate(lines) if b'"outcome"' in line)
    journal.write_bytes(b"".join(lines[:cut]) + lines[cut][:20])
    assert load_sweep().counts == {"waiting": 1}
    done = ridgepole("sweep", "resume")
    assert done.returncode == 0, done.stderr
    (trial,) = load_sweep().trials
    assert (trial.status, trial.value, trial.attempts) == ("finished", toy_loss(0.5), 1)
    assert len((root / "steps").read_text().splitlines()) == 3, "nothing was computed again"


def test_check_reports_the_sweep_too(toy, ridgepole):
    root = toy()
    with (root / "toy.toml").open("a") as file:
        file.write('[sweep]\nmethod = "gird"\n[sweep.parameters]\nlrr = { values = [1] }\n')
    done = ridgepole("check", "toy.toml", "--json")
    assert done.returncode == 2
    (problem,) = json.loads(done.stdout)
    assert "grid" in problem["message"] + problem["hint"]
    text = (root / "toy.toml").read_text().replace("gird", "grid")
    (root / "toy.toml").write_text(text)
    done = ridgepole("check", "toy.toml", "--json")
    (problem,) = json.loads(done.stdout)
    assert problem["message"] == "no parameter is called 'lrr'"
    assert problem["line"] == len(text.splitlines())
    (root / "toy.toml").write_text(text.replace("lrr", "lr"))
    assert ridgepole("check", "toy.toml").returncode == 0


def test_check_reports_the_pipeline_and_the_sweep_in_one_go(toy, ridgepole):
    root = toy()
    text = (root / "toy.toml").read_text().replace('type = "Train"', 'type = "Trian"')
    (root / "toy.toml").write_text(text + '[sweep]\nmethod = "gird"\n[sweep.parameters]\nlr = { values = [1] }\n')
    told = json.loads(ridgepole("check", "toy.toml", "--json").stdout)
    assert {"Trian", "gird"} <= {word.strip("'") for problem in told for word in problem["message"].split()}


MISTAKES = [
    (("start", "nowhere.json"), 2, "nowhere.json"),
    (("start", "sweep.json", "--workers", "0"), 2, "'0' is no number from 1"),
    (("start", "sweep.json", "--executor", "moon"), 2, "invalid choice"),
    (("status", "x"), 2, "no sweeps in"),
    (("resume",), 2, "no sweeps in"),
    (("start", "sweep.json", "--pipeline", "nowhere.toml"), 2, "nowhere.toml"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES)
def test_mistakes(toy, grid, ridgepole, arguments, code, message):
    root = toy(grid)
    done = ridgepole("sweep", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (root / "runs").exists()


def test_a_failing_sweep_says_how_to_go_on(toy, grid, ridgepole):
    grid["parameters"] = {"lr": {"values": [0.5, 0.6]}, "train.fail_at": {"value": 1}}
    toy(grid | {"ridgepole": {"on_trial_error": "stop"}})
    done = ridgepole("sweep", "start", "sweep.json")
    assert done.returncode == 1
    assert "trial 0 failed: RuntimeError: as asked" in done.stderr
    assert "go on with: ridgepole sweep resume" in done.stderr
    status = ridgepole("sweep", "status").stdout
    assert "stopped" in status
    best = ridgepole("sweep", "best").stdout
    assert "no trial of sweep" in best


def test_a_long_name_of_a_metric_is_shown_whole(ridgepole, tmp_path):
    sweep = {"method": "grid", "metric": {"name": "validation/accuracy"}, "parameters": {"x": {"value": 1}}}
    run_sweep(lambda: 0.5, sweep, root=tmp_path / "runs", progress=False)
    lines = ridgepole("sweep", "best").stdout.splitlines()
    assert lines[1].split() == ["validation/accuracy", "0.5"]
    assert lines[0].index("0 of sweep") == lines[1].index("0.5"), "the values stand below each other"
