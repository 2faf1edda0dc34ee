"""`ridgepole sweep start|resume|status|best`, and what `check` says of a sweep."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ridgepole.config import parse_override
from ridgepole.rundir import read_run
from ridgepole.sweeps import load_sweep, run_sweep
from ridgepole.sweeps.result import override_value


def start(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "ridgepole", "sweep", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_start_status_and_best(toy, grid, ridgepole, toy_loss):
    toy(grid | {"name": "first"})
    done = ridgepole("sweep", "start", "sweep.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("finished in ")
    assert "6 of 6 trials (6 finished)" in done.stdout
    (sparse,) = re.findall(r"first: 6/6 done in ([^,\n]+)", done.stderr)
    assert f"finished in {sparse} ·" in done.stdout, "both ends say the same"
    shown = ridgepole("sweep", "status").stdout
    assert "first" in shown
    assert len([line for line in shown.splitlines() if " finished " in line]) == 6
    assert "5*" in shown
    best = ridgepole("sweep", "best").stdout
    assert "-s lr=0.9" in best
    assert "-s train.epochs=3" in best
    assert "ridgepole run " in best
    told = json.loads(ridgepole("sweep", "status", "--json").stdout)
    assert [trial["value"] for trial in told["trials"]][5] == toy_loss(0.9, 3)
    assert told["best"] == 5
    told = json.loads(ridgepole("sweep", "best", "--json").stdout)
    assert told["trial"]["number"] == 5
    assert told["settings"] == ["lr=0.9", "train.epochs=3", "pipeline.seed=1"]


def test_trials_stand_in_runs_ls_and_the_sweep_does_not(toy, grid, ridgepole):
    toy(grid)
    told = json.loads(ridgepole("sweep", "start", "sweep.json", "--max-trials", "2", "--json").stdout)
    assert (told["limit"], told["counts"]) == (2, {"finished": 2})
    runs = json.loads(ridgepole("runs", "ls", "--json").stdout)
    assert [run["status"] for run in runs] == ["finished"] * 2
    assert {run["id"] for run in runs} == {trial["run"] for trial in told["trials"]}


def test_ls_lists_sweeps_newest_first_and_passes_over_damaged_ones(toy, grid, ridgepole):
    root = toy(grid)
    assert ridgepole("sweep", "ls").stdout == "no sweeps in runs\n"
    for count in ("1", "2"):
        assert ridgepole("sweep", "start", "sweep.json", "--count", count, "--no-report").returncode == 0
    newest = load_sweep()
    told = json.loads(ridgepole("sweep", "ls", "--json").stdout)
    assert [(sweep["trials"], sweep["limit"], sweep["status"]) for sweep in told] == [
        (2, 2, "finished"),
        (1, 1, "finished"),
    ]
    assert told[0]["id"] == newest.id
    assert told[0]["started"] == json.loads((newest.path / "sweep.json").read_text())["created"]
    assert told[0]["best"] == newest.best.value
    (root / "runs" / ".sweeps" / told[1]["id"] / "spec.json").unlink()
    done = ridgepole("sweep", "ls")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["SWEEP", newest.id]
    assert f"sweep {told[1]['id']} can't be read" in done.stderr


def test_resume_with_a_larger_count_goes_on(toy, grid, ridgepole):
    toy(grid)
    assert ridgepole("sweep", "start", "sweep.json", "--max-trials", "2").returncode == 0
    first = load_sweep()
    done = ridgepole("sweep", "resume", "--max-trials", "5")
    assert done.returncode == 0, done.stderr
    again = load_sweep()
    assert (again.id, len(again.trials)) == (first.id, 5)
    assert again.trials[:2] == first.trials


def test_another_root_and_base_overrides(toy, grid, ridgepole, toy_loss):
    grid["parameters"] = {"lr": {"values": [0.5]}}
    root = toy(grid)
    done = ridgepole("sweep", "start", "sweep.json", "--runs-dir", "there", "-s", "train.epochs=2")
    assert done.returncode == 0, done.stderr
    assert not (root / "runs").exists()
    told = json.loads(ridgepole("sweep", "best", "--runs-dir", "there", "--json").stdout)
    assert told["trial"]["value"] == toy_loss(0.5, 2)
    assert told["settings"] == ["train.epochs=2", "lr=0.5", "pipeline.seed=1"]


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_ctrl_c_leaves_a_checkpoint_and_resume_goes_on_from_it(toy, grid, ridgepole, toy_loss, executor):
    grid["parameters"] = {"lr": {"values": [0.5]}, "train.epochs": {"value": 60}, "train.pause": {"value": 0.05}}
    root = toy(grid)
    driver = start("start", "sweep.json", "--executor", executor, cwd=root)
    end = time.monotonic() + 40
    while time.monotonic() < end and not (root / "steps").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130, errors
    stopped = load_sweep()
    assert (stopped.status, stopped.counts) == ("interrupted", {"waiting": 1})
    assert f"resume with: ridgepole sweep resume {stopped.id}" in errors
    run = read_run(root / "runs" / stopped.trials[0].run)
    assert run.status == "interrupted"
    done = ridgepole("sweep", "resume", "--executor", executor)
    assert done.returncode == 0, done.stderr
    (trial,) = load_sweep().trials
    assert (trial.status, trial.attempts, trial.run) == ("finished", 2, run.id)
    assert trial.value == toy_loss(0.5, 60)
    assert [line.split()[1] for line in (root / "steps").read_text().splitlines()] == [str(i) for i in range(1, 61)]


def test_a_killed_driver_whose_trial_had_finished_is_not_run_again(toy, grid, ridgepole, toy_loss):
    """The run is there and finished; only the ledger had not heard of it."""
    grid["parameters"] = {"lr": {"values": [0.5]}}
    root = toy(grid)
    assert ridgepole("sweep", "start", "sweep.json").returncode == 0
    journal = load_sweep().path / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    cut = next(index for index, line in enumerate(lines) if b'"outcome"' in line)
    journal.write_bytes(b"".join(lines[:cut]) + lines[cut][:20])
    assert load_sweep().counts == {"waiting": 1}
    done = ridgepole("sweep", "resume")
    assert done.returncode == 0, done.stderr
    (trial,) = load_sweep().trials
    assert (trial.status, trial.value, trial.attempts) == ("finished", toy_loss(0.5), 1)
    assert len((root / "steps").read_text().splitlines()) == 3, "nothing was computed again"


def test_check_reports_the_sweep_too(toy, ridgepole):
    root = toy()
    with (root / "toy.toml").open("a") as file:
        file.write('[sweep]\nmethod = "gird"\n[sweep.parameters]\nlrr = { values = [1] }\n')
    done = ridgepole("check", "toy.toml", "--json")
    assert done.returncode == 2
    (problem,) = json.loads(done.stdout)
    assert "grid" in problem["message"] + problem["hint"]
    text = (root / "toy.toml").read_text().replace("gird", "grid")
    (root / "toy.toml").write_text(text)
    done = ridgepole("check", "toy.toml", "--json")
    (problem,) = json.loads(done.stdout)
    assert problem["message"] == "no parameter is called 'lrr'"
    assert problem["line"] == len(text.splitlines())
    (root / "toy.toml").write_text(text.replace("lrr", "lr"))
    assert ridgepole("check", "toy.toml").returncode == 0


def test_check_reports_the_pipeline_and_the_sweep_in_one_go(toy, ridgepole):
    root = toy()
    text = (root / "toy.toml").read_text().replace('type = "Train"', 'type = "Trian"')
    (root / "toy.toml").write_text(text + '[sweep]\nmethod = "gird"\n[sweep.parameters]\nlr = { values = [1] }\n')
    told = json.loads(ridgepole("check", "toy.toml", "--json").stdout)
    assert {"Trian", "gird"} <= {word.strip("'") for problem in told for word in problem["message"].split()}


MISTAKES = [
    (("start", "nowhere.json"), 2, "nowhere.json"),
    (("start", "sweep.json", "--workers", "0"), 2, "expected a positive integer, got '0'"),
    (("start", "sweep.json", "--executor", "moon"), 2, "unknown executor 'moon'; available are inline, process"),
    (("start", "sweep.json", "--pipeline", "train.py"), 2, "'train.py' is a Python file, not a pipeline"),
    (("status", "x"), 2, "no sweeps in"),
    (("resume",), 2, "no sweeps in"),
    (("start", "sweep.json", "--pipeline", "nowhere.toml"), 2, "nowhere.toml"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES)
def test_mistakes(toy, grid, ridgepole, arguments, code, message):
    root = toy(grid)
    done = ridgepole("sweep", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (root / "runs").exists()


def test_a_failing_sweep_says_how_to_go_on(toy, grid, ridgepole):
    grid["parameters"] = {"lr": {"values": [0.5, 0.6]}, "train.fail_at": {"value": 1}}
    toy(grid | {"ridgepole": {"on_trial_error": "stop"}})
    done = ridgepole("sweep", "start", "sweep.json")
    assert done.returncode == 1
    assert "trial 0 failed: RuntimeError: as asked" in done.stderr
    assert "resume with: ridgepole sweep resume" in done.stderr
    status = ridgepole("sweep", "status").stdout
    assert "stopped" in status
    best = ridgepole("sweep", "best")
    assert best.returncode == 1
    assert "no trial of sweep" in best.stdout
    assert ridgepole("sweep", "best", "--json").returncode == 1


def test_a_sweep_of_failed_trials_says_so_and_what_can_be_done(toy, grid, ridgepole):
    grid["parameters"] = {"lr": {"values": [0.5, 0.6]}, "train.fail_at": {"value": 1}}
    toy(grid)
    done = ridgepole("sweep", "start", "sweep.json")
    assert done.returncode == 1
    sweep = load_sweep().id
    assert "no trial finished in " in done.stderr
    assert f"run failed ones again: ridgepole sweep retry {sweep}\n" in done.stderr
    assert "2/2 (2 failed)" in ridgepole("sweep", "ls").stdout
    again = ridgepole("sweep", "resume")
    assert f"sweep {sweep} has finished: there is nothing to resume\n" in again.stderr
    assert f"give it more trials: ridgepole sweep edit {sweep} --max-trials N\n" in again.stderr


def test_a_sweep_whose_metric_is_never_logged_is_to_be_started_anew(toy, grid, ridgepole):
    grid["metric"]["name"] = "lss"
    toy(grid)
    done = ridgepole("sweep", "start", "sweep.json")
    assert done.returncode == 1
    assert "all of 3 trials failed alike" in done.stderr
    assert "correct the file and start a new sweep: a resume runs the stored one\n" in done.stderr
    assert "sweep resume" not in done.stderr


def test_a_finished_sweep_with_more_trials_has_something_to_resume(toy, grid, ridgepole):
    grid["method"], grid["parameters"] = "random", {"lr": {"min": 0.1, "max": 0.9}}
    toy(grid)
    assert ridgepole("sweep", "start", "sweep.json", "--max-trials", "1").returncode == 0
    assert ridgepole("sweep", "edit", "latest", "--max-trials", "2").returncode == 0
    done = ridgepole("sweep", "resume")
    assert "nothing to resume" not in done.stderr
    assert "2 of 2 trials" in done.stdout


def test_a_value_of_a_trial_can_be_changed_in_a_fork(toy, grid, ridgepole):
    grid["parameters"] = {"train.epochs": {"values": [2]}, "lr": {"values": [0.5]}}
    toy(grid)
    assert ridgepole("sweep", "start", "sweep.json").returncode == 0
    (trial,) = load_sweep().trials
    forked = ridgepole("fork", trial.run, "train.epochs=4")
    assert forked.returncode == 0, forked.stderr
    assert "processes.train.params.epochs: 2 -> 4" in forked.stderr
    assert "lr" not in forked.stderr.replace("train.params.lr", "")


def test_a_sweeps_file_is_told_from_a_pipelines(toy, grid, ridgepole):
    root = toy(grid)
    (root / "sweep.toml").write_text('method = "grid"\n[parameters]\nlr = { values = [1] }\n')
    done = ridgepole("run", "sweep.toml")
    assert done.returncode == 2
    assert "sweep.toml:1:1: error: this file is a sweep, not a pipeline" in done.stderr
    assert "ridgepole sweep start" in done.stderr
    grid["ridgepole"] = {"pipeline": "toi.toml"}
    (root / "sweep.json").write_text(json.dumps(grid, indent=2))
    wrong = ridgepole("check", "sweep.json")
    assert wrong.returncode == 2
    assert re.search(r"sweep.json:\d+:\d+: error: the sweep's pipeline is not there: .*toi.toml", wrong.stderr)
    assert "did you mean 'toy.toml'" in wrong.stderr


def test_check_warns_of_a_sweep_that_nothing_ends(toy, grid, ridgepole):
    toy({"method": "random", "metric": {"name": "loss"}, "parameters": {"lr": {"min": 0.1, "max": 0.9}}})
    checked = ridgepole("check", "sweep.json")
    assert checked.returncode == 0, checked.stderr
    told = "a random sweep never ends by itself"
    assert f"warning: {told}" in checked.stderr
    assert "give it a run_cap, or start it with --max-trials N" in checked.stderr
    assert told in ridgepole("sweep", "start", "sweep.json").stderr
    toy({"method": "random", "run_cap": 3, "parameters": {"lr": {"min": 0.1, "max": 0.9}}})
    assert told not in ridgepole("check", "sweep.json").stderr


def test_a_long_name_of_a_metric_is_shown_whole(ridgepole, tmp_path):
    sweep = {"method": "grid", "metric": {"name": "validation/accuracy"}, "parameters": {"x": {"value": 1}}}
    run_sweep(lambda: 0.5, sweep, root=tmp_path / "runs", progress=False)
    lines = ridgepole("sweep", "best").stdout.splitlines()
    assert lines[1].split() == ["validation/accuracy", "0.5"]
    assert lines[0].index("0 of sweep") == lines[1].index("0.5"), "the values stand below each other"


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("s.yaml", "method: grid\nparameters: {lr: {values: [1]}}\n", "write ridgepole: {pipeline: FILE}"),
        ("s.toml", 'method = "grid"\nparameters = { lr.values = [1] }\n', 'ridgepole = { pipeline = "FILE" }'),
        ("s.json", '{"method": "grid", "parameters": {"lr": {"values": [1]}}}', '"ridgepole": {"pipeline": "FILE"}'),
    ],
)
def test_start_without_pipeline_says_how_its_file_names_one(tmp_path, ridgepole, name, text, hint):
    (tmp_path / name).write_text(text)
    done = ridgepole("sweep", "start", str(tmp_path / name))
    assert done.returncode == 2
    assert f"{name}: error: the sweep names no pipeline" in done.stderr
    assert hint in done.stderr


def test_check_of_a_sweep_file_compares_its_parameters_with_its_pipeline(toy, grid, ridgepole):
    root = toy(grid)
    done = ridgepole("check", "sweep.json")
    assert (done.returncode, done.stdout) == (0, "sweep.json: ok, 2 parameters of toy.toml\n")
    wrong = grid | {"ridgepole": {"pipeline": "toy.toml"}, "controller": {"type": "local"}}
    wrong["parameters"] = {"lrr": {"values": [1]}}
    (root / "sweep.json").write_text(json.dumps(wrong, indent=1))
    done = ridgepole("check", "sweep.json", "--json")
    assert done.returncode == 2
    assert [problem["message"] for problem in json.loads(done.stdout)] == ["no parameter is called 'lrr'"]
    (root / "sweep.yaml").write_text("method: gird\nparameters: {lr: {values: [1]}}\n")
    done = ridgepole("check", "sweep.yaml")
    assert done.returncode == 2
    assert "sweep.yaml:1:9: error: method must be one of" in done.stderr
    (root / "own.toml").write_text('method = "grid"\nparameters = { lr.values = [1] }\n')
    done = ridgepole("check", "own.toml")
    assert (done.returncode, done.stdout) == (
        0,
        "own.toml: ok, 1 parameter; it names no pipeline to compare them with\n",
    )


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(JSON_VALUES)
@example(None)
@example([1, None, {"a b": None}])
@example("null")
@example("\x7f${x}\n")
def test_every_json_value_survives_the_command_of_a_best_trial(value):
    read = parse_override(f"k={override_value(value)}").value
    assert json.dumps(read) == json.dumps(value), "1, 1.0 and true are three values"


def test_a_best_trial_with_null_is_reproduced_with_null(toy, grid, ridgepole):
    grid["parameters"] = {"train.fail_at": {"value": -1}, "net.kind": {"values": [None, "plain"]}}
    root = toy(grid)
    package = next(root.glob("toy_*")) / "__init__.py"
    text = package.read_text().replace('kind: str = "plain"', 'kind: str | None = "plain"')
    package.write_text(
        text.replace("self.weight = width, lr, 1.0", 'self.weight = width, lr, 1.0; note("kinds", kind)')
    )
    assert ridgepole("sweep", "start", "sweep.json", "--no-report").returncode == 0
    command = json.loads(ridgepole("sweep", "best", "--json").stdout)["command"]
    assert "net.kind=null" in command
    assert ridgepole(*shlex.split(command)[1:]).returncode == 0
    assert (root / "kinds").read_text().split() == ["None", "plain", "None"]
    shown = ridgepole("sweep", "status").stdout
    assert " null " in shown
    assert " None " not in shown
