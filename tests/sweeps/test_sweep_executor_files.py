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
from ridgepole.sweeps.executors.remote_task import FileWatch, TaskPayload, run_remote_trial, run_trial_via_files
from ridgepole.sweeps.run.executor import Completed, Reported
from ridgepole.sweeps.run.targets import FunctionTarget
from ridgepole.sweeps.run.trial import TrialSpec
from ridgepole.sweeps.study.outcome import TrialOutcome
from ridgepole.sweeps.sweepdir import SweepDir

METRIC = Metric("loss")


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = SweepDir.create(tmp_path / "runs")
    return TrialSpec(sweep=directory.id, number=3, attempt=1, values={"x": 2}, directory=str(directory.path))


def target(function):
    return FunctionTarget(root="runs", metric=METRIC, function=function)


def test_everything_comes_back_through_files(spec):
    def once(trial):
        trial.report(5.0)
        trial.report(4.0)

    watch, lock = FileWatch(spec), SweepDir(Path(spec.directory)).trial_lock(spec.number)
    assert watch.poll() == []
    assert lock.holder() is None
    outcome = run_trial_via_files(target(once), spec)
    assert (outcome.status, outcome.value, outcome.count) == ("finished", 4.0, 2)
    assert watch.poll() == [Reported(3, (5.0,), 0), Reported(3, (4.0,), 1), Completed(3, outcome)]


def test_an_outcome_survives_json():
    problem = Problem("wrong", Place("file", 3), "a hint")
    outcome = TrialOutcome(
        "failed",
        count=2,
        best=0.5,
        latest=0.7,
        runs=("run",),
        error="an error",
        traceback="frames",
        problems=(problem,),
        seconds=1.5,
    )
    assert TrialOutcome.from_dict(json.loads(json.dumps(outcome.as_dict()))) == outcome


@pytest.mark.parametrize(("wish", "status"), [("prune", "pruned"), ("stop", "interrupted")])
def test_a_wish_is_obeyed_at_a_report(spec, wish, status):
    FileWatch(spec).request(wish)

    def once(trial):
        for _ in range(500):
            trial.report(1.0)
            time.sleep(0.01)

    outcome = run_trial_via_files(target(once), spec)
    assert outcome.status == status
    assert 0 < outcome.count < 500


def test_what_was_asked_of_another_attempt_does_not_count(spec):
    FileWatch(spec).request("stop")
    again = replace(spec, attempt=2)

    def once(trial):
        time.sleep(0.8)  # long enough to look
        trial.report(1.0)

    assert run_trial_via_files(target(once), again).status == "finished"
    assert FileWatch(spec).poll() == []


def test_two_processes_never_run_the_same_trial(spec, monkeypatch):
    monkeypatch.setattr("ridgepole.sweeps.executors.trial_process.LOCK_SECONDS", 0.1)
    lock = SweepDir(Path(spec.directory)).trial_lock(spec.number)
    code = (
        "import sys, time; from pathlib import Path; from ridgepole.files import Flock\n"
        f"Flock(Path({str(lock.path)!r})).take(); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        assert lock.holder() is not None
        with pytest.raises(SweepError, match="trial 3 is running already, by process"):
            run_trial_via_files(target(lambda: 1.0), spec)
        holder.kill()
    assert lock.holder() is None
    assert run_trial_via_files(target(lambda: 1.0), spec).status == "finished"


def test_now_interrupts_what_does_not_report(spec):
    watch = FileWatch(spec)

    def once(trial):
        watch.request("now")
        time.sleep(30)

    outcome = run_trial_via_files(target(once), spec)
    assert outcome.status == "interrupted"
    assert outcome.seconds < 20


@pytest.mark.parametrize("wish", ["stop", "now"])
def test_outside_the_main_thread_a_stop_waits_for_the_next_report_and_no_signal_is_sent(spec, wish):
    """As in a place that runs trials in threads: there are no handlers, and a SIGINT would hit somebody else."""
    FileWatch(spec).request(wish)
    outcomes = []

    def once(trial):
        for _ in range(500):
            trial.report(1.0)
            time.sleep(0.01)

    thread = threading.Thread(target=lambda: outcomes.append(run_trial_via_files(target(once), spec)))
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
    run_trial_via_files(target(lambda trial: trial.report(7.0)), spec)
    assert [event for event in watch.poll() if isinstance(event, Reported)] == [
        Reported(3, (1.0,), 0),
        Reported(3, (7.0,), 0),
    ]


def payload(function=lambda: 1.0):
    return TaskPayload.pack(target(function), cloudpickle.dumps, {})


def test_a_node_that_does_not_see_the_sweep_says_so(spec, tmp_path):
    away = replace(spec, directory=str(tmp_path / "elsewhere" / ".sweeps" / "x"))
    problem = run_remote_trial(payload(), away)
    assert socket.gethostname() in problem
    assert "does not see the sweep's directory" in problem
    assert "a file system that all nodes share" in problem


def test_a_process_that_can_not_load_the_job_says_so(spec):
    SweepDir(Path(spec.directory)).write_record({})
    problem = run_remote_trial(replace(payload(), target=b"cnowhere_to_be_found\nonce\n."), spec)
    assert "can't load the trial's code: ModuleNotFoundError: No module named 'nowhere_to_be_found'" in problem


def test_a_task_that_is_started_again_runs_nothing_twice(spec):
    SweepDir(Path(spec.directory)).write_record({})

    def once(trial):
        with Path("calls").open("a") as file:
            return float(file.write("x"))

    again = payload(once)
    assert run_remote_trial(again, spec) == ""
    assert run_remote_trial(again, spec) == "", "its outcome is there"
    assert Path("calls").read_text() == "x"
    later = replace(spec, attempt=3)
    SweepDir(Path(spec.directory)).trial_task(3, 4).touch()
    assert run_remote_trial(again, later) == "", "a later attempt has begun"
    assert Path("calls").read_text() == "x"


def test_a_line_that_is_being_written_is_read_the_next_time(spec):
    watch = FileWatch(spec)
    path = SweepDir(Path(spec.directory)).trial_events(3, 1)
    path.write_bytes(b'{"values":[1.0],"seen":0}\n{"val')
    assert watch.poll() == [Reported(3, (1.0,), 0)]
    with path.open("ab") as file:
        file.write(b'ues":[2.0],"seen":1}\n')
    assert watch.poll() == [Reported(3, (2.0,), 1)]
