"""What a stop, a failure or a kill at an awkward moment leaves to the next driver."""

import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import sweep_helpers as helpers

from isolation import send
from ridgepole.errors import ConfigError, SweepError
from ridgepole.sweeps import load_sweep, resume_sweep, run_sweep, sweep_pipeline

ONE = {"method": "random", "run_cap": 1, "metric": {"name": "loss"}, "parameters": {"x": {"min": 0.0, "max": 1.0}}}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def with_options(**ours):
    return ONE | {"ridgepole": {"seed": 1} | ours}


def interrupt_once(there):
    """Ctrl-C a moment after a file is there."""

    def wait():
        helpers.until(there.exists)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.isolated
def test_a_failure_while_stopping_counts_once_and_is_tried_again():
    config = with_options(executor="process", on_trial_error="retry", retries=1)
    interrupt_once(Path("begun0.1"))
    with pytest.raises(KeyboardInterrupt):
        run_sweep(helpers.fails_while_stopping, config, progress=False)
    result = run_sweep(helpers.fails_while_stopping, config, progress=False, resume="latest")
    assert [(trial.status, trial.attempts, trial.value) for trial in result.trials] == [("finished", 2, 1.0)]


def test_a_mistake_that_was_mended_is_not_held_against_the_resume(toy, grid):
    toy(grid)
    text = Path("toy.toml").read_text()
    Path("toy.toml").write_text(text.replace("seed = 1", 'seed = "one"'))
    config = with_options(executor="process") | {"parameters": {"lr": {"value": 0.1}}, "method": "grid"}
    with pytest.raises(ConfigError, match="seed"):
        run_sweep(helpers.plans_a_pipeline, config, progress=False)
    Path("toy.toml").write_text(text)
    result = run_sweep(helpers.plans_a_pipeline, config, progress=False, resume="latest")
    assert result.counts == {"finished": 1}


@pytest.mark.usefixtures("fresh_python")
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
def test_ctrl_c_while_a_worker_starts_is_obeyed(delay):
    """The terminal sends it to the whole group, and a worker that still imports has no handler of its own."""
    driver = helpers.drive("steps_on", with_options(executor="process"), start_new_session=True)
    helpers.until(lambda: psutil.Process(driver.pid).children(recursive=True))
    time.sleep(delay)
    send(driver.pid, signal.SIGINT, group=True)
    started = time.monotonic()
    driver.communicate(timeout=60)
    assert driver.returncode in (130, 1, -signal.SIGINT)
    assert time.monotonic() - started < 8, "the trial ran to its end as if nothing had been asked"
    assert load_sweep().counts in ({"waiting": 1}, {})


def test_workers_that_do_not_leave_are_ended():
    """A thread that a trial has left keeps its process, and with it whatever memory it holds on a card."""
    seen = []

    def watch():
        while not seen or seen[-1] >= 0:
            seen.append(len(helpers.workers_of(os.getpid())))
            time.sleep(0.2)

    threading.Thread(target=watch, daemon=True).start()
    result = run_sweep(helpers.stays, with_options(executor="process") | {"run_cap": 4}, progress=False)
    seen.append(-1)
    assert result.counts == {"finished": 4}
    assert max(seen) <= 2, "one that runs and one that leaves"


@pytest.mark.isolated
def test_a_decision_to_prune_outlives_a_stop():
    """What was decided before a Ctrl-C holds after it, though nobody is judged at that band again."""
    config = with_options() | {"run_cap": 2, "early_terminate": {"type": "hyperband", "min_iter": 1}}

    def once(trial):
        if trial.number == 1 and trial.attempt == 1:
            os.kill(os.getpid(), signal.SIGINT)  # the signal wins over the pruner at this report
        for _ in range(3):
            trial.report(float(trial.number))

    with pytest.raises(KeyboardInterrupt):
        run_sweep(once, config, progress=False)
    result = run_sweep(once, config, progress=False, resume="latest")
    assert [trial.status for trial in result.trials] == ["finished", "pruned"]


def test_a_grid_over_a_long_list_stays_small():
    """Optuna keeps all the values of a choice with each trial; a grid keeps where it stands."""
    values = [f"a rather long value, number {n}" for n in range(1500)]
    grid = {"method": "grid", "parameters": {"x": {"values": values}}, "run_cap": 300}
    result = run_sweep(lambda trial: 0.0, grid, progress=False)
    assert [trial.params["x"] for trial in result.trials] == values[:300]
    assert (result.path / "journal.log").stat().st_size < 1_000_000
    assert load_sweep().trials == result.trials


def test_a_sweep_is_named_by_the_one_that_was_interrupted(toy, grid, ridgepole):
    """Two drivers in one run root: the first one tells how the first one goes on."""
    grid["parameters"] = {"lr": {"values": [0.1]}, "epochs": {"value": 200}, "pause": {"value": 0.05}}
    toy(grid)
    drivers = []
    for count in (1, 2):
        drivers.append(helpers.start_cli("sweep", "start", "sweep.json", "--no-report"))
        helpers.until(lambda count=count: len(list(Path("runs/.sweeps").glob("*/sweep.json"))) == count)
    first = min(path.parent.name for path in Path("runs/.sweeps").glob("*/sweep.json"))
    helpers.until(lambda: len(list(Path("runs").glob("2*/metrics.jsonl"))) == 2)
    drivers[0].send_signal(signal.SIGTERM)
    errors = drivers[0].communicate(timeout=60)[1]
    assert f"resume with: ridgepole sweep resume {first}" in errors
    refused = ridgepole("sweep", "resume", max(path.parent.name for path in Path("runs/.sweeps").glob("*/sweep.json")))
    assert "is running already" in refused.stderr
    assert "go on with" not in refused.stderr
    drivers[1].kill()
    drivers[1].communicate()


def test_a_password_in_a_query_is_shown_nowhere(monkeypatch):
    monkeypatch.setattr("ridgepole.sweeps.study.storage.PATIENCE", 0.1)
    url = "postgresql+nothing://nowhere/name?user=u&password=pa55word&sslmode=off"
    with pytest.raises(SweepError, match=r"password=\*\*\*&sslmode") as caught:
        run_sweep(lambda: 0.0, with_options(storage=url), progress=False)
    assert "pa55word" not in str(caught.value)
    (directory,) = Path("runs/.sweeps").iterdir()
    assert "pa55word" not in (directory / "sweep.json").read_text()


def test_one_parameter_under_two_names_is_an_error_before_the_first_trial(toy, grid):
    grid["parameters"] = {"lr": {"values": [0.1]}, "net.lr": {"values": [0.5]}}
    toy(grid)
    with pytest.raises(ConfigError, match=r"two parameters of the sweep set permanences\.net\.(params\.)?lr"):
        sweep_pipeline("sweep.json", progress=False)
    assert not Path("runs").exists()


@pytest.mark.fault("moved and copied projects, links, shared directories of runs: the run that was meant")
def test_a_copied_sweep_runs_the_pipeline_beside_it_and_leaves_the_original_alone(toy, grid, tmp_path, monkeypatch):
    toy(grid)
    assert sweep_pipeline("sweep.json", count=1, progress=False).counts == {"finished": 1}
    original = sorted(str(path) for path in tmp_path.rglob("*"))
    copied = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-copied"))
    monkeypatch.chdir(copied)
    for module in [name for name in sys.modules if name.startswith("toy_")]:
        monkeypatch.delitem(sys.modules, module)
    result = resume_sweep(count=2, progress=False)
    assert result.counts == {"finished": 2}
    assert result.pipeline == str(copied / "toy.toml")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == original
    monkeypatch.chdir(copied.rename(tmp_path.with_name(f"{tmp_path.name}-moved")))
    for module in [name for name in sys.modules if name.startswith("toy_")]:
        monkeypatch.delitem(sys.modules, module)
    assert resume_sweep(count=3, progress=False).counts == {"finished": 3}


def test_a_pipeline_that_has_changed_is_refused_and_can_be_accepted(toy, grid):
    """Else the trials of two pipelines would stand side by side."""
    toy(grid)
    assert sweep_pipeline("sweep.json", count=2, progress=False).counts == {"finished": 2}
    toy(grid, more='[processes.more]\ntype = "Train"\n')
    with pytest.raises(ConfigError, match=r"the pipeline is not what sweep .* was") as caught:
        resume_sweep(count=3, progress=False)
    assert len(load_sweep().trials) == 2
    changed = re.findall(r"^\s*([\w.]+): .* -> ", str(caught.value), flags=re.MULTILINE)
    assert any("more" in key for key in changed), str(caught.value)
    toy(grid, more="pause = 0.01")
    with pytest.raises(ConfigError, match=r"--allow-change \S+pause") as caught:
        resume_sweep(count=3, progress=False)
    key = re.search(r"--allow-change (\S+pause)", str(caught.value)).group(1)
    assert resume_sweep(count=3, progress=False, allow_change=[key]).counts == {"finished": 3}
