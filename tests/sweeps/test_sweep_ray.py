"""The executor `ray`, on real clusters."""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
import sweep_helpers as helpers
from sweep_places import Head

from ridgepole.errors import SweepError
from ridgepole.sweeps import load_sweep, run_sweep

pytest.importorskip("ray")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sweep_of(values, ray, **ours):
    return {
        "method": "grid",
        "metric": {"name": "loss"},
        "parameters": {"x": {"values": list(values)}},
        "ridgepole": {"executor": "ray", "workers": 2, "ray": ray} | ours,
    }


def test_a_cluster_of_its_own_leaves_nothing_behind_and_says_nothing(monkeypatch, capfd):
    home = Path(tempfile.mkdtemp(prefix="rp"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(home))
    try:
        result = run_sweep(helpers.square, sweep_of([1, 2], {}), progress=False)
        assert [trial.value for trial in result.trials] == [4.0, 1.0]
        left = [
            each.pid for each in psutil.process_iter(["cmdline"]) if str(home) in " ".join(each.info["cmdline"] or ())
        ]
        assert not left
        assert list(home.iterdir()) == [], "neither a session nor a token"
    finally:
        shutil.rmtree(home)
    assert capfd.readouterr() == ("", "")


def test_a_gateway_that_is_killed_stops_the_sweep_and_leaves_nothing_behind(monkeypatch):
    home = Path(tempfile.mkdtemp(prefix="rp"))
    monkeypatch.setenv("TMPDIR", str(home))
    driver = helpers.drive("endless", sweep_of([1], {}))
    helpers.until(Path("begun0").exists, what="the trial")
    children = psutil.Process(driver.pid).children()
    (gateway,) = [each for each in children if "ray_gateway" in " ".join(each.cmdline())]
    gateway.kill()
    _, errors = driver.communicate(timeout=60)
    assert "SweepError: the connection to Ray at 'local' was lost" in errors
    assert list(home.iterdir()) == []
    home.rmdir()
    assert load_sweep().counts == {"waiting": 1}


def test_what_no_node_has_is_said_and_waited_for_and_a_stop_ends_the_wait(ray_head):
    """A cluster that scales may get such a node."""
    driver = helpers.drive("square", sweep_of([1], {"address": ray_head, "resources": {"moon": 1}}))
    told = driver.stderr.readline()
    assert "no node of the Ray cluster has what a trial needs: CPU 1 (at most 2), moon 1 (at most 0)" in told
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130, errors
    assert load_sweep().status == "interrupted"


def test_what_a_cluster_of_its_own_lacks_is_said_before_the_first_trial():
    with pytest.raises(SweepError, match=r"CPU 1 \(at most \d+\), moon 1 \(at most 0\)"):
        run_sweep(helpers.square, sweep_of([1], {"resources": {"moon": 1}}), progress=False)
    assert load_sweep().trials == ()


WRONG = [
    ({"address": "127.0.0.1:1"}, "no Ray cluster listens at 127.0.0.1:1: start the cluster with 'ray start --head'"),
    ({"address": "ray://127.0.0.1:1"}, "is an address of Ray Client; give that of the head itself"),
]


@pytest.mark.parametrize(("ray", "message"), WRONG)
def test_a_cluster_that_is_not_there_is_said_before_the_first_trial(ray, message):
    with pytest.raises(SweepError, match=message):
        run_sweep(helpers.square, sweep_of([1], ray), progress=False)
    assert load_sweep().trials == ()


def test_a_trial_has_its_wishes_its_log_and_a_process_for_itself(ray_head):
    ray = {"address": ray_head, "num_gpus": 1, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "7"}}}
    run_sweep(helpers.environment, sweep_of([0, 1], ray), progress=False)
    told = json.loads(Path("environment1").read_text())
    assert told["OMP_NUM_THREADS"] == "7"
    assert told["CUDA_VISIBLE_DEVICES"] in ("0", "1"), "Ray shows it the card that it has for it"
    assert told["RIDGEPOLE_DEVICE_LEASE"] == "exclusive"
    assert (load_sweep().path / "trials" / "000001.log").read_text() == "printed by the trial\n"


def test_a_trial_that_asks_for_half_a_card_shares_it(ray_head):
    run_sweep(helpers.environment, sweep_of([0], {"address": ray_head, "num_gpus": 0.5}), progress=False)
    told = json.loads(Path("environment0").read_text())
    assert told["RIDGEPOLE_DEVICE_LEASE"] == "shared"
    assert told["CUDA_VISIBLE_DEVICES"] in ("0", "1")


def test_a_worker_is_fresh_for_each_trial_or_the_same(ray_head):
    ray = {"address": ray_head, "num_cpus": 2}
    for reuse, values in ((False, [0, 0, 0]), (True, [0, 1, 2])):
        result = run_sweep(helpers.leaks, sweep_of(range(3), ray, reuse_workers=reuse, workers=1), progress=False)
        assert [trial.value for trial in result.trials] == values, f"reuse_workers = {reuse}"


def test_a_function_of_the_main_script_is_sent_by_its_code(ray_head):
    config = sweep_of([1], {"address": ray_head})
    Path("main.py").write_text(
        "from ridgepole.sweeps import run_sweep\n"
        "def once(trial): return trial.params['x'] + 0.5\n"
        f"if __name__ == '__main__': run_sweep(once, {config!r}, progress=False)\n"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "main.py"]) == 0
    assert load_sweep().trials[0].value == 1.5


def test_a_module_that_no_worker_finds_ends_the_sweep(ray_head):
    Path("gone.py").write_text("def once(trial): return 1.0\n")
    lines = ["import os", "from ridgepole.sweeps import run_sweep", "from gone import once", "os.remove('gone.py')"]
    lines += [f"run_sweep(once, {sweep_of([1, 2], {'address': ray_head})!r}, progress=False)"]
    Path("main.py").write_text("\n".join(lines))
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-B", "main.py"]) == 1
    assert load_sweep().status == "failed"


def test_a_cluster_that_goes_away_stops_the_sweep_which_can_go_on(ray_head, monkeypatch):
    monkeypatch.setattr("ridgepole.sweeps.executors.ray._PATIENCE", 2.0)
    head = Head()

    def kill_once_it_runs():
        helpers.until(Path("begun0").exists, what="the trial")
        head.kill()

    killer = threading.Thread(target=kill_once_it_runs)
    killer.start()
    with pytest.raises(SweepError, match=r"Ray.*executor\.log"):
        run_sweep(helpers.endless, sweep_of([1], {"address": head.address}), progress=False)
    killer.join()
    assert load_sweep().counts == {"waiting": 1}
    result = run_sweep(helpers.square, sweep_of([1], {"address": ray_head}), progress=False, resume="latest")
    assert [(trial.value, trial.attempts) for trial in result.trials] == [(4.0, 2)]
