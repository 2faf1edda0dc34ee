"""`with ridgepole.run(...) as run:` inside a script."""

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ridgepole
from ridgepole import LifecycleError, StateError, load_checkpoint, read_metrics
from ridgepole.checkpoint import CheckpointStore
from ridgepole.permanences import BasicLogger
from ridgepole.rundir import list_runs, read_run
from ridgepole.scripts.record import runs_root
from ridgepole.sweeps import run_sweep


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])


def newest():
    return next(iter(list_runs(runs_root())))


def test_a_block_is_a_run(tmp_path):
    with ridgepole.run("first", config=argparse.Namespace(lr=0.1, token="t"), tags=["x"]) as run:
        assert run.dir.parent == tmp_path / "runs"
        assert newest().status == "running"
        run.log({"loss": 0.5})
        run.log({"loss": 0.25}, step=7)
        run.tick()
        run.tick(10)
        assert run.step == 10
        logger = BasicLogger(log_dir=run.dir / "other")
        assert logger.log_dir.parent == run.dir
    stored = newest()
    assert (stored.status, stored.labels.name, stored.labels.tags) == ("finished", "first", ("x",))
    assert stored.json("config.resolved.json") == {"params": {"lr": 0.1, "token": "***"}}
    assert stored.json("summary.json")["metrics"]["loss"]["last"] == 0.25


def test_a_logger_in_the_block_finds_the_run():
    with ridgepole.run() as run, BasicLogger() as logger:
        assert logger.log_dir == run.dir
    assert newest().fields["pipeline"] == "train"


@pytest.mark.parametrize(
    ("error", "status", "exit_code"),
    [
        (ValueError("mine"), "failed", 1),
        (KeyboardInterrupt(), "interrupted", 130),
        (SystemExit(0), "finished", 0),
        (SystemExit(4), "failed", 4),
        (SystemExit("text"), "failed", 1),
    ],
)
def test_an_error_in_the_block_is_recorded_and_raised(error, status, exit_code):
    def block():
        with ridgepole.run() as run:
            run.log({"loss": 1.0})
            raise error

    with pytest.raises(type(error)) as caught:
        block()
    assert caught.value is error
    stored = newest()
    assert (stored.status, stored.fields["exit_code"]) == (status, exit_code)
    assert stored.json("summary.json")["metrics"]["loss"]["count"] == 1
    if isinstance(error, ValueError):
        assert stored.fields["error"]["message"] == "mine"
        assert "raise error" in stored.fields["error"]["traceback"]


@pytest.mark.isolated
def test_ctrl_c_shows_the_line_of_the_script():
    def block():
        with ridgepole.run() as run:
            run.tick()
            os.kill(os.getpid(), signal.SIGINT)
            run.tick()

    with pytest.raises(KeyboardInterrupt) as caught:
        block()
    assert caught.traceback[-1].path == Path(__file__)


STOPPED = """
import os, signal, time
import ridgepole

with ridgepole.run("mine") as run:
    for step in range(3):
        run.log({"loss": 1.0})
        if step == 1:
            run.checkpoint({"step": step})
            os.kill(os.getpid(), signal.SIGINT)
        run.tick()
"""


@pytest.mark.process
def test_an_interrupted_script_names_its_run_and_shows_no_traceback(tmp_path):
    done = subprocess.run([sys.executable, "-c", STOPPED], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    (run,) = (tmp_path / "runs").iterdir()
    lines = done.stderr.splitlines()
    assert re.fullmatch(rf"interrupted in \d+\.\d s · runs/{run.name}", lines[-2])
    assert lines[-1] == f"resume with: ridgepole resume runs/{run.name}"
    assert "Traceback" not in done.stderr


def test_a_script_says_where_its_run_is(capsys):
    with ridgepole.run():
        pass
    assert re.fullmatch(rf"finished in \d+\.\d s · runs/{newest().id}\n", capsys.readouterr().err)
    with pytest.raises(ValueError, match="mine"), ridgepole.run():
        raise ValueError("mine")
    # Without a checkpoint there is nothing to resume from
    assert re.fullmatch(rf"failed in \d+\.\d s · runs/{newest().id}\n", capsys.readouterr().err)


@pytest.mark.isolated
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGUSR1", 75), ("SIGHUP", 129)])
def test_a_signal_waits_for_the_checkpoint(name, code):
    def block():
        with ridgepole.run() as run:
            for epoch in range(5):
                run.tick()
                if epoch == 2:
                    os.kill(os.getpid(), getattr(signal, name))
                run.checkpoint({"epoch": epoch})

    with pytest.raises(SystemExit) as caught:
        block()
    assert caught.value.code == code
    assert newest().status == "interrupted"
    assert load_checkpoint("latest", "latest")["state"] == {"epoch": 2}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_checkpoints_are_kept_and_read():
    with ridgepole.run(keep_last=3) as run:
        assert run.restore() is None
        for epoch in range(5):
            run.log({"loss": 1.0})
            run.checkpoint({"epoch": epoch, "nested": [1, {"a": "b"}]})
        assert load_checkpoint(which="latest")["state"]["epoch"] == 4  # of the run that it is in
    assert len(CheckpointStore(newest().path / "checkpoints").list()) == 3


def test_a_state_that_cannot_be_stored_says_where():
    with pytest.raises(StateError, match=r"state\['model'\]"), ridgepole.run() as run:
        run.checkpoint({"model": object()})


def test_a_resume_without_a_checkpoint_hides_the_first_attempt():
    def block(attempt):
        with ridgepole.run(resume=attempt == 2) as run:
            assert run.attempt == attempt
            assert run.restore() is None
            for _ in range(3):
                run.log({"loss": float(attempt)})
            raise ValueError("mine")

    for attempt in (1, 2):
        with pytest.raises(ValueError, match="mine"):
            block(attempt)
    frame = ridgepole.read_metrics(newest().path)
    assert frame["value"].to_list() == [2.0, 2.0, 2.0]
    assert frame["step"].to_list() == [0, 1, 2]


def test_resume_takes_the_newest_unfinished_run_of_the_same_kind():
    with ridgepole.run("a") as first:
        pass
    with ridgepole.run("a", resume=True) as second:
        assert second.attempt == 1  # the first one had finished
    assert first.dir != second.dir


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": 3}, "the name of a run must be a text"),
        ({"name": ""}, "the name of a run must be a text"),
        ({"config": 3}, "config must be a mapping, such as vars"),
        ({"tags": "baseline"}, "tags must be a list of texts"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_made(arguments, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        ridgepole.run(**arguments)
    assert not (tmp_path / "runs").exists()


def test_a_run_needs_its_block():
    run = ridgepole.run()
    with pytest.raises(LifecycleError, match="use it in a block"):
        run.log({"loss": 1.0})
    with run:
        pass
    with pytest.raises(LifecycleError, match="one block only"):
        run.__enter__()


def test_two_blocks_of_a_supervised_script_are_two_runs(command_server, tmp_path):
    (tmp_path / "train.py").write_text(
        "import os, ridgepole\n"
        "for name in 'ab':\n"
        "    with ridgepole.run(name) as run:\n"
        "        run.log({'x': 1})\n"
        "        print(str(run.dir) == os.environ['RIDGEPOLE_RUN_DIR'])\n"
    )
    done = command_server.call("run", "train.py", cwd=tmp_path)
    assert done.stdout == "True\nFalse\n", done.stderr
    assert [(run.labels.name, run.status) for run in list_runs(tmp_path / "runs")] == [
        ("b", "finished"),
        ("a", "finished"),
    ]


def test_load_checkpoint_needs_a_run_to_be_in():
    with pytest.raises(OSError, match="load_checkpoint needs a run"):
        load_checkpoint()


def test_a_run_in_the_function_of_a_trial_is_that_trial_s(tmp_path):
    def objective(trial):
        with ridgepole.run("mine", config=trial.params, tags=["a"]) as run:
            for step in range(5):
                run.log({"loss": trial.params["x"] + 1 / (step + 1)})
                run.tick()

    config = {
        "method": "grid",
        "metric": {"name": "loss"},
        "parameters": {"x": {"values": [1, 2, 3]}},
        "early_terminate": {"type": "hyperband", "min_iter": 2},
    }
    result = run_sweep(objective, config, progress=False)
    assert [(trial.status, trial.value) for trial in result.trials] == [
        ("finished", 1.2),
        ("pruned", 2.5),
        ("pruned", 3.5),
    ]
    runs = [read_run(tmp_path / "runs" / trial.run) for trial in result.trials]
    assert [run.status for run in runs] == ["finished", "pruned", "pruned"]
    assert [run.fields["sweep"]["trial"] for run in runs] == [0, 1, 2]
    assert [run.json("config.resolved.json")["params"] for run in runs] == [{"x": 1}, {"x": 2}, {"x": 3}]
    assert [run.labels.tags for run in runs] == [("a",)] * 3
    assert read_metrics(runs[0].path)["value"].to_list() == [2.0, 1.5, 1 + 1 / 3, 1.25, 1.2]
