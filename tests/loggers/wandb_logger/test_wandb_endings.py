"""Every record reaches the client's file, and W&B is told how the run went; read back from the real client's file."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ridgepole import Pipeline, process
from ridgepole.errors import TrackerError
from ridgepole.loggers.wandb import logger as module
from ridgepole.loggers.wandb.link import WriterLink
from ridgepole.permanences import BaseLoggerManager, BasicLogger, LoggerGroup, WandBLogger

LONG = [
    pytest.mark.torture,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.environ.get("RIDGEPOLE_TORTURE") != "1", reason="needs RIDGEPOLE_TORTURE=1"),
]


@pytest.fixture(autouse=True)
def off_line(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "p")


def exit_codes(found):
    return [end.exit_code for end in found.of("exit")]


@pytest.mark.parametrize("rows", [3_000, pytest.param(300_000, marks=LONG)])
def test_rows_that_come_faster_than_the_client_takes_them_all_arrive(rows, monkeypatch, recorded, capfd):
    """The queue holds a tenth of the 3,000: the loop waits for the client, and no deadline cuts off the rest."""
    if rows < 10_000:
        monkeypatch.setattr(module, "WriterLink", lambda *given: WriterLink(*given, limit=20_000))
    with WandBLogger() as logger:
        for i in range(rows):
            logger.log_metrics({"a": i})
    state = logger.get_state()
    found = recorded(state["sync_dir"])
    assert found.column("a") == list(range(rows))
    assert exit_codes(found) == [0]
    assert (state["sent"], state["dropped"]) == (rows, 0)
    said = capfd.readouterr().err
    assert "dropped" not in said
    assert f"to send this run: wandb sync {state['sync_dir']}" in said


def leave_with(error, **options):
    with WandBLogger(**options) as logger:
        logger.log_metrics({"a": 1})
        raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [(ZeroDivisionError("of the user"), 1), (KeyboardInterrupt(), 1), (SystemExit(3), 1), (SystemExit(0), 0)],
    ids=repr,
)
def test_an_exception_inside_a_with_block_fails_the_run_there(error, code, recorded, tmp_path):
    with pytest.raises(type(error)):
        leave_with(error)
    (directory,) = (tmp_path / "work" / "logs" / "wandb").glob("offline-run-*")
    found = recorded(directory)
    assert found.column("a") == [1]
    assert exit_codes(found) == [code]
    assert (type(error).__name__ in found.messages) is bool(code), "the error stands among the run's logs"
    if isinstance(error, ZeroDivisionError):
        assert "ZeroDivisionError: of the user" in found.messages
        assert "leave_with" in found.messages, "with its traceback"


def clean_up_finally(logger):
    try:
        logger.log_metrics({"a": 1})
        logger.log_metrics({"a": 1 / 0})
    finally:
        logger.cleanup()


def test_a_cleanup_in_a_finally_clause_fails_the_run_there(recorded):
    logger = WandBLogger()
    with pytest.raises(ZeroDivisionError):
        clean_up_finally(logger)
    assert exit_codes(recorded(logger.get_state()["sync_dir"])) == [1]


@process
def fail(logger: BaseLoggerManager, token: str = ""):
    logger.log_metrics({"a": 1})
    raise ZeroDivisionError(f"of the user, {token}")


def test_a_pipeline_that_fails_says_why_without_its_secrets(tmp_path, recorded):
    pipeline = Pipeline("fails", progress=False, checkpoint=False, seed=0).permanence("tracker", WandBLogger)
    with pytest.raises(ZeroDivisionError):
        pipeline.process("fail", fail, token="hunter2-hunter2").run(tmp_path / "runs")
    (directory,) = (tmp_path / "runs").glob("*/wandb/offline-run-*")
    found = recorded(directory)
    assert exit_codes(found) == [1]
    assert "ZeroDivisionError: of the user" in found.messages
    assert "hunter2" not in found.messages


def script(tmp_path, ending):
    """A process that logs to a group, closes nothing, and ends in its own way."""
    code = f"""
import os, signal, sys
from matplotlib.figure import Figure
from ridgepole.loggers.figures import queue
from ridgepole.permanences import BasicLogger, LoggerGroup, WandBLogger
queue.START_AFTER_S = -1.0
tracker = WandBLogger()
group = LoggerGroup([BasicLogger("local"), tracker])
for i in range(20):
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([0, i])
    group.log_metrics({{"a": i}})
    group.log_figure("f", figure)
print(tracker.get_state()["sync_dir"], flush=True)
{ending}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=tmp_path)
    return Path(done.stdout.strip()), done


@pytest.mark.parametrize(("ending", "code"), [("", 0), ("1 / 0", 1)])
def test_a_group_in_a_script_that_closes_nothing_is_complete(tmp_path, recorded, ending, code):
    directory, done = script(tmp_path, ending)
    assert done.returncode == code, done.stderr
    found = recorded(directory)
    assert found.column("a") == list(range(20))
    assert len(found.column("f")) == 20
    assert exit_codes(found) == [code]
    assert ("ZeroDivisionError" in found.messages) is bool(code)


def test_a_script_that_is_terminated_is_closed_as_failed(tmp_path, recorded):
    """The row of the docs' table: what the client's process has stays, and that process closes the run."""
    directory, done = script(tmp_path, "tracker.flush(); os.kill(os.getpid(), signal.SIGTERM)")
    assert done.returncode == -signal.SIGTERM
    for _ in range(600):
        found = recorded(directory)
        if found.kinds["exit"]:
            break
        time.sleep(0.05)
    assert exit_codes(found) == [1]
    assert found.column("a") == list(range(20))


@pytest.mark.parametrize("strict", [False, True])
def test_what_w_and_b_lacks_is_counted_and_named_with_the_command_that_brings_it(
    tmp_path, recorded, capfd, ridgepole, strict
):
    local = BasicLogger(tmp_path / "local").__enter__()
    tracker = WandBLogger(strict=strict).__enter__()
    group = LoggerGroup([local, tracker])
    group.log_metrics({"a": 0})
    group.flush()
    writer = psutil.Process(tracker._link._process.pid)
    for each in [*writer.children(recursive=True), writer]:
        each.kill()
    tracker._link._replies.wait_for(lambda: bool(tracker._link.gone), time.monotonic() + 60)
    for i in range(1, 5):
        if strict:
            with pytest.raises(TrackerError, match="a record was dropped"):
                group.log_metrics({"a": i})
        else:
            group.log_metrics({"a": i})
    assert tracker.get_state()["dropped"] == 4
    if strict:
        with pytest.raises(TrackerError, match="did not get all"):
            tracker.cleanup()
    else:
        tracker.cleanup()
    local.cleanup()
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "lacks" in line]
    said, _, command = line.partition("to send all as a run of its own: ")
    assert "W&B lacks 4 records" in said
    command = shlex.split(command)
    assert command == ["ridgepole", "export", str(tmp_path / "local"), "--to", "wandb"]
    done = ridgepole(*command[1:], WANDB_MODE="offline", WANDB_PROJECT="p", HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    (directory,) = (tmp_path / "local" / "export" / "wandb" / "wandb").glob("offline-run-*")
    found = recorded(directory)
    assert found.column("a") == list(range(5))
    assert exit_codes(found) == [0]


def test_an_interrupt_while_the_end_waits_leaves_no_process_and_says_what_is_missing(monkeypatch, capfd):
    logger = WandBLogger().__enter__()
    logger.log_metrics({"a": 0})
    logger.flush()
    writer = psutil.Process(logger._link._process.pid)
    writer.suspend()
    for i in range(1, 6):
        logger.log_metrics({"a": i})

    def interrupt(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(logger._link._replies, "wait_while_moving", interrupt)
    logger._patience = 0.5
    with pytest.raises(KeyboardInterrupt):
        logger.cleanup()
    assert not writer.is_running()
    assert "W&B lacks 5 records of this run" in capfd.readouterr().err
