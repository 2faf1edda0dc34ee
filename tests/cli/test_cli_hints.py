"""Hints that the command line gives for common beginner mistakes."""

import pytest

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
