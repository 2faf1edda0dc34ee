"""The client's processes killed or stopped, forks, kill -9, and a logger that nobody cleans up."""

import os
import pickle
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ridgepole.errors import TrackerError
from ridgepole.loggers.wandb import logger as module
from ridgepole.loggers.wandb.link import WriterLink
from ridgepole.permanences import BasicLogger, WandBLogger

pytestmark = pytest.mark.fault("W&B dead, hanging or failing: the run goes on")


@pytest.fixture(autouse=True)
def off_line(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "p")


def writer_of(logger):
    return psutil.Process(logger._link._process.pid)


def wait_for(reached, what):
    for _ in range(300):
        if reached():
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


@pytest.mark.parametrize("victim", ["writer", "service"])
def test_a_client_that_dies_is_warned_of_once_and_the_run_goes_on(victim, capfd):
    with WandBLogger() as logger:
        logger.log_metrics({"a": 0})
        logger.flush()
        writer = writer_of(logger)
        for process in [writer] if victim == "writer" else writer.children(recursive=True):
            process.kill()
        wait_for(lambda: logger.log_metrics({"a": 1}) or logger._link.gone, "the end noticed")
        lost = logger.get_state()["dropped"]
        logger.log_metrics([{"a": 2}, {"b": 3}])
        logger.flush()
        logger.checkpoint()
        assert logger.get_state()["dropped"] == lost + 1
    assert capfd.readouterr().err.count("switched off for the rest of this run") == 1


def test_strict_raises_where_the_client_died():
    logger = WandBLogger(strict=True)
    logger.initialize()
    writer_of(logger).kill()
    wait_for(lambda: logger._link.gone, "the end noticed")
    with pytest.raises(TrackerError, match="a record was dropped"):
        logger.log_metrics({"a": 1})
    with pytest.raises(TrackerError, match="did not get all"):
        logger.cleanup()


def test_a_client_that_hangs_stops_nothing(monkeypatch, recorded, capfd):
    monkeypatch.setattr(module, "WriterLink", lambda *given: WriterLink(*given, limit=100_000))
    with WandBLogger() as logger:
        logger.log_metrics({"a": -1})
        logger.flush()
        directory = logger.get_state()["sync_dir"]
        writer = writer_of(logger)
        services = writer.children(recursive=True)
        writer.suspend()
        logger._patience = 1.0
        for i in range(20_000):
            logger.log_metrics({"a": i})
        for _ in range(50):  # the first waits a second, the others not at all
            logger.flush()
        dropped = logger.get_state()["dropped"]
        assert 10_000 < dropped < 20_000, "the queue is bounded, and what it can't hold is counted"
    assert logger.get_state()["dropped"] == 20_000, "and so is what it held in vain"
    assert not writer.is_running()
    assert [p for p in services if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert recorded(directory).column("a") == [-1]
    said = capfd.readouterr().err
    assert [said.count(word) for word in ("does not take records", "does not answer", "wandb sync")] == [1, 1, 1]


@pytest.mark.isolated
def test_a_forked_child_writes_nothing(recorded):
    with WandBLogger() as logger:
        logger.log_metrics({"a": 0})
        child = os.fork()
        if child == 0:
            code = 1
            signal.alarm(15)  # a child that waits for the parent's client dies of it
            try:
                for _ in range(100):
                    logger.log_metrics({"child": 1})
                logger.flush()
                logger.cleanup()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        logger.log_metrics({"a": 1})
        directory = logger.get_state()["sync_dir"]
    found = recorded(directory)
    assert found.column("a") == [0, 1]
    assert found.column("child") == []
    assert logger.get_state()["dropped"] == 0


def test_a_copy_in_another_process_writes_nothing(tmp_path):
    with WandBLogger() as logger:
        before = psutil.Process().children()
        copy = pickle.loads(pickle.dumps(logger))
        copy.log_metrics({"a": 1})
        copy.cleanup()
        assert psutil.Process().children() == before
        assert copy.global_step == 1


def script(tmp_path, ending):
    """A process that logs and ends in its own way; gives the directory of the client's files."""
    code = f"""
import os, sys, time
from ridgepole.permanences import WandBLogger
logger = WandBLogger()
for i in range(50):
    logger.log_metrics({{"a": i}})
print(logger.get_state()["sync_dir"], flush=True)
{ending}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    return Path(done.stdout.strip()), done


def test_a_logger_that_nobody_cleans_up_is_complete(tmp_path, recorded):
    directory, done = script(tmp_path, "")
    assert (done.returncode, done.stderr) == (0, "")
    found = recorded(directory)
    assert found.column("a") == list(range(50))
    assert [end.exit_code for end in found.of("exit")] == [0]


def test_what_the_client_has_survives_kill_9(tmp_path, recorded):
    directory, done = script(tmp_path, "logger.flush(); os.kill(os.getpid(), 9)")
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: recorded(directory).kinds["exit"], "the run closed by the process that is left")
    found = recorded(directory)
    assert found.column("a") == list(range(50))
    assert [end.exit_code for end in found.of("exit")] == [1]
    wait_for(lambda: not [p for p in psutil.process_iter(["cmdline", "status"])
                          if str(tmp_path) in " ".join(p.info["cmdline"] or ())], "all processes gone")  # fmt: skip


def test_the_loop_hardly_waits(tmp_path):
    """A ratio of medians, interleaved, at about 100 records a second; about 3 is what is measured."""
    ours, local = [], []
    with WandBLogger() as logger, BasicLogger(tmp_path / "local") as basic:
        for i in range(150):
            for log, waits in ((logger.log_metrics, ours), (basic.log_metrics, local)):
                started = time.perf_counter()
                log({"loss": i / 7, "accuracy": 0.5})
                waits.append(time.perf_counter() - started)
            time.sleep(0.01)
    ratio = statistics.median(ours) / statistics.median(local)
    assert ratio < 15, f"WandBLogger keeps the loop {ratio:.1f} times as long as BasicLogger"
