"""Sweeps whose trials W&B's server chooses: the real client, and a server on loopback that speaks its protocol."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import sweep_helpers as helpers

from ridgepole.errors import SweepError
from ridgepole.permanences import WandBLogger
from ridgepole.sweeps import load_sweep, run_sweep, sweep_pipeline
from wandb_server import KEY

GRID = {
    "method": "grid",
    "project": "digits",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"lr": {"values": [0.1, 1.0]}, "net": {"parameters": {"width": {"min": 1, "max": 2}}}},
    "ridgepole": {"executor": "wandb"},
}
POINTS = [
    {"lr": 0.1, "net.width": 1},
    {"lr": 0.1, "net.width": 2},
    {"lr": 1.0, "net.width": 1},
    {"lr": 1.0, "net.width": 2},
]


AWAY = pytest.mark.fault("W&B away, refusing or stopping a sweep: the local engine, a clear line, or it goes on")


def ordered(points):
    return sorted(points, key=lambda point: json.dumps(point, sort_keys=True))


def test_a_function_is_swept_and_the_server_hears_of_each_trial(server, capfd):
    def run_once(trial):
        for n in range(1, 4):
            trial.report(trial.params["lr"] * trial.params["net.width"] / n)

    result = run_sweep(run_once, GRID, progress=False)
    assert result.status == "finished"
    assert ordered(trial.params for trial in result.trials) == ordered(POINTS)
    assert all(isinstance(trial.params["lr"], float) for trial in result.trials)
    assert result.best.params == POINTS[0]
    for trial in result.trials:
        run = f"run{trial.number:03d}"
        wanted = [trial.params["lr"] * trial.params["net.width"] / n for n in (1, 2, 3)]
        assert [row["loss"] for row in server.rows[run]] == wanted, "the server's own pruner and model live on this"
        assert server.exits[run] == 0
    assert server.agents == 1
    said = capfd.readouterr()
    assert "tester/digits/sweep1" in said.err
    assert said.out == ""


def test_what_a_function_returns_reaches_the_server_and_a_failure_shows_there(server, capfd):
    def run_once(trial):
        if trial.params["net.width"] == 2 and trial.params["lr"] == 0.1:
            raise ValueError("as asked")
        return trial.params["lr"]

    result = run_sweep(run_once, GRID, progress=False)
    assert result.counts == {"finished": 3, "failed": 1}
    codes = {run: server.exits[run] for run in sorted(server.given)}
    assert codes == {"run000": 0, "run001": 1, "run002": 0, "run003": 0}
    assert [row["loss"] for row in server.rows["run002"]] == [1.0]
    assert "run001" not in server.rows


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_function_may_use_the_client_itself(server):
    """What people have written for `wandb.agent` works as it is, and nothing is logged twice.

    The warnings are of a file that the client itself leaves open.
    """

    def run_once(trial):
        import wandb

        with wandb.init() as run:
            assert (run.sweep_id, run.project) == ("sweep1", "digits")
            run.log({"loss": run.config.lr * run.config.net["width"]})
            trial.report(run.config.lr * run.config.net["width"])

    result = run_sweep(run_once, GRID, progress=False)
    assert result.counts == {"finished": 4}, [trial.error for trial in result.trials]
    for trial in result.trials:
        (row,) = server.rows[f"run{trial.number:03d}"]
        assert row["loss"] == trial.value
    import wandb

    assert wandb.run is None
    assert not [name for name in os.environ if name in ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")]


TRACKED = """
[permanences.tracker]
type = "WandBLogger"
project = "another, which a sweep passes over"
"""


def test_a_pipeline_logs_each_trial_with_its_own_logger(server, toy, grid, tmp_path, toy_loss):
    del grid["parameters"]["lr"]["values"][1:]
    toy(grid, more=TRACKED)
    result = sweep_pipeline("sweep.json", executor="wandb", progress=False)
    assert result.counts == {"finished": 2}, [trial.error for trial in result.trials]
    local = sweep_pipeline("sweep.json", executor="inline", progress=False, root=tmp_path / "local")
    assert ordered(trial.params for trial in result.trials) == ordered(trial.params for trial in local.trials)
    assert sorted(trial.value for trial in result.trials) == sorted(trial.value for trial in local.trials)
    for trial in result.trials:
        run = f"run{trial.number:03d}"
        assert json.loads((tmp_path / "runs" / trial.run / "wandb" / "attached.json").read_text())["id"] == run
        epochs = trial.params["train.epochs"]
        wanted = [toy_loss(trial.params["lr"], n) for n in range(1, epochs + 1)]
        assert [row["loss"] for row in server.rows[run] if "loss" in row] == wanted


def test_several_workers_share_a_count_exactly(server):
    many = GRID | {"parameters": {"x": {"min": 0, "max": 40}}}
    result = run_sweep(helpers.square, many, workers=2, count=5, progress=False)
    assert result.counts == {"finished": 5}
    assert [point["x"] for point in server.given.values()] == [0, 1, 2, 3, 4], "none was taken that is never run"
    assert sorted(trial.params["x"] for trial in result.trials) == [0, 1, 2, 3, 4]
    assert {run: [row["loss"] for row in rows] for run, rows in server.rows.items()} == {
        f"run{x:03d}": [(x - 3) ** 2] for x in range(5)
    }


@AWAY
@pytest.mark.parametrize("more", ["", TRACKED], ids=["heard of by the agent", "heard of by the logger too"])
def test_the_server_stops_a_trial(server, toy, grid, tmp_path, more):
    """At a tick, cleaned up, as pruned, whoever hears of it first; the others are left alone."""
    server.stop.add("run001")
    grid["parameters"] = {"epochs": {"values": [3, 1000]}, "lr": {"value": 0.2}, "pause": {"value": 0.02}}
    toy(grid, more=more)
    result = sweep_pipeline("sweep.json", executor="wandb", progress=False)
    assert [trial.status for trial in result.trials] == ["finished", "pruned"]
    lines = (tmp_path / "steps").read_text().splitlines()
    assert 3 < len(lines) < 1000, "it was stopped in the middle"
    assert (tmp_path / "cleaned").read_text().splitlines() == ["0.2", "0.2"]


def test_the_local_pruner_leaves_it_to_the_server(server):
    rule = {"type": "hyperband", "min_iter": 1}

    def run_once(trial):
        for _ in range(3):
            trial.report(float(trial.number))

    result = run_sweep(run_once, GRID | {"early_terminate": rule}, progress=False)
    assert result.counts == {"finished": 4}


def test_a_logger_that_is_on_line_uses_its_service(server, tmp_path):
    logger = WandBLogger(project="mine", entity="tester", count=2)
    sweep = {key: value for key, value in GRID.items() if key not in ("ridgepole", "project")}

    def run_once(trial):
        logger.log_metrics({"loss": trial.params["lr"]})

    with logger:
        result = logger.run_sweep(run_once, sweep)
    assert len(result.trials) == 2
    assert [[row["loss"] for row in server.rows[run]] for run in ("run000", "run001")] == [[0.1], [0.1]]
    assert (tmp_path / "runs" / ".sweeps" / result.id / "wandb" / "attached.json").exists()

    server.given.clear()
    with WandBLogger(mode="offline") as other:
        assert len(other.run_sweep(run_once, sweep).trials) == 4
    with WandBLogger(project="mine") as other:
        assert len(other.run_sweep(run_once, sweep | {"ridgepole": {"executor": "inline"}}).trials) == 4
    assert server.given == {}, "the local engine asks nobody"


def lines_of(capfd):
    return capfd.readouterr().err.splitlines()


@AWAY
@pytest.mark.parametrize("how", ["offline", "closed", "500"])
def test_off_line_the_local_engine_takes_over_and_says_so(server, monkeypatch, capfd, how):
    if how == "offline":
        monkeypatch.setenv("WANDB_MODE", "offline")
    elif how == "closed":
        server.close()
    else:
        server.mode = "500"
    result = run_sweep(lambda trial: trial.params["lr"], GRID, progress=False)
    assert ordered(trial.params for trial in result.trials) == ordered(POINTS)
    assert server.sweeps == []
    (line,) = lines_of(capfd)
    assert line.endswith("this sweep runs on the local engine")
    assert ("WANDB_MODE=offline" if how == "offline" else "can't be reached") in line
    assert KEY not in line


def test_what_w_and_b_can_not_do_is_said_before_anything_is_made(server, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(SweepError, match=r"executor 'wandb': no W&B API key .*wandb login"):
        run_sweep(lambda: 1.0, GRID, progress=False)
    monkeypatch.setenv("WANDB_MODE", "on-line")
    with pytest.raises(SweepError, match="WANDB_MODE must be one of"):
        run_sweep(lambda: 1.0, GRID, progress=False)
    assert not (tmp_path / "runs").exists()


@AWAY
def test_a_sweep_that_the_server_refuses(server):
    server.refuses = "invalid sweep config: no"
    with pytest.raises(SweepError, match=r"W&B refuses the sweep: .*invalid sweep config: no.*agent\.log") as caught:
        run_sweep(lambda: 1.0, GRID, progress=False)
    assert caught.value.result.trials == ()
    assert caught.value.result.status == "failed"


@AWAY
def test_a_server_that_goes_away_stops_the_sweep_and_it_goes_on(server, monkeypatch, capfd):
    def run_once(trial):
        if trial.number == 1:
            # From here on: the start may take longer than this on a busy machine.
            patch.setattr("ridgepole.sweeps.wandb.trial_source.PATIENCE", 3.0)
            server.mode = "403"  # the client asks again and again, for ever
        return trial.params["lr"]

    refusal = pytest.raises(SweepError, match=r"W&B has given no trial for 3 s; .*sweep resume")
    with monkeypatch.context() as patch, refusal as caught:
        run_sweep(run_once, GRID, progress=False)
    assert caught.value.result.counts == {"finished": 2}, "what was run is kept, also where W&B could not be told"
    assert "a trial can't be logged at W&B" in capfd.readouterr().err
    server.mode = "ok"
    result = run_sweep(lambda trial: trial.params["lr"], GRID, progress=False, resume="latest")
    assert result.status == "finished"
    assert ordered(trial.params for trial in result.trials) == ordered(POINTS)
    assert len(server.sweeps) == 1, "it is the same sweep there"


@AWAY
@pytest.mark.usefixtures("fresh_python")
def test_an_agent_that_is_killed_stops_the_sweep_and_it_goes_on(server):
    def run_once(trial):
        if trial.number == 1:
            for child in psutil.Process().children():
                if "sweeps.wandb.agent" in " ".join(child.cmdline()):
                    child.kill()
            time.sleep(0.2)
        return trial.params["lr"]

    with pytest.raises(SweepError, match=r"W&B's agent has ended: its process has died; .*sweep resume") as caught:
        run_sweep(run_once, GRID, progress=False)
    assert caught.value.result.counts == {"finished": 2}
    result = run_sweep(run_once, GRID, progress=False, resume="latest")
    assert ordered(trial.params for trial in result.trials) == ordered(POINTS)
    assert {run: [row["loss"] for row in rows] for run, rows in server.rows.items()} == {
        f"run{trial.number:03d}": [trial.value] for trial in result.trials
    }, "the trial whose agent died has been told by another process"


@AWAY
def test_a_sweep_that_others_have_ended(server):
    """Another machine's agents may have had the rest of it, or somebody has stopped it on its page."""

    def run_once(trial):
        if trial.number == 1:
            server.sweeps[-1] = server.sweeps[-1].replace("max: 2", "max: 1")
        return trial.params["lr"]

    result = run_sweep(run_once, GRID, progress=False)
    assert (result.status, result.reason) == ("finished", "W&B has no further trial")
    assert result.counts == {"finished": 2}


def test_ctrl_c_and_a_resume_leave_each_value_at_the_server_once(server, toy, grid, ridgepole, toy_loss):
    grid["parameters"] = {"lr": {"values": [0.1, 0.2]}, "epochs": {"value": 12}, "pause": {"value": 0.1}}
    toy(grid)
    command = [sys.executable, "-m", "ridgepole", "sweep", "start", "sweep.json", "--executor", "wandb"]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    while not Path("steps").exists() or len(Path("steps").read_text().splitlines()) < 15:
        assert driver.poll() is None, driver.stderr.read().decode()
        time.sleep(0.01)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(30) == 130
    driver.stderr.close()
    done = ridgepole("sweep", "resume", timeout=100)
    assert done.returncode == 0, done.stderr
    for run, lr in (("run000", 0.1), ("run001", 0.2)):
        assert [row["loss"] for row in server.rows[run]] == [toy_loss(lr, n) for n in range(1, 13)]
        assert server.exits[run] == 0


@pytest.mark.fault("a sweep's driver and workers killed at random: complete, and each trial counted once")
@pytest.mark.parametrize("more", ["", TRACKED], ids=["mirrored", "logged"])
def test_a_killed_driver(server, toy, grid, more, ridgepole, tally):
    """Nothing is lost, nothing is run twice, and the trial that was interrupted goes on as the same run at W&B."""
    grid["parameters"]["pause"] = {"value": 0.15}
    toy(grid, more=more)
    command = [sys.executable, "-m", "ridgepole", "sweep", "start", "sweep.json", "--executor", "wandb"]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    while not Path("steps").exists() or len(Path("steps").read_text().splitlines()) < 6:  # in the midst of the third
        assert driver.poll() is None, driver.stderr.read().decode()
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    driver.stderr.close()
    done = ridgepole("sweep", "resume", timeout=100)
    tally(6, kills=1)
    assert done.returncode == 0, done.stderr
    assert "resuming the sweep tester" in done.stderr
    result = load_sweep()
    assert result.counts == {"finished": 6}
    assert len(server.given) == 6
    assert len({json.dumps(trial.params) for trial in result.trials}) == 6
    for trial in result.trials:
        rows = [row["loss"] for row in server.rows[f"run{trial.number:03d}"] if "loss" in row]
        assert rows[-1] == trial.latest, f"trial {trial.number} ends at the server as it does here"


@pytest.mark.isolated
def test_a_resume_prunes_nothing_that_the_server_has_not(server):
    """What the local rule would have decided is no decision here, and is not kept for a resume either."""
    config = GRID | {"early_terminate": {"type": "hyperband", "min_iter": 1}}

    def once(trial):
        trial.report(float(trial.number))
        if trial.number == 1 and trial.attempt == 1:
            os.kill(os.getpid(), signal.SIGINT)
        trial.report(float(trial.number))

    with pytest.raises(KeyboardInterrupt):
        run_sweep(once, config, progress=False)
    result = run_sweep(once, config, progress=False, resume="latest")
    assert result.counts == {"finished": 4}


@AWAY
def test_the_server_stops_a_trial_that_goes_on_after_a_resume(server, toy, grid, ridgepole):
    """No agent has been given it now; the process that logs it there hears of the stop."""
    grid["parameters"] = {"lr": {"values": [0.1]}, "epochs": {"value": 600}, "pause": {"value": 0.1}}
    toy(grid)
    command = [sys.executable, "-m", "ridgepole", "sweep", "start", "sweep.json", "--executor", "wandb"]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    helpers.until(lambda: Path("steps").exists())
    driver.send_signal(signal.SIGINT)
    assert driver.wait(60) == 130
    server.stops_all = True
    done = ridgepole("sweep", "resume", timeout=100)
    assert done.returncode == 0, done.stderr
    assert load_sweep().counts == {"pruned": 1}
