"""The directory of runs that a command reads, and the older names of its options."""

import json
import shutil

import pytest

from ridgepole import Pipeline, process
from ridgepole.permanences import BaseLoggerManager

PIPELINE = '[processes.train]\ntype = "train"\n'


@process
def train(logger: BaseLoggerManager):
    logger.log_metrics({"loss": 0.5})


@pytest.fixture
def root_at(tmp_path):
    """Runs a pipeline in a directory of runs below the test's directory, and returns the run's id."""

    def make(*places: str) -> str:
        first = tmp_path / places[0]
        run = Pipeline("lines", progress=False).process("train", train).run(first).path
        for place in places[1:]:
            shutil.copytree(first, tmp_path / place)
        return run.name

    return make


def found(done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [row["id"] for row in json.loads(done.stdout)]


def test_runs_of_the_working_directory_come_first_without_a_word(root_at, project, ridgepole):
    run = root_at("runs")
    root_at("first/runs")
    project(first__toml=PIPELINE)
    done = ridgepole("runs", "ls", "--json", RIDGEPOLE_RUNS_DIR="elsewhere")
    assert found(done) == [run]
    assert done.stderr == ""


def test_runs_beside_the_only_pipeline_are_found_and_named(root_at, tmp_path, ridgepole):
    run = root_at("first/runs")
    (tmp_path / "first" / "first.toml").write_text(PIPELINE)
    (tmp_path / "other.toml").write_text('name = "not a pipeline"\n')
    (tmp_path / "broken.toml").write_text("[processes")
    done = ridgepole("runs", "ls", "--json", RIDGEPOLE_RUNS_DIR="elsewhere")
    assert found(done) == [run]
    assert done.stderr == "looking for runs in first/runs\n"


def test_with_two_pipelines_the_variable_decides(root_at, tmp_path, ridgepole):
    run = root_at("there", "first/runs")
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "pipeline.toml").write_text(PIPELINE)
    done = ridgepole("runs", "ls", "--json", RIDGEPOLE_RUNS_DIR="there")
    assert found(done) == [run]
    assert done.stderr == "looking for runs in there\n"
    done = ridgepole("runs", "ls")
    assert (done.stdout, done.stderr) == ("no runs in runs\n", "")


@pytest.mark.parametrize(
    "verb",
    [
        ("runs", "show"),
        ("runs", "diff", "latest", "latest"),
        ("runs", "rm", "latest", "--yes"),
        ("runs", "gc", "--dry-run"),
        ("checkpoints", "ls"),
        ("export", "latest", "--to", "csv"),
        ("sweep", "ls"),
    ],
    ids=" ".join,
)
def test_every_verb_looks_in_the_same_place(verb, root_at, ridgepole):
    root_at("there")
    done = ridgepole(*verb, RIDGEPOLE_RUNS_DIR="there")
    assert done.returncode == 0, done.stderr
    assert "looking for runs in there" in done.stderr


def test_resume_looks_in_the_same_place(root_at, ridgepole):
    run = root_at("there")
    done = ridgepole("resume", RIDGEPOLE_RUNS_DIR="there")
    assert done.returncode == 2
    assert "looking for runs in there" in done.stderr
    assert run in done.stderr


def test_a_run_named_by_its_path_needs_no_root(root_at, ridgepole):
    run = root_at("there")
    done = ridgepole("runs", "show", f"there/{run}", RIDGEPOLE_RUNS_DIR="elsewhere")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_older_option_names_still_work_and_are_hidden(root_at, tmp_path, ridgepole):
    run = root_at("there")
    assert found(ridgepole("runs", "ls", "--run-dir", "there", "--json")) == [run]
    assert ridgepole("export", run, "--to", "csv", "--out", "table", "--run-dir", "there").returncode == 0
    assert (tmp_path / "table" / "metrics.csv").exists()
    shown = ridgepole("export", "--help").stdout + ridgepole("sweep", "start", "--help").stdout
    assert {"--runs-dir", "--output", "--max-trials"} <= set(shown.replace("]", " ").split())
    assert not {"--run-dir", "--out", "--count"} & set(shown.replace("]", " ").split())
