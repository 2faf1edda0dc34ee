"""Hints that the command line gives for common beginner mistakes."""

import pytest

from ridgepole import run as ridgepole_run
from ridgepole.rundir import read_run
from ridgepole.runs.row import read_row

SCRIPT = """
import ridgepole
with ridgepole.run("line", seed=1) as run:
    state = run.restore() or {"step": 0}
    for step in range(state["step"], 20):
        run.log({"loss": 1.0 - step / 100})
        if step % 10 == 9:
            run.checkpoint({"step": step + 1})
"""


@pytest.fixture
def _script(tmp_path, ridgepole):
    (tmp_path / "line.py").write_text(SCRIPT)
    for _ in range(2):
        assert ridgepole("run", "line.py").returncode == 0


@pytest.mark.usefixtures("_script")
def test_runs_of_one_name_are_told_apart_and_a_name_of_no_metric_is_answered(ridgepole):
    ids = [line.split()[0] for line in ridgepole("runs", "ls").stdout.splitlines()[1:]]
    head = ridgepole("runs", "compare", *ids, "--all").stdout.splitlines()[0].split()
    assert head == ["KEY", *ids]
    assert ridgepole("runs", "metrics", "latest", "--name", "los").stdout == (
        "no values of that name; the run has: loss\n"
    )


@pytest.mark.usefixtures("_script")
def test_a_checkpoint_of_a_loop_that_never_ticks_has_the_step_that_was_logged(ridgepole):
    lines = ridgepole("checkpoints", "ls", "latest").stdout.splitlines()[1:]
    assert [line.split()[2] for line in lines] == ["10", "20"]


def test_a_key_that_is_nearly_type_is_named(tmp_path, ridgepole):
    (tmp_path / "line.toml").write_text('[pipeline]\npackage = "line"\n[processes.train]\ntyp = "train"\n')
    (tmp_path / "line.py").write_text("from ridgepole import process\n@process\ndef train(): pass\n")
    done = ridgepole("check", "line.toml")
    assert done.returncode == 2
    assert "line.toml:4:1: error: the process 'train' has no type" in done.stderr
    assert "did you mean 'type'? 'typ' would be a parameter" in done.stderr


def test_check_of_a_sweep_names_a_program_that_is_not_there(tmp_path, ridgepole):
    (tmp_path / "s.json").write_text('{"program": "lin.py", "method": "grid", "parameters": {"lr": {"values": [1]}}}')
    done = ridgepole("check", "s.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the program 'lin.py' does not exist in" in done.stderr
    (tmp_path / "lin.py").touch()
    assert ridgepole("check", "s.json").stdout == "s.json: ok, 1 parameter of lin.py\n"


def test_arguments_of_a_script_come_after_dashes(ridgepole):
    done = ridgepole("run", "line.py", "--lr", "0.1")
    assert done.returncode == 2
    assert "unrecognized arguments: --lr 0.1; the script's own arguments come after --" in done.stderr


def test_a_run_that_diverged_says_so(tmp_path, ridgepole):
    (tmp_path / "line.py").write_text(
        "import ridgepole\nwith ridgepole.run('line') as run:\n    run.log({'loss': float('nan'), 'rate': 0.1})\n"
    )
    assert ridgepole("run", "line.py").returncode == 0
    assert "loss not finite" in ridgepole("runs", "ls").stdout
    lines = [line.split() for line in ridgepole("runs", "show", "latest").stdout.splitlines()]
    assert ["loss", "not", "finite", "-", "-", "1"] in lines
    assert ["rate", "0.1", "0.1", "0.1", "1"] in lines
    first = ridgepole("runs", "ls").stdout.splitlines()[1].split()[0]
    assert ridgepole("run", "line.py").returncode == 0
    compared = ridgepole("runs", "compare", first, "latest", "--all").stdout.splitlines()
    assert ["metrics", "loss", "not", "finite", "not", "finite"] in [line.split() for line in compared]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rum", "x.toml"], "invalid choice: 'rum'"),
        (["runs", "lss"], "did you mean 'ls'?"),
        (["checkpoints", "verfy"], "did you mean 'verify'?"),
        (["export", "latest", "--to", "x", "--verb"], "unrecognized arguments"),
    ],
)
def test_a_word_that_is_not_a_command_names_one_that_is(ridgepole, words, hint):
    done = ridgepole(*words)
    assert (done.returncode, hint in done.stderr) == (2, True)


def test_a_run_that_is_not_there_names_one_that_is(ridgepole, tmp_path):
    with ridgepole_run("baseline", root=tmp_path / "runs"):
        pass
    for word, meant in (("latset", "latest"), ("baselin", "baseline")):
        assert f"did you mean {meant!r}?" in ridgepole("runs", "show", word).stderr


def test_show_has_the_parameters_of_a_script(ridgepole, tmp_path):
    config = {"lr": 0.1, "net": {"width": 8}, **{f"more{number}": number for number in range(30)}}
    with ridgepole_run(root=tmp_path / "runs", config=config):
        pass
    shown = ridgepole("runs", "show").stdout
    assert "param     lr = 0.1\nparam     net.width = 8\n" in shown
    assert "and 12 more, see config.resolved.json" in shown
    with ridgepole_run(root=tmp_path / "runs", config={}):
        pass
    assert "param " not in ridgepole("runs", "show").stdout


def test_no_table_of_parameters_is_compared_with_an_empty_one(ridgepole, tmp_path):
    with ridgepole_run("a", root=tmp_path / "runs"):
        pass
    with ridgepole_run("b", root=tmp_path / "runs", config={}):
        pass
    assert "params" not in ridgepole("runs", "compare", "a", "b").stdout


def test_a_killed_run_took_the_time_up_to_its_last_record(tmp_path):
    run = tmp_path / "20260101-000000-00000000"
    run.mkdir()
    (run / "run.json").write_text('{"status": "running", "attempt": 1, "started": 100.0}')
    (run / "attempts.jsonl").write_text('{"attempt": 1, "time": 100.0}\n')
    assert read_row(read_run(run)).fields["seconds"] is None
    (run / "metrics.jsonl").write_text('{"seq": 0, "time": 107.5, "step": 0, "metrics": {"loss": 1.0}}\n{"torn')
    (run / "system.jsonl").write_text('{"time": 110.0}\n')
    assert read_row(read_run(run)).fields["seconds"] == 10.0
    fields = '{"status": "running", "attempt": 2, "started": 50.0, "attempts": [{"attempt": 1, "seconds": 4.0}]}'
    (run / "run.json").write_text(fields)  # the second attempt was killed
    (run / "attempts.jsonl").write_text('{"attempt": 1, "time": 50.0}\n{"attempt": 2, "time": 100.0}\n')
    assert read_row(read_run(run)).fields["seconds"] == 14.0
