"""The executor `slurm`, on submitit's own processes of this machine."""

import signal
from pathlib import Path

import psutil
import pytest
import sweep_helpers as helpers

from ridgepole.errors import SweepError
from ridgepole.rundir import read_run
from ridgepole.sweeps import load_sweep, run_sweep, sweep_pipeline


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sweep_of(values, slurm, **ours):
    return {
        "method": "grid",
        "metric": {"name": "loss"},
        "parameters": {"x": {"values": list(values)}},
        "ridgepole": {"executor": "slurm", "workers": 2, "slurm": slurm} | ours,
    }


WRONG = [
    ({"cluster": "local", "partitoin": "long"}, "submitit has no parameter 'partitoin'; did you mean 'partition'"),
    ({"cluster": "local", "slurm_moon": 1}, "Unknown argument 'moon'"),
    ({"cluster": "local", "timeout_min": "long"}, "timeout_min"),
    ({"cluster": "moon"}, "expected one of slurm, local, auto as ridgepole.slurm.cluster, got 'moon'"),
    ({"cluster": "local", "nodes": 2}, "a trial is one task, and nodes is 2"),
    ({"cluster": "local", "ntasks_per_node": 2}, "a trial is one task, and ntasks_per_node is 2"),
    ({"timeout_min": 5}, "SLURM is not available here .* write ridgepole.slurm.cluster = 'local'"),
]


@pytest.mark.parametrize(("slurm", "message"), WRONG)
def test_what_can_not_be_is_said_before_the_first_trial(slurm, message, monkeypatch):
    monkeypatch.setenv("PATH", str(Path.cwd()))  # where no SLURM is
    with pytest.raises(SweepError, match=message):
        run_sweep(helpers.square, sweep_of([1], slurm), progress=False)
    assert not Path("runs").exists() or load_sweep().trials == ()


def test_auto_takes_this_machine_where_there_is_no_slurm(monkeypatch, capfd):
    monkeypatch.setenv("PATH", str(Path.cwd()))
    result = run_sweep(helpers.square, sweep_of([1], {"cluster": "auto", "partition": "long"}), progress=False)
    assert result.trials[0].value == 4.0
    assert capfd.readouterr() == ("", ""), "submitit is silent on the driver's terminal"


def test_what_a_job_was_sent_is_removed_with_its_end(toy, grid):
    """The values of `-s` are in it, and a secret one is said to be stored nowhere."""
    grid["parameters"] = {"lr": {"values": [0.1, 0.2]}}
    toy(grid | {"ridgepole": {"executor": "slurm", "slurm": {"cluster": "local"}}})
    result = sweep_pipeline("sweep.json", overrides=["net.kind='canary-word'"], progress=False)
    assert result.counts == {"finished": 2}
    tasks = result.path / "tasks"
    assert list(tasks.iterdir()), "submitit keeps its files there"
    assert [path.name for path in tasks.rglob("*") if path.is_file() and b"canary-word" in path.read_bytes()] == []
    assert tasks.stat().st_mode & 0o077 == 0


def test_a_job_has_cards_to_itself_and_its_output_stays():
    result = run_sweep(helpers.environment, sweep_of([0], {"cluster": "local"}), progress=False)
    assert result.trials[0].status == "finished", result.trials[0].error
    assert '"RIDGEPOLE_DEVICE_LEASE": "exclusive"' in Path("environment0").read_text()
    (log,) = (result.path / "tasks").glob("*_log.out")
    assert "printed by the trial\n" in log.read_text()


@pytest.mark.parametrize("warning", ["SIGUSR2", "SIGTERM"])
def test_a_preempted_trial_goes_on_from_its_checkpoint_and_has_not_failed(toy, grid, toy_loss, capfd, warning):
    grid["parameters"] = {"lr": {"values": [0.5]}, "train.epochs": {"value": 5}, "fail_at": {"value": 3}}
    grid["parameters"]["how"] = {"value": warning}
    root = toy(grid | {"ridgepole": sweep_of([], {"cluster": "local"})["ridgepole"]})
    (root / "mends").touch()
    (trial,) = sweep_pipeline("sweep.json", progress=False).trials
    assert (trial.status, trial.attempts, trial.value) == ("finished", 2, toy_loss(0.5, 5))
    assert len(trial.runs) == 1
    assert read_run(root / "runs" / trial.run).fields["attempt"] == 2
    assert [line.split()[1] for line in (root / "steps").read_text().splitlines()] == ["1", "2", "3", "4", "5"]
    assert "trial 0 will resume elsewhere: its job" in capfd.readouterr().err


def test_a_trial_that_runs_out_of_time_too_often_has_failed(toy, grid):
    """With one minute at most, the warning is taken for that of the time limit."""
    grid["parameters"] = {"lr": {"values": [0.5]}, "fail_at": {"value": 1}, "how": {"value": "SIGUSR2"}}
    slurm = {"cluster": "local", "timeout_min": 1, "max_num_timeout": 1}
    toy(grid | {"ridgepole": sweep_of([], slurm)["ridgepole"]})  # at the same step each time: nothing mends it
    (trial,) = sweep_pipeline("sweep.json", progress=False).trials
    assert (trial.status, trial.attempts) == ("failed", 2)
    assert "has run out of time" in trial.error


def test_a_job_that_another_machine_ends_is_told_with_its_log():
    driver = helpers.drive("endless", sweep_of([1], {"cluster": "local"}))
    helpers.until(Path("begun0").exists, what="the trial")
    for each in psutil.Process(driver.pid).children(recursive=True):
        each.send_signal(signal.SIGKILL)
    output, errors = driver.communicate(timeout=60)
    assert output == "finished {'failed': 1}\n", errors
    (trial,) = load_sweep().trials
    assert "ended as FAILED; see " in trial.error
    assert Path(trial.error.partition("see ")[2]).is_file()
