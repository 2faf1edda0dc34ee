"""Failed trials run again, and sweeps that are changed after their start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ridgepole.errors import ConfigError, SweepError
from ridgepole.sweeps import load_sweep, resume_sweep, run_sweep, sweep_pipeline
from ridgepole.sweeps.edit import edit_sweep
from ridgepole.sweeps.sweepdir import SweepDir

GRID = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"x": {"values": [1, 2, 3]}}}
RANDOM = {
    "method": "random",
    "run_cap": 3,
    "metric": {"name": "loss"},
    "parameters": {
        "x": {"min": 0.0, "max": 1.0},
        "net": {"parameters": {"n": {"min": 1, "max": 9}}},
        "kind": {"values": ["a", "b"]},
    },
    "ridgepole": {"seed": 1},
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fails_until_mended(trial):
    if trial.params["x"] != 2 and not Path("mended").exists():
        raise RuntimeError("as asked")
    return float(trial.params["x"])


def test_retry_runs_the_named_failed_trial_again_in_the_same_sweep():
    first = run_sweep(fails_until_mended, GRID, progress=False)
    assert first.counts == {"failed": 2, "finished": 1}
    Path("mended").touch()
    again = run_sweep(fails_until_mended, GRID, progress=False, resume="latest", retry=[2])
    assert again.id == first.id
    assert [(trial.status, trial.params["x"]) for trial in again.trials] == [
        ("failed", 1),
        ("finished", 2),
        ("retried", 3),
        ("finished", 3),
    ]
    rest = run_sweep(fails_until_mended, GRID, progress=False, resume="latest", retry=[])
    assert rest.counts == {"retried": 2, "finished": 3}, "every point of the grid once"
    assert load_sweep().trials == rest.trials
    with pytest.raises(SweepError, match="trial 1 can't run again: it is finished, not failed"):
        run_sweep(fails_until_mended, GRID, progress=False, resume="latest", retry=[1])
    with pytest.raises(SweepError, match="trial 0 can't run again: it is retried, not failed"):
        run_sweep(fails_until_mended, GRID, progress=False, resume="latest", retry=[0])
    with pytest.raises(SweepError, match="the sweep has no trial 9"):
        run_sweep(fails_until_mended, GRID, progress=False, resume="latest", retry=[9])


def test_a_trial_that_is_retried_counts_once_to_the_most_failures():
    config = GRID | {"ridgepole": {"max_failures": 2}}
    run_sweep(fails_until_mended, config, progress=False)
    again = run_sweep(fails_until_mended, config, progress=False, resume="latest", retry=[])
    assert again.status == "finished", "two have failed for good, each of them twice"
    assert again.counts == {"retried": 2, "failed": 2, "finished": 1}


def test_a_retried_pipeline_continues_from_its_checkpoint(toy, grid, ridgepole, toy_loss):
    grid["parameters"] = {"lr": {"values": [0.5]}, "train.epochs": {"value": 4}, "train.fail_at": {"value": 2}}
    root = toy(grid)
    failed = sweep_pipeline("sweep.json", progress=False)
    assert failed.counts == {"failed": 1}
    (root / "mended").touch()
    done = ridgepole("sweep", "retry", failed.id, "0", "--no-report")
    assert done.returncode == 0, done.stderr
    again = load_sweep()
    assert [trial.status for trial in again.trials] == ["retried", "finished"]
    assert again.trials[1].value == toy_loss(0.5, 4)
    assert again.trials[1].run == again.trials[0].run
    steps = [line.split()[1] for line in (root / "steps").read_text().splitlines()]
    assert steps == ["1", "2", "3", "4"], "what was done before is not done again"


# --- edit


def test_edit_narrows_ranges_and_adds_trials_with_a_note_in_the_history(ridgepole):
    def once(trial):
        return trial.params["x"]

    first = run_sweep(once, RANDOM, progress=False)
    done = ridgepole(
        "sweep", "edit", "-s", "x.max=0.25", "-s", "net.n.min=8", "--max-trials", "9", "--note", "large x diverge"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["x.max 1.0 -> 0.25", "net.n.min 1 -> 8", "max_trials 3 -> 9"]
    result = run_sweep(once, RANDOM, progress=False, resume="latest")
    assert result.trials[:3] == first.trials
    assert len(result.trials) == 9
    assert all(trial.params["x"] <= 0.25 and trial.params["net.n"] >= 8 for trial in result.trials[3:])
    (change,) = SweepDir(result.path).record()["history"]
    assert (change["note"], len(change["changes"])) == ("large x diverge", 3)
    assert (
        "x.max 1.0 -> 0.25, net.n.min 1 -> 8, max_trials 3 -> 9: large x diverge" in ridgepole("sweep", "status").stdout
    )
    told = json.loads(ridgepole("sweep", "edit", "--max-trials", "10", "--json").stdout)
    assert told == ["max_trials 9 -> 10"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("x.max=2", "max would become 2, outside of the range, which ends at 1.0"),
        ("x.min=-1", "min would become -1, outside of the range, which ends at 0.0"),
        ("x.min=2", "which is above max"),
        ("x.max=big", "max must be a number"),
        ("kind.values=['a']", "the values of kind can't change: Optuna takes one list of choices for all trials"),
        ("y.max=1", "no parameter is called 'y'"),
        ("x.distribution=normal", "x has no 'distribution' to change"),
    ],
)
def test_edit_refuses_what_is_not_a_narrower_range_and_changes_nothing(change, message):
    first = run_sweep(lambda trial: trial.params["x"], RANDOM, progress=False)
    before = SweepDir(first.path).spec()
    with pytest.raises(ConfigError, match=message):
        edit_sweep(changes=[change])
    assert SweepDir(first.path).spec() == before
    assert "history" not in SweepDir(first.path).record()


def test_edit_refuses_a_running_sweep_and_no_change():
    def once(trial):
        with pytest.raises(SweepError, match="is running: stop it before you change it"):
            edit_sweep(count=9)
        return 1.0

    result = run_sweep(once, RANDOM | {"run_cap": 1}, progress=False)
    assert result.counts == {"finished": 1}
    with pytest.raises(SweepError, match="nothing to change"):
        edit_sweep()


def test_a_function_s_sweep_is_not_retried_by_the_command_line():
    result = run_sweep(fails_until_mended, GRID, progress=False)
    with pytest.raises(SweepError, match="was started from Python"):
        resume_sweep(result.id, retry=[])
