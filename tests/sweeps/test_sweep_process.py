"""The executor `process`: workers that die, are reused, are pruned, have a card each."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import sweep_helpers as helpers

from ridgepole.errors import SweepError
from ridgepole.sweeps import load_sweep, run_sweep, sweep_pipeline

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def grid_of(values, **ours):
    return {
        "method": "grid",
        "metric": {"name": "loss"},
        "parameters": {"x": {"values": list(values)}},
        "ridgepole": {"executor": "process", "workers": 2} | ours,
    }


def live(workers):
    return [each for each in workers if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def sweep(function, config, **keys):
    return run_sweep(function, config, progress=False, **keys)


def test_the_same_file_gives_the_same_grid_trials_inline_and_in_processes(toy, grid):
    root = toy(grid)
    inline = sweep_pipeline("sweep.json", progress=False)
    processes = sweep_pipeline("sweep.json", executor="process", workers=2, progress=False)
    told = [[(t.number, t.params, t.value, t.status) for t in result.trials] for result in (inline, processes)]
    assert told[0] == told[1]
    logs = sorted((root / "runs" / ".sweeps" / processes.id / "trials").glob("*.log"))
    assert len(logs) == 6, "what a worker prints has a file for each trial"


def test_every_way_to_end_fails_its_own_trial_only():
    result = sweep(helpers.endings, grid_of(range(7), reuse_workers=True))
    assert [trial.status for trial in result.trials] == ["finished"] + ["failed"] * 5 + ["finished"]
    errors = [trial.error for trial in result.trials]
    assert "has exited with code 7" in errors[1]
    assert "was killed by SIGKILL" in errors[2]
    assert errors[3] == "ValueError: three"
    assert errors[4] == "SystemExit: four"
    assert errors[5] == "TypeError: run_once must return a number, not str"
    assert not helpers.workers_of(os.getpid()), "no worker is left"


def test_a_fresh_process_for_each_trial_or_the_same():
    assert [trial.value for trial in sweep(helpers.leaks, grid_of(range(3), workers=1)).trials] == [0, 0, 0]
    reused = sweep(helpers.leaks, grid_of(range(3), workers=1, reuse_workers=True))
    assert [trial.value for trial in reused.trials] == [0, 1, 2]


def test_a_dead_worker_is_retried():
    config = grid_of([2], on_trial_error="retry", retries=2)
    (trial,) = sweep(helpers.endings, config).trials
    assert (trial.status, trial.attempts) == ("failed", 3)


def test_a_worker_takes_a_card_for_itself_and_its_share_of_the_cores():
    sweep(helpers.environment, grid_of([0]))
    told = json.loads(Path("environment0").read_text())
    assert told["RIDGEPOLE_DEVICE_LEASE"] == "exclusive"
    assert float(told["RIDGEPOLE_DEVICE_WAIT"]) > 86400
    assert int(told["OMP_NUM_THREADS"]) == max(1, len(os.sched_getaffinity(0)) // 2)
    log = load_sweep().path / "trials" / "000000.log"
    assert log.read_text() == "printed by the trial\n"


def test_pruning_reaches_a_worker_at_a_report():
    config = grid_of([1, 2, 3], workers=1) | {"early_terminate": {"type": "hyperband", "min_iter": 5}}
    result = sweep(helpers.reports, config)
    assert [trial.status for trial in result.trials] == ["finished", "pruned", "pruned"]
    assert int(Path("stopped1").read_text()) == 200
    assert 5 <= int(Path("stopped2").read_text()) < 200


def test_a_function_that_no_worker_can_import():
    pytest.importorskip("cloudpickle")  # which sends closures by their code
    offset = 2
    result = sweep(lambda trial: trial.params["x"] + offset, grid_of([1]))
    assert result.trials[0].value == 3


def test_what_can_not_be_sent_is_said_before_the_first_trial():
    lock = threading.Lock()
    with pytest.raises(SweepError, match=r"run_once can't be sent to another process.*use the executor 'inline'"):
        sweep(lambda trial: lock.locked(), grid_of([1]))
    assert load_sweep().trials == ()


@pytest.mark.parametrize("where", ["of the script", "of the function alone"])
def test_a_worker_that_can_not_import_the_function(where):
    """The module is gone by the time a worker looks for it."""
    Path("gone.py").write_text("def once(trial): return 1.0\n")
    lines = [
        "import os",
        "from ridgepole.sweeps import run_sweep",
        "from gone import once",
        "if __name__ == '__main__':",
    ]
    if where == "of the function alone":
        lines = [*lines[:2], lines[3], "    from gone import once"]
    lines += ["    os.remove('gone.py')", f"    run_sweep(once, {grid_of([1])!r}, progress=False)"]
    Path("main.py").write_text("\n".join(lines))
    done = subprocess.run([sys.executable, "-B", "main.py"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "a worker process can't" in done.stderr.splitlines()[-1]
    assert "No module named 'gone'" in done.stderr


def test_ctrl_c_stops_at_a_report_and_resume_goes_on():
    driver = helpers.drive("endless", grid_of([1, 2]))
    helpers.until(lambda: Path("begun0").exists() and Path("begun1").exists())
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130, errors
    stopped = load_sweep()
    assert (stopped.status, stopped.counts) == ("interrupted", {"waiting": 2})
    result = sweep(helpers.square, grid_of([1, 2]), resume="latest")
    assert [(trial.number, trial.value, trial.attempts) for trial in result.trials] == [(0, 4.0, 2), (1, 1.0, 2)]


def test_two_ctrl_c_end_what_does_not_listen():
    driver = helpers.drive("deaf", grid_of([1]))
    helpers.until(lambda: Path("begun0").exists())
    workers = helpers.workers_of(driver.pid)
    driver.send_signal(signal.SIGINT)
    time.sleep(1)  # it asks the worker, which does not listen
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert workers
    assert not live(workers)
    assert load_sweep().counts == {"waiting": 1}


def test_workers_of_a_killed_driver_stop_by_themselves_and_are_adopted():
    driver = helpers.drive("endless", grid_of([1, 2]))
    helpers.until(lambda: Path("begun0").exists() and Path("begun1").exists())
    workers = helpers.workers_of(driver.pid)
    driver.kill()
    driver.communicate()
    assert load_sweep().status == "crashed"
    psutil.wait_procs(workers, timeout=60)
    assert workers
    assert not live(workers)
    result = sweep(helpers.square, grid_of([1, 2]), resume="latest")
    assert [(trial.value, trial.attempts) for trial in result.trials] == [(4.0, 2), (1.0, 2)]


@pytest.mark.parametrize(("policy", "status", "attempts"), [("fail", "failed", 1), ("retry", "finished", 2)])
def test_a_failure_that_the_killed_driver_had_not_heard_of_is_dealt_with_as_any(policy, status, attempts):
    """The worker has kept its outcome; the ledger lacks it."""
    result = sweep(helpers.endings, grid_of([3], workers=1))
    journal = result.path / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: next(i for i, line in enumerate(lines) if b'"outcome"' in line)]))
    again = sweep(helpers.square, grid_of([3], workers=1, on_trial_error=policy), resume="latest")
    assert [(trial.status, trial.attempts) for trial in again.trials] == [(status, attempts)]
