"""Exactness: what is killed at any moment, two drivers, a storage that is locked, torn files."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest
import sweep_helpers as helpers

from ridgepole.errors import SweepError
from ridgepole.sweeps import load_sweep, read_sweep, run_sweep
from ridgepole.sweeps.study.outcome import TrialOutcome
from ridgepole.sweeps.study.trial_store import TrialStore
from ridgepole.sweeps.sweepdir import SweepDir, find_sweep, list_sweeps

RANDOM = {
    "method": "random",
    "run_cap": 6,
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}, "y": {"distribution": "normal", "mu": 0, "sigma": 1}},
    "ridgepole": {"seed": 5},
}
GRID = {
    "method": "grid",
    "metric": {"name": "loss"},
    "parameters": {"x": {"values": [1, 2, 3]}, "y": {"values": ["a", None]}},
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def directory_of(config):
    made = SweepDir.create(Path("runs"))
    made.write_spec(config, b"", "")
    made.write_record({"status": "running"})
    return made


# --- killed between any two operations of the storage


class Killed(BaseException):
    pass


def killing_after(monkeypatch, operations):
    """Lets so many operations of the journal through; the next one is cut in its middle."""
    from ridgepole.sweeps.study.storage import JournalFile

    original = JournalFile.append_logs
    left = [operations]

    def append(self, logs):
        if left[0] == 0:
            os.write(self._fd, b'{"op_code":5,"worker_id":"to')
            raise Killed
        left[0] -= 1
        original(self, logs)

    monkeypatch.setattr(JournalFile, "append_logs", append)


def drive_ledger(ledger, limit):
    """What the driver does, without an executor."""
    for row in ledger.in_flight():
        ledger.begin(row)
        ledger.record(row, TrialOutcome("finished", row.values["x"] + 1.0))
    while len(ledger.rows) < limit:
        row = ledger.create()
        ledger.begin(row)
        ledger.record(row, TrialOutcome("finished", row.values["x"] + 1.0))


@pytest.mark.parametrize("config", [RANDOM, GRID], ids=["random", "grid"])
def test_a_driver_killed_at_each_operation_loses_and_doubles_nothing(config, tmp_path):
    spec = read_sweep(config)
    whole = directory_of(config)
    ledger = TrialStore(whole, spec, 5)
    drive_ledger(ledger, 6)
    ledger.close()
    wanted = [(t.number, t.params, t.value) for t in load_sweep(str(whole.path)).trials]
    operations = len(whole.journal.read_bytes().splitlines())
    assert operations > 24
    for point in range(operations):
        killed = directory_of(config)
        with pytest.MonkeyPatch.context() as patch:
            killing_after(patch, point)
            with pytest.raises(Killed):
                drive_ledger(TrialStore(killed, spec, 5), 6)
        again = TrialStore(killed, spec, 5)
        drive_ledger(again, 6)
        again.close()
        got = [(t.number, t.params, t.value) for t in load_sweep(str(killed.path)).trials]
        assert got == wanted, f"killed at operation {point}"
        study = optuna.load_study(
            study_name=killed.id,
            storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(killed.journal))),
        )
        assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6, "Optuna itself reads the journal"
        assert [trial.value for trial in study.trials] == [value for _, _, value in wanted]
        shutil.rmtree(killed.path)


def test_an_outcome_is_recorded_once():
    ledger = TrialStore(directory_of(GRID), read_sweep(GRID), 0)
    row = ledger.create()
    ledger.record(row, TrialOutcome("finished", 1.0))
    with pytest.raises(AssertionError, match="has an outcome already"):
        ledger.record(row, TrialOutcome("finished", 2.0))
    ledger.close()


# --- drivers and workers killed at random


def kill_at_random(config, function, seed, lives):
    """Drives a sweep to its end while its workers and itself are killed; gives how many kills there were."""
    chance = random.Random(seed)
    kills = 0
    for _ in range(200):
        newest = next(list_sweeps(Path("runs")), None)
        driver = helpers.drive(function, config, resume=newest.id if newest else None)
        end = time.monotonic() + chance.uniform(*lives)
        while driver.poll() is None and time.monotonic() < end:
            time.sleep(chance.uniform(0.05, 0.4))
            if chance.random() < 0.3:
                kills += kill_a_worker(driver.pid, chance)
        if driver.poll() is None:
            driver.kill()
            kills += 1
        _, errors = driver.communicate(timeout=60)
        if driver.returncode == 0:
            return kills
        assert driver.returncode == -signal.SIGKILL, errors
    raise AssertionError("it never came to its end")


def kill_a_worker(pid, chance):
    try:
        workers = [each for each in psutil.Process(pid).children() if "spawn_main" in " ".join(each.cmdline())]
        if workers:
            chance.choice(workers).kill()
        return len(workers[:1])
    except psutil.Error:
        return 0


def assert_exact(count):
    result = load_sweep()
    assert result.status == "finished"
    assert [trial.number for trial in result.trials] == list(range(count))
    assert [trial.status for trial in result.trials] == ["finished"] * count
    assert sorted(trial.params["x"] for trial in result.trials) == list(range(count)), "each point once"
    assert [trial.value for trial in result.trials] == [float(trial.params["x"]) for trial in result.trials]
    attempts = [int(line) for line in Path("attempts").read_text().split()]
    assert set(attempts) == set(range(count)), "each has run at least once"
    assert all(attempts.count(trial.number) <= trial.attempts for trial in result.trials)
    return result


def slow_grid(count, **ours):
    return {
        "method": "grid",
        "metric": {"name": "loss"},
        "parameters": {"x": {"min": 0, "max": count - 1}},
        "ridgepole": {"on_trial_error": "retry", "retries": 1000} | ours,
    }


KILLED = pytest.mark.fault("a sweep's driver and workers killed at random: complete, and each trial counted once")


@KILLED
def test_killed_at_random_it_ends_complete_and_exact(tally):
    config = slow_grid(12, executor="process", workers=2, reuse_workers=True)
    tally(12, kills=kill_at_random(config, "slow", seed=1, lives=(2.0, 4.0)))
    assert_exact(12)


@KILLED
def test_an_inline_driver_killed_at_random(tally):
    tally(40, kills=kill_at_random(slow_grid(40), "slow", seed=2, lives=(1.0, 3.0)))
    assert_exact(40)


@KILLED
@pytest.mark.torture
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")
@pytest.mark.parametrize("reuse", [True, False])
def test_two_hundred_trials_killed_at_random(reuse, tally):
    config = slow_grid(200, executor="process", workers=3, reuse_workers=reuse)
    kills = kill_at_random(config, "slow", seed=3, lives=(1.5, 6.0))
    assert kills > 20
    tally(200, kills=kills)
    assert_exact(200)


# --- one driver


def test_a_second_driver_is_refused_and_named():
    driver = helpers.drive("endless", slow_grid(1))
    helpers.until(lambda: Path("begun0").exists())
    with pytest.raises(SweepError, match=rf"is running already: process {driver.pid} on "):
        run_sweep(helpers.slow, slow_grid(1), resume="latest", progress=False)
    assert load_sweep().counts == {"running": 1}, "looking at it needs no lock"
    driver.kill()
    driver.communicate()
    assert load_sweep().status == "crashed"
    assert run_sweep(helpers.slow, slow_grid(1), resume="latest", progress=False).counts == {"finished": 1}


# --- storages


def with_storage(url):
    return {**GRID, "ridgepole": {"storage": url}}


def test_a_database_holds_the_sweep(tmp_path):
    url = f"sqlite:///{tmp_path}/trials.db"
    result = run_sweep(lambda trial: trial.params["x"], with_storage(url), progress=False)
    assert result.counts == {"finished": 6}
    assert load_sweep().trials == result.trials
    assert not (result.path / "journal.log").exists()
    again = run_sweep(lambda trial: trial.params["x"], with_storage(url), progress=False)
    assert again.id != result.id, "two sweeps share a database"
    assert load_sweep(result.id).trials == result.trials
    names = optuna.get_all_study_names(url)
    assert sorted(names) == sorted([result.id, again.id])


LOCKED = pytest.mark.fault("a sweep's storage locked or away: waited for and said; stopped, it goes on")


@LOCKED
def test_a_locked_database_is_waited_for_and_said(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ridgepole.sweeps.study.storage._ONE_TRY", 0.1)
    url = f"sqlite:///{tmp_path}/trials.db"
    held = []

    def once(trial):
        if trial.number == 1:
            blocker = sqlite3.connect(tmp_path / "trials.db", isolation_level=None, check_same_thread=False)
            blocker.execute("BEGIN EXCLUSIVE")
            held.append(blocker)
            import threading

            threading.Timer(1.0, lambda: (blocker.rollback(), blocker.close())).start()
        return trial.params["x"]

    result = run_sweep(once, with_storage(url), progress=False)
    assert held
    assert result.counts == {"finished": 6}
    said = capfd.readouterr().err
    assert said.count("is locked or unreachable (") == 1
    assert "waiting up to 30 s" in said


@LOCKED
def test_a_database_that_stays_locked_stops_the_sweep_which_can_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("ridgepole.sweeps.study.storage._ONE_TRY", 0.1)
    monkeypatch.setattr("ridgepole.sweeps.study.storage.PATIENCE", 1.0)
    url = f"sqlite:///{tmp_path}/trials.db"
    blocker = sqlite3.connect(tmp_path / "trials.db", isolation_level=None)

    def once(trial):
        if trial.number == 2 and trial.attempt == 1:
            blocker.execute("BEGIN EXCLUSIVE")
        return trial.params["x"]

    with pytest.raises(SweepError, match=r"can't be used for 1 s now.*continue with ridgepole sweep resume"):
        run_sweep(once, with_storage(url), progress=False)
    blocker.rollback()
    blocker.close()
    result = run_sweep(once, with_storage(url), resume="latest", progress=False)
    assert result.counts == {"finished": 6}
    assert [trial.params for trial in result.trials] == list(read_sweep(GRID).grid())


def test_a_password_is_shown_nowhere(capfd, monkeypatch):
    monkeypatch.setattr("ridgepole.sweeps.study.storage.PATIENCE", 0.1)
    url = "mysql+nothing://user:pa55word@nowhere/name"
    with pytest.raises(
        SweepError, match=r"can't open the sweep's storage mysql\+nothing://user:\*\*\*@nowhere"
    ) as caught:
        run_sweep(lambda: 0.0, with_storage(url), progress=False)
    assert "pa55word" not in str(caught.value) + capfd.readouterr().err
    sweep = next(list_sweeps(Path("runs")))
    assert "pa55word" not in (sweep.path / "sweep.json").read_text()
    assert (sweep.path / "spec.json").stat().st_mode & 0o077 == 0


def test_a_full_disk_stops_the_sweep_and_nothing_is_lost(monkeypatch):
    from ridgepole.sweeps.study.storage import JournalFile

    original = os.write
    full = []

    def write(fd, data):
        if full:
            raise OSError(28, "No space left on device")
        return original(fd, data)

    def once(trial):
        if trial.number == 2 and trial.attempt == 1:
            full.append(1)
        return trial.params["x"]

    assert JournalFile.append_logs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ridgepole.sweeps.study.storage.os.write", write)
        with pytest.raises(OSError, match="No space left"):
            run_sweep(once, GRID, progress=False)
        full.clear()
    result = run_sweep(once, GRID, resume="latest", progress=False)
    assert result.counts == {"finished": 6}
    assert [trial.attempts for trial in result.trials] == [1, 1, 2, 1, 1, 1]


# --- the values that Optuna shows

OLD = Path(__file__).parent / "old_studies"
SHOWN = {
    "kind": {"values": ["relu", "gelu", None]},
    "same": {"values": [1, 1.0, True, [1, 2]]},
    "width": {"distribution": "q_uniform", "min": 32, "max": 128, "q": 32},
    "rate": {"distribution": "q_uniform", "min": 0.1, "max": 0.5, "q": 0.1},
    "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
    "momentum": {"min": 0.0, "max": 1.0},
    "layers": {"min": 1, "max": 9},
}
TRANSFORMED = {
    "noise": {"distribution": "normal"},
    "pick": {"values": ["a", "b"], "probabilities": [0.3, 0.7]},
    "size": {"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 4},
}
GRIDDED = {
    "kind": {"values": ["relu", "gelu"]},
    "rate": {"distribution": "q_uniform", "min": 0.1, "max": 0.4, "q": 0.1},
    "layers": {"min": 5, "max": 6},
}


def plain_study(result, url=None):
    """The study as Optuna itself opens it, as its dashboard does."""
    if url is None:
        backend = optuna.storages.journal.JournalFileBackend(str(result.path / "journal.log"))
        return optuna.load_study(study_name=result.id, storage=optuna.storages.JournalStorage(backend))
    return optuna.load_study(study_name=result.id, storage=url)


@pytest.mark.parametrize("database", [False, True], ids=["journal", "database"])
@pytest.mark.parametrize(
    ("method", "parameters"), [("random", SHOWN | TRANSFORMED), ("bayes", SHOWN | TRANSFORMED), ("grid", GRIDDED)]
)
def test_optuna_shows_the_values_that_trials_had(method, parameters, database, tmp_path):
    url = f"sqlite:///{tmp_path}/trials.db" if database else None
    ours = {"seed": 1, "startup_trials": 3, "sampler": "tpe"} | ({"storage": url} if url else {})
    config = {"method": method, "metric": {"name": "loss"}, "parameters": parameters, "ridgepole": ours}
    seen = []
    result = run_sweep(lambda trial: seen.append(trial.params) or 1.0, config, count=8, progress=False)
    study = plain_study(result, url)
    assert [trial.params for trial in result.trials] == seen
    assert len(study.trials) == len(seen) == 8
    for trial, values in zip(study.trials, seen, strict=True):
        assert trial.params.keys() == parameters.keys(), "nothing but the parameters"
        for name in parameters.keys() - TRANSFORMED.keys():
            if name == "same":  # Optuna can't tell 1 from true
                assert json.loads(trial.params[name]) == values[name]
                assert type(json.loads(trial.params[name])) is type(values[name])
            else:  # a model of Optuna's computes a step with the rounding error of floats
                shown = pytest.approx(values[name], rel=1e-12) if method == "bayes" and name == "rate" else values[name]
                assert trial.params[name] == shown
                assert type(trial.params[name]) is type(values[name])
    if method == "random":
        drawn = study.trials[0].distributions
        assert drawn["kind"].choices == ("relu", "gelu", None)
        assert drawn["width"] == optuna.distributions.IntDistribution(32, 128, step=32)
        assert drawn["rate"] == optuna.distributions.FloatDistribution(0.1, 0.5, step=0.1)
        assert drawn["lr"].log


def test_steps_of_many_digits_are_all_drawn():
    """Optuna counts them in floats, and would lose the last one."""
    q = 0.1 + 0.2
    config = {"method": "random", "parameters": {"x": {"distribution": "q_uniform", "min": 0.0, "max": 7 * q, "q": q}}}
    config["metric"] = {"name": "loss"}
    result = run_sweep(lambda: 1.0, config, count=60, progress=False)
    assert len({trial.params["x"] for trial in result.trials}) == 8


@pytest.mark.parametrize("name", ["random", "bayes0", "grid00"])
def test_a_sweep_that_stored_numbers_of_values_continues(name):
    """Until values were stored as they are, Optuna had the numbers of choices, multiples and grid points."""
    target = Path("runs/.sweeps") / f"20260101-000000-{name}"
    shutil.copytree(OLD / target.name, target)
    (target / "trials").mkdir()
    directory = SweepDir(target)
    spec = read_sweep(directory.spec())
    before = load_sweep(str(target))
    assert before.counts == {"finished": 3, "waiting": len(before.trials) - 3}
    store = TrialStore(directory, spec, 5)
    rows = store.in_flight()
    while len(store.rows) < 8:
        rows.append(store.create())
    for row in rows:
        store.begin(row)
        store.record(row, TrialOutcome("finished", float(row.number)))
    store.close()
    after = load_sweep(str(target))
    assert after.counts == {"finished": 8}
    known = [(trial.number, trial.params) for trial in before.trials if trial.params]
    assert [(trial.number, trial.params) for trial in after.trials][: len(known)] == known
    if name != "bayes0":  # the rest is what a sweep that begins now draws
        fresh = TrialStore(SweepDir.create(Path("other")), spec, 5)
        # The ends of a q_uniform were drawn as often as its other values then
        drawn_otherwise = ("rate", "width") if name == "random" else ()
        fresh_values = [fresh.create().values for _ in range(8)]
        one, other = (
            [{key: value for key, value in params.items() if key not in drawn_otherwise} for params in each]
            for each in ([trial.params for trial in after.trials], fresh_values)
        )
        assert one == other
        fresh.close()
    for trial in after.trials:
        assert spec.space.encode(trial.params).keys() == trial.params.keys(), "a value that is none of the file's"


def test_a_study_with_other_distributions_is_read_and_not_continued():
    directory = directory_of(GRID)
    store = TrialStore(directory, read_sweep(GRID), 5)
    row = store.create()
    store.record(row, TrialOutcome("finished", 1.0))
    store.close()
    text = directory.journal.read_text()
    assert '\\"choices\\": [\\"a\\", null]' in text
    directory.journal.write_text(text.replace('[\\"a\\", null]', '[\\"a\\", null, \\"b\\"]'))
    assert load_sweep(str(directory.path)).counts == {"finished": 1}
    with pytest.raises(
        SweepError, match=r"another distribution of the parameter 'y'.*resume the sweep with the version"
    ):
        TrialStore(directory, read_sweep(GRID), 5)


# --- finding sweeps


def test_sweeps_are_found_by_id_prefix_path_and_newest():
    first = run_sweep(lambda: 0.0, GRID, progress=False)
    second = run_sweep(lambda: 0.0, GRID, progress=False)
    root = Path("runs")
    assert find_sweep(None, root).id == second.id
    assert find_sweep("latest", root).id == second.id
    assert find_sweep(first.id, root).id == first.id
    assert find_sweep(str(first.path), root).id == first.id
    with pytest.raises(OSError, match="fits 2 sweeps"):
        find_sweep("2", root)
    with pytest.raises(OSError, match="no sweep 'x'"):
        find_sweep("x", root)
    with pytest.raises(OSError, match="no sweeps in"):
        find_sweep(None, Path("nowhere"))


def test_a_newer_format_is_refused():
    result = run_sweep(lambda: 0.0, GRID, progress=False)
    record = result.path / "sweep.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 2}))
    with pytest.raises(SweepError, match="written by a newer Ridgepole"):
        load_sweep()


def test_only_the_code_that_started_a_function_can_go_on():
    from ridgepole.sweeps import resume_sweep

    run_sweep(lambda: 0.0, GRID, progress=False)
    with pytest.raises(SweepError, match="was started from Python"):
        resume_sweep()


def test_importing_the_names_loads_no_optuna():
    code = "import sys, ridgepole.sweeps as s; s.run_sweep, s.SweepResult, s.Trial; print('optuna' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
