"""Sweeps over a program: `program` and `command` of W&B's files, with unchanged scripts."""

import json
import shlex
import signal
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from ridgepole import ConfigError, SweepError, read_metrics
from ridgepole.rundir import list_runs, read_run
from ridgepole.sweeps import load_sweep, read_sweep, sweep_program
from ridgepole.sweeps.run.program import program_of
from ridgepole.sweeps.sweepdir import list_sweeps

PRINTS = """
import json, sys
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
for step in range(int(given.get("steps", 3))):
    print(json.dumps({"loss": float(given["lr"]) / (step + 1), "step": step}), flush=True)
"""
GRID = {
    "program": "train.py",
    "method": "grid",
    "metric": {"name": "loss", "from": "stdout"},
    "parameters": {"lr": {"values": [0.5, 0.1]}, "steps": {"value": 2}},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Writes the script into the working directory; gives the function that does."""
    monkeypatch.chdir(tmp_path)

    def write(text: str = PRINTS, name: str = "train.py") -> Path:
        (tmp_path / name).write_text(textwrap.dedent(text))
        return tmp_path

    write()
    return write


def sweep(config=GRID, **more):
    return sweep_program(config, progress=False, **more)


def values(result):
    return [(trial.params["lr"], trial.value, trial.status) for trial in result.trials]


def run_of(trial):
    return read_run(Path("runs") / trial.run)


# --- the command line


def words(config, params=None):
    program = program_of(read_sweep({"method": "grid", "parameters": {"lr": {"value": 0.1}}} | config))
    assert program is not None
    return program.words(params or {"lr": 0.1}, interpreter="PY", json_file="/j")


MANY = {"lr": {"value": 0.1}, "flag": {"values": [True]}, "off": {"values": [False]}, "none": {"values": [None]}}


@pytest.mark.parametrize(
    ("macro", "expected"),
    [
        ("${env}", ["/usr/bin/env"]),
        ("${interpreter}", ["PY"]),
        ("${program}", ["a.py"]),
        ("${args}", ["--lr=0.1", "--flag=True", "--off=False", "--none=None"]),
        ("${args_no_hyphens}", ["lr=0.1", "flag=True", "off=False", "none=None"]),
        ("${args_no_boolean_flags}", ["--lr=0.1", "--flag", "--none=None"]),
        ("${args_no_equals}", ["--lr", "0.1", "--flag", "True", "--off", "False", "--none", "None"]),
        ("${args_json}", ['{"lr": 0.1, "flag": true, "off": false, "none": null}']),
        ("${args_json_file}", ["/j"]),
        ("${args_append_hydra}", ["+lr=0.1", "+flag=True", "+off=False", "+none=None"]),
        ("${args_override_hydra}", ["++lr=0.1", "++flag=True", "++off=False", "++none=None"]),
        ("${envvar:HOME_OF_TEST}/x", ["/home/x"]),
        ("${envvar:NOT_SET_AT_ALL}", ["NOT_SET_AT_ALL"]),
        ("pre-${program}", ["pre-${program}"]),
        (7, ["7"]),
    ],
)
def test_every_macro_is_that_of_the_agent(macro, expected, monkeypatch):
    monkeypatch.setenv("HOME_OF_TEST", "/home")
    config = {"program": "a.py", "command": [macro], "parameters": MANY}
    assert words(config, {"lr": 0.1, "flag": True, "off": False, "none": None}) == expected


def test_macros_agree_with_the_installed_client():
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    params = {"lr": 0.1, "flag": True, "off": False, "none": None, "text": "a b", "inner": {"x": 1, "y": [1, 2]}}
    theirs = utils.create_sweep_command_args({"args": {name: {"value": value} for name, value in params.items()}})
    parameters = {name: {"values": [value]} for name, value in params.items() if name != "inner"}
    parameters["inner"] = {"parameters": {"x": {"value": 1}, "y": {"value": [1, 2]}}}
    flat = {name: value for name, value in params.items() if name != "inner"} | {"inner.x": 1, "inner.y": [1, 2]}
    for macro in ("args", "args_no_equals", "args_no_hyphens", "args_no_boolean_flags", "args_json"):
        assert words({"program": "a.py", "command": [f"${{{macro}}}"], "parameters": parameters}, flat) == theirs[macro]


def test_without_a_command_it_is_the_default_one():
    assert words({"program": "a.py"}) == ["/usr/bin/env", "PY", "a.py", "--lr=0.1"]
    assert words({"command": ["./go", "${args}"]}) == ["./go", "--lr=0.1"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"program": 3}, "program must be text, not 3"),
        ({"program": "a.py", "command": "python a.py"}, "command must be an array of words"),
        ({"command": ["${program}"]}, "the sweep has no 'program'"),
        ({"program": "a.py", "metric": {"name": "loss", "from": "stderr"}}, "metric.from must be one of 'stdout'"),
    ],
)
def test_a_wrong_command_is_an_error(config, message):
    with pytest.raises(ConfigError, match=message):
        read_sweep({"method": "grid", "parameters": {"lr": {"value": 0.1}}} | config)


def test_an_unknown_macro_is_a_warning():
    spec = read_sweep({"method": "grid", "parameters": {"lr": {"value": 1}}, "command": ["x", "${arg}"]})
    (warning,) = spec.warnings
    assert "unknown macro ${arg}, which W&B leaves out" in warning.message
    assert program_of(spec).words({"lr": 1}, interpreter="", json_file="") == ["x"]


# --- trials


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_a_script_runs_unchanged(here, executor):
    result = sweep(executor=executor, workers=2)
    assert values(result) == [(0.5, 0.25, "finished"), (0.1, 0.05, "finished")]
    for trial in result.trials:
        run = run_of(trial)
        assert (run.status, run.fields["exit_code"], run.fields["pipeline"]) == ("finished", 0, "train")
        assert run.fields["sweep"]["trial"] == trial.number
        assert run.json("config.resolved.json")["params"] == trial.params
        assert run.fields["script"]["command"][2:] == ["train.py", f"--lr={trial.params['lr']}", "--steps=2"]
        assert (run.path / "console.log").read_text().count("loss") == 2
        frame = read_metrics(run.path)
        assert frame.filter(frame["name"] == "loss")["value"].to_list() == [trial.params["lr"], trial.value]
    assert result.command().endswith("train.py --lr=0.1 --steps=2")
    assert load_sweep().trials == result.trials


SOURCES = {
    "record": """
        import ridgepole
        with ridgepole.run("mine") as run:
            for step in range(3):
                run.log({"loss": lr / (step + 1), "other": 1})
    """,
    "logger": """
        from ridgepole.permanences import BasicLogger
        with BasicLogger() as logger:
            for step in range(3):
                logger.log_metrics({"loss": lr / (step + 1), "other": 1})
    """,
    "tensorboard": """
        from ridgepole.permanences import TensorBoardLogger
        with TensorBoardLogger(log_dir=f"elsewhere/{lr}") as logger:
            for step in range(3):
                logger.log_metrics({"loss": lr / (step + 1), "other": 1})
    """,
    "wandb": """
        import wandb
        with wandb.init(project="p", config={"lr": 77.0}) as run:
            assert run.config.lr == lr, run.config
            for step in range(3):
                run.log({"loss": lr / (step + 1), "other": 1})
    """,
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_metric_comes_from_whichever_library_logs_it(here, source):
    start = "import sys\nlr = float(sys.argv[1].partition('=')[2])\nprint('{\"loss\": -1.0}')\n"
    here(start + textwrap.dedent(SOURCES[source]))
    config = GRID | {"metric": {"name": "loss"}, "parameters": {"lr": {"values": [3.0]}}}
    result = sweep(config)
    assert values(result) == [(3.0, 1.0, "finished")], [trial.error for trial in result.trials]
    frame = read_metrics(run_of(result.trials[0]).path)
    assert frame.filter(frame["name"] == "loss")["value"].to_list() == [3.0, 1.5, 1.0]
    assert frame["step"].to_list() == [0, 0, 1, 1, 2, 2]


# --- ends


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("sys.exit(3)", "train exited with code 3; see "),
        ("raise ValueError('my mistake')", "train exited with code 1: ValueError: my mistake; see "),
        ("os.kill(os.getpid(), 9)", "train was killed by SIGKILL, as when memory runs out; see "),
        ("print('x' * 10_000_000)", "the metric 'loss' was never logged; logged was: nothing"),
        ('print("{\\"los\\": 1}")', "did you mean 'los'?"),
    ],
)
def test_a_program_that_fails_fails_its_trial_once(here, code, error):
    here(f"import os, sys\n{code}\n")
    result = sweep(count=1)
    (trial,) = result.trials
    assert (trial.status, trial.attempts) == ("failed", 1)
    assert error in trial.error
    assert run_of(trial).status == ("finished" if "metric" in error or "mean" in error else "failed")


def test_a_script_that_asks_for_w_b_on_line_without_a_key_says_so(here, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    here("""
        import wandb
        with wandb.init(project="p", mode="online") as run:
            run.log({"loss": 1.0})
    """)
    (trial,) = sweep(GRID | {"metric": {"name": "loss"}}, count=1).trials
    assert (trial.status, trial.attempts) == ("failed", 1)
    assert "train exited with code 1: " in trial.error
    hint = ". The script asks W&B for mode='online', which needs a key: leave the mode out, or run `wandb login`"
    assert hint in trial.error
    assert trial.error.endswith(f"; see {run_of(trial).path.absolute() / 'console.log'}")


@pytest.mark.parametrize(
    ("program", "text", "message"),
    [
        ("none.py", None, "the program 'none.py' does not exist in"),
        ("broken.py", "def x(:\n", "Python can't read the program 'broken.py': invalid syntax, line 1"),
        ("go.sh", "#!/bin/sh\nif true; then echo; fi\n", "Python can't read the program 'go.sh'"),
    ],
)
def test_a_program_that_cannot_run_is_a_located_error(ridgepole, here, program, text, message):
    folder = here()
    if text is not None:
        here(text, program)
    (folder / "sweep.yaml").write_text(f"program: {program}\nmethod: grid\nparameters:\n  lr: {{value: 1}}\n")
    done = ridgepole("sweep", "start", "sweep.yaml")
    assert done.returncode == 2
    assert f"sweep.yaml:1:10: error: {message}" in done.stderr
    assert not (folder / "runs").exists()


def test_a_failed_program_is_retried_in_the_same_run(here):
    here("""
        import json, os
        first = not os.environ.get("RIDGEPOLE_RESUME")
        print(json.dumps({"loss": 5.0 if first else 2.0}), flush=True)
        raise SystemExit(first)
    """)
    ours = {"on_trial_error": "retry", "retries": 1}
    result = sweep(GRID | {"parameters": {"lr": {"values": [1]}}, "ridgepole": ours})
    (trial,) = result.trials
    assert (trial.status, trial.value, trial.attempts, len(trial.runs)) == ("finished", 2.0, 2, 1)
    assert run_of(trial).fields["attempt"] == 2


PATIENT = """
import json, os, signal, sys, time
lr = float(sys.argv[1].partition("=")[2])
if sys.argv[0] == "stubborn.py":
    signal.signal(signal.SIGTERM, lambda *_: None)
else:
    signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"asked\\n"), os._exit(0)))
print(json.dumps({"loss": lr}), flush=True)
print(json.dumps({"loss": lr}), flush=True)
while lr > 1:
    time.sleep(60)
"""


@pytest.mark.parametrize(("program", "ends"), [("train.py", "asked"), ("stubborn.py", "")])
def test_a_pruned_program_gets_sigterm_and_then_sigkill(here, program, ends):
    here(PATIENT, program)
    config = GRID | {
        "program": program,
        "parameters": {"lr": {"values": [1.0, 0.9, 2.0]}},
        "early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 2},
        "ridgepole": {"grace_seconds": 60.0 if ends else 0.0},
    }
    result = sweep(config)
    assert values(result) == [(1.0, 1.0, "finished"), (0.9, 0.9, "finished"), (2.0, 2.0, "pruned")]
    run = run_of(result.trials[2])
    assert run.status == "pruned"
    assert run.fields.get("signal") == (None if ends else "SIGKILL")
    assert (run.path / "console.log").read_text().splitlines()[2:] == ([ends] if ends else [])


# --- resume

RESUMES = """
import argparse, os
from pathlib import Path
import wandb

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
lr = parser.parse_args().lr
with Path("begun").open("a") as file:
    file.write(f"{lr} {os.getpid()}\\n")
with wandb.init(project="p") as run:
    for step in range(3):
        run.log({"loss": lr / (step + 1)})
        if step == 1 and lr > 1 and not Path("free").exists():
            os.mkfifo(f"gate{lr}")
            Path(f"gate{lr}").read_text()  # until the test kills it
"""


QUICK = {"WANDB_X_DISABLE_STATS": "true", "WANDB_X_DISABLE_META": "true", "WANDB_DISABLE_GIT": "true"}


@pytest.mark.timeout(400)  # five clients of W&B start
def test_an_unchanged_wandb_script_with_two_workers_survives_a_kill(command_server, here):
    folder = here(RESUMES)
    (folder / "sweep.yaml").write_text(
        "program: train.py\nmethod: grid\nmetric: {name: loss, goal: minimize}\n"
        "parameters:\n  lr: {values: [1, 2, 3]}\nridgepole: {executor: process, workers: 2}\n"
    )
    child = command_server.start("sweep", "start", "sweep.yaml", cwd=folder, **QUICK)
    limit = time.monotonic() + 180
    while not all((folder / f"gate{lr}.0").exists() for lr in (2, 3)):
        assert child.poll() is None, child.stderr
        assert time.monotonic() < limit, child.stderr
        time.sleep(0.02)
    pids = dict(line.split() for line in (folder / "begun").read_text().splitlines())
    begun = [psutil.Process(int(pids[lr])) for lr in ("2.0", "3.0")]
    child.send(signal.SIGKILL)
    child.wait()
    (folder / "free").touch()
    done = command_server.call("sweep", "resume", cwd=folder, timeout=180, **QUICK)
    assert done.returncode == 0, done.stderr
    result = load_sweep()
    assert [(trial.params["lr"], trial.value, trial.status) for trial in result.trials] == [
        (1, 1 / 3, "finished"),
        (2, 2 / 3, "finished"),
        (3, 1.0, "finished"),
    ]
    assert [trial.attempts for trial in result.trials] == [1, 2, 2]
    assert not any(process.is_running() for process in begun)
    runs = list(list_runs(folder / "runs"))
    assert sorted(run.fields["sweep"]["trial"] for run in runs) == [0, 1, 2]
    assert [run.status for run in runs] == ["finished"] * 3
    frame = read_metrics(run_of(result.trials[2]).path)
    assert frame["value"].to_list() == [3.0, 1.5, 1.0]


def test_ctrl_c_leaves_trials_to_a_resume(command_server, here):
    folder = here("""
        import json, os, sys, time
        from pathlib import Path
        print(json.dumps({"loss": float(sys.argv[1].partition("=")[2])}), flush=True)
        if not os.environ.get("RIDGEPOLE_RESUME"):
            Path("waits").touch()
            time.sleep(100)
    """)
    (folder / "sweep.json").write_text(json.dumps(GRID | {"parameters": {"lr": {"values": [1.0]}}}))
    child = command_server.start("sweep", "start", "sweep.json", cwd=folder)
    limit = time.monotonic() + 60
    while not (folder / "waits").exists():
        assert child.poll() is None, child.stderr
        assert time.monotonic() < limit
        time.sleep(0.01)
    child.send(signal.SIGINT)
    assert child.wait() == 130
    (trial,) = load_sweep().trials
    assert trial.status == "waiting"
    assert run_of(trial).status == "interrupted"
    assert command_server.call("sweep", "resume", cwd=folder).returncode == 0
    (trial,) = load_sweep().trials
    assert (trial.status, trial.value, trial.attempts, len(trial.runs)) == ("finished", 1.0, 2, 1)


def test_values_from_before_a_checkpoint_count_in_a_resumed_trial(here):
    here("""
        import ridgepole
        with ridgepole.run("mine") as run:
            state = run.restore() or {"step": 0}
            for step in range(state["step"], 4):
                run.log({"loss": [1.0, 5.0, 0.0, 7.0][step] if run.attempt == 1 else 9.0})
                if step == 2 and run.attempt == 1:
                    raise SystemExit(1)
                run.checkpoint({"step": step + 1})
    """)
    ours = {"on_trial_error": "retry"}
    config = GRID | {"metric": {"name": "loss"}, "parameters": {"lr": {"values": [1]}}, "ridgepole": ours}
    (trial,) = sweep(config).trials
    assert (trial.status, trial.value, trial.latest) == ("finished", 1.0, 9.0)  # 0.0 came after the checkpoint


# --- calls


def test_a_sweep_without_a_program_says_so(here):
    with pytest.raises(SweepError, match="the sweep has no program"):
        sweep({"method": "grid", "parameters": {"lr": {"values": [1]}}})


def test_overrides_are_for_pipelines(ridgepole, here):
    (here() / "sweep.json").write_text(json.dumps(GRID))
    done = ridgepole("sweep", "start", "sweep.json", "-s", "a=1")
    assert done.returncode == 1
    assert "-s overrides a pipeline's values, and this sweep runs a program" in done.stderr
    assert not list(list_sweeps(Path("runs")))


def test_the_program_is_looked_for_beside_the_sweeps_file(here, tmp_path):
    folder = tmp_path / "below"
    folder.mkdir()
    (folder / "train.py").write_text(textwrap.dedent(PRINTS))
    (tmp_path / "train.py").unlink()
    (folder / "sweep.json").write_text(json.dumps(GRID))
    assert values(sweep(folder / "sweep.json")) == [(0.5, 0.25, "finished"), (0.1, 0.05, "finished")]


def test_sweep_best_shows_the_command_line(ridgepole, here):
    (here() / "sweep.json").write_text(json.dumps(GRID))
    assert ridgepole("sweep", "start", "sweep.json", "--no-report").returncode == 0
    shown = ridgepole("sweep", "best").stdout
    assert shown.endswith(f"/usr/bin/env {shlex.quote(sys.executable)} train.py --lr=0.1 --steps=2\n")
    assert "-s " not in shown
