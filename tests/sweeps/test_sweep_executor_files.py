"""A trial in another process that shares the sweep's directory: what executors without a pipe are built on."""

import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest

from ridgepole.errors import Place, Problem, SweepError
from ridgepole.sweeps import Metric
from ridgepole.sweeps.executors.base import Ended, Reported, TrialSpec
from ridgepole.sweeps.executors.errand import Parcel, perform_errand
from ridgepole.sweeps.executors.files import FileWatch, perform_in_files
from ridgepole.sweeps.jobs import FunctionJob
from ridgepole.sweeps.outcome import Outcome
from ridgepole.sweeps.sweepdir import SweepDir

METRIC = Metric("loss")


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = SweepDir.create(tmp_path / "runs")
    return TrialSpec(directory.id, 3, 1, {"x": 2}, str(directory.path))


def job(function):
    return FunctionJob("runs", METRIC, {}, function)


def test_everything_comes_back_through_files(spec):
    def once(trial):
        trial.report(5.0)
        trial.report(4.0)

    watch = FileWatch(spec)
    assert watch.poll() == []
    assert not watch.alive()
    outcome = perform_in_files(job(once), spec)
    assert (outcome.status, outcome.value, outcome.count) == ("finished", 4.0, 2)
    assert watch.poll() == [Reported(3, (5.0,), 0), Reported(3, (4.0,), 1), Ended(3, outcome)]


def test_an_outcome_survives_json():
    problem = Problem("wrong", Place("file", 3), "a hint")
    outcome = Outcome("failed", None, 2, 0.5, 0.7, ("run",), "an error", "frames", (problem,), 1.5)
    assert Outcome.from_dict(json.loads(json.dumps(outcome.as_dict()))) == outcome


@pytest.mark.parametrize(("wish", "status"), [("prune", "pruned"), ("stop", "interrupted")])
def test_a_wish_is_obeyed_at_a_report(spec, wish, status):
    FileWatch(spec).ask(wish)

    def once(trial):
        for _ in range(500):
            trial.report(1.0)
            time.sleep(0.01)

    outcome = perform_in_files(job(once), spec)
    assert outcome.status == status
    assert 0 < outcome.count < 500


def test_what_was_asked_of_another_attempt_does_not_count(spec):
    FileWatch(spec).ask("stop")
    again = TrialSpec(spec.sweep, spec.number, 2, spec.values, spec.directory)

    def once(trial):
        time.sleep(0.8)  # long enough to look
        trial.report(1.0)

    assert perform_in_files(job(once), again).status == "finished"
    assert FileWatch(spec).poll() == []


def test_two_processes_never_run_the_same_trial(spec, monkeypatch):
    monkeypatch.setattr("ridgepole.sweeps.executors.files._PATIENCE", 0.1)
    lock = SweepDir(Path(spec.directory)).trial_lock(spec.number)
    code = (
        "import sys, time; from pathlib import Path; from ridgepole.files import Flock\n"
        f"Flock(Path({str(lock.path)!r})).take(); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        assert FileWatch(spec).alive()
        with pytest.raises(SweepError, match="trial 3 is run already, by process"):
            perform_in_files(job(lambda: 1.0), spec)
        holder.kill()
    assert not FileWatch(spec).alive()
    assert perform_in_files(job(lambda: 1.0), spec).status == "finished"


def test_now_interrupts_what_does_not_report(spec):
    watch = FileWatch(spec)

    def once(trial):
        watch.ask("now")
        time.sleep(30)

    outcome = perform_in_files(job(once), spec)
    assert outcome.status == "interrupted"
    assert outcome.seconds < 20


@pytest.mark.parametrize("wish", ["stop", "now"])
def test_outside_the_main_thread_a_stop_waits_for_the_next_report_and_no_signal_is_sent(spec, wish):
    """As in a place that runs trials in threads: there are no handlers, and a SIGINT would hit somebody else."""
    FileWatch(spec).ask(wish)
    outcomes = []

    def once(trial):
        for _ in range(500):
            trial.report(1.0)
            time.sleep(0.01)

    thread = threading.Thread(target=lambda: outcomes.append(perform_in_files(job(once), spec)))
    thread.start()
    thread.join(30)
    (outcome,) = outcomes
    assert outcome.status == "interrupted"
    assert 0 < outcome.count < 500


def test_half_a_line_of_a_killed_process_does_no_harm(spec):
    """A scheduler runs the attempt again, and what it says then is read."""
    path = SweepDir(Path(spec.directory)).trial_events(3, 1)
    path.write_bytes(b'{"values":[1.0],"seen":0}\n{"val')
    watch = FileWatch(spec)
    perform_in_files(job(lambda trial: trial.report(7.0)), spec)
    assert [event for event in watch.poll() if isinstance(event, Reported)] == [
        Reported(3, (1.0,), 0),
        Reported(3, (7.0,), 0),
    ]


def parcel(function=lambda: 1.0):
    return Parcel.of(job(function), cloudpickle.dumps, {})


def test_a_node_that_does_not_see_the_sweep_says_so(spec, tmp_path):
    away = replace(spec, directory=str(tmp_path / "elsewhere" / ".sweeps" / "x"))
    told = perform_errand(parcel(), away)
    assert socket.gethostname() in told
    assert "does not see the sweep's directory" in told
    assert "a file system that all nodes share" in told


def test_a_process_that_can_not_load_the_job_says_so(spec):
    SweepDir(Path(spec.directory)).write_record({})
    told = perform_errand(replace(parcel(), job=b"cnowhere_to_be_found\nonce\n."), spec)
    assert "can't load what it is to run: ModuleNotFoundError: No module named 'nowhere_to_be_found'" in told


def test_a_task_that_is_started_again_runs_nothing_twice(spec):
    SweepDir(Path(spec.directory)).write_record({})

    def once(trial):
        with Path("calls").open("a") as file:
            return float(file.write("x"))

    again = parcel(once)
    assert perform_errand(again, spec) == ""
    assert perform_errand(again, spec) == "", "its outcome is there"
    assert Path("calls").read_text() == "x"
    later = replace(spec, attempt=3)
    SweepDir(Path(spec.directory)).trial_task(3, 4).touch()
    assert perform_errand(again, later) == "", "a later attempt has begun"
    assert Path("calls").read_text() == "x"


def test_a_line_that_is_being_written_is_read_the_next_time(spec):
    watch = FileWatch(spec)
    path = SweepDir(Path(spec.directory)).trial_events(3, 1)
    path.write_bytes(b'{"values":[1.0],"seen":0}\n{"val')
    assert watch.poll() == [Reported(3, (1.0,), 0)]
    with path.open("ab") as file:
        file.write(b'ues":[2.0],"seen":1}\n')
    assert watch.poll() == [Reported(3, (2.0,), 1)]
