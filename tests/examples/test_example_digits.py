"""The digits example, end to end as a newcomer runs it, and the project that `ridgepole new` makes of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fork_server import QUICK

from ridgepole import read_metrics

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits" / "digits.toml"
EPOCHS, STEPS_PER_EPOCH = 10, 20
FIGURES = ("confusion matrix", "learning curves", "misread digits")


def python_m(*arguments, cwd):
    """Calls a module in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=110,
        env=os.environ | QUICK,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def forked(command_server, *arguments, cwd):
    """Calls the command line in a process of its own that is forked where torch is imported already."""
    done = command_server.call(*arguments, cwd=cwd, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory, torch_server):
    """A shortened run: the last line that it printed, and its directory."""
    root = tmp_path_factory.mktemp("runs")
    said = forked(torch_server, "run", EXAMPLE, "--runs-dir", root, "-s", f"train.epochs={EPOCHS}", cwd=root)
    (run,) = root.iterdir()
    return said.splitlines()[-1], run


def values(run, name):
    return read_metrics(run).filter(name=name).sort("step")["value"].cast(float).to_list()


def test_it_reads_nearly_every_digit(trained):
    said, run = trained
    (accuracy,) = values(run, "test/accuracy")
    assert accuracy > 0.97
    assert f"test/accuracy {accuracy:.4g}" in said
    assert said.startswith("finished in")
    assert said.endswith(run.name)


def test_every_step_and_epoch_is_recorded(trained):
    _, run = trained
    losses = values(run, "loss")
    assert len(losses) == EPOCHS * STEPS_PER_EPOCH
    assert sum(losses[-STEPS_PER_EPOCH:]) < sum(losses[:STEPS_PER_EPOCH]) / 10, "it learns"
    assert len(values(run, "validation/accuracy")) == EPOCHS
    steps = read_metrics(run).filter(name="validation/accuracy")["step"].to_list()
    assert steps == [epoch * STEPS_PER_EPOCH - 1 for epoch in range(1, EPOCHS + 1)], "the last step of each epoch"


def test_the_pictures_are_drawn(trained):
    from PIL import Image

    _, run = trained
    media = [json.loads(line) for line in (run / "media.jsonl").read_text().splitlines()]
    assert sorted(entry["name"] for entry in media) == sorted(FIGURES)
    files = sorted((run / "figures").iterdir())
    assert [path.suffix for path in files] == [".png"] * len(FIGURES)
    for path in files:
        with Image.open(path) as picture:
            assert picture.width >= 400, path.name
            assert picture.height >= 200, path.name
            assert len(set(picture.convert("L").get_flattened_data())) > 10, f"{path.name} is blank"


def test_runs_show_tells_what_came_of_it(trained, torch_server):
    _, run = trained
    shown = forked(torch_server, "runs", "show", "--runs-dir", run.parent, cwd=run.parent)
    lines = shown.splitlines()
    assert f"run       {run.name}" in lines
    assert "status    finished" in lines
    for name in ("train", "evaluate", "report"):
        assert any(line.split()[:2] == [name, "done"] for line in lines), shown
    (row,) = [line.split() for line in lines if line.startswith("test/accuracy ")]
    assert float(row[1]) == pytest.approx(values(run, "test/accuracy")[0], abs=1e-4)
    pictures = lines[lines.index("PICTURES") + 1 :]
    assert len(pictures) == len(FIGURES)
    assert all((run.parent / line).is_file() for line in pictures)


def test_a_project_made_of_it_gives_the_same_numbers(trained, tmp_path, torch_server):
    _, original = trained
    forked(torch_server, "new", "mine", "--template", "digits", cwd=tmp_path)
    project = tmp_path / "mine"
    forked(torch_server, "run", "mine.toml", "-s", f"train.epochs={EPOCHS}", cwd=project)
    (run,) = (project / "runs").iterdir()
    for name in ("loss", "validation/accuracy", "test/accuracy"):
        assert values(run, name) == values(original, name), "the same seed gives the same numbers"


def test_a_project_made_of_it_passes_its_own_test(tmp_path, torch_server):
    forked(torch_server, "new", "mine", "--template", "digits", cwd=tmp_path)
    said = python_m("pytest", "-q", "-p", "no:cacheprovider", "-W", "error", cwd=tmp_path / "mine")
    assert "2 passed" in said
    assert not (tmp_path / "mine" / "runs").exists(), "a test keeps its runs to itself"
