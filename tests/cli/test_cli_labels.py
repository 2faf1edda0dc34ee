"""Names, tags and notes of runs: given at the start, changed later, found again."""

import contextlib
import json
import threading

import pytest

from ridgepole import ConfigError, Pipeline, RunDirError, process
from ridgepole.labels import Labels, LabelsChange, checked, read_labels
from ridgepole.rundir import find_run

PIPELINE = """
[pipeline]
name = "named"
package = "named"
progress = false
tags = ["paper"]

[processes.work]
type = "work"
"""
CODE = (
    "from ridgepole import process\n\n\n@process\ndef work(fail: bool = False):\n    if fail:\n        raise OSError\n"
)


@process
def nothing():
    pass


@pytest.fixture
def run(tmp_path):
    return Pipeline("quiet", progress=False, logger=False).process("nothing", nothing).run(tmp_path / "runs").path


def test_a_run_from_python_gets_its_labels_and_those_of_the_pipeline(tmp_path):
    pipeline = Pipeline("quiet", progress=False, logger=False, tags=["a", "b"]).process("nothing", nothing)
    result = pipeline.run(tmp_path, name=" first ", tags=["b", "c"], note="one\ntwo\n")
    assert read_labels(result.path) == Labels(name="first", tags=("a", "b", "c"), note="one\ntwo")
    plain = Pipeline("quiet", progress=False, logger=False).process("nothing", nothing).run(tmp_path)
    assert not (plain.path / "labels.json").exists()


def test_a_run_of_the_command_line_gets_its_labels_and_a_resume_adds_some(project, ridgepole):
    folder = project(pipeline__toml=PIPELINE, named__py=CODE)
    options = ("--name", "try 1", "--tag", "x", "--note", "why not")
    assert ridgepole("run", "pipeline.toml", "-s", "fail=true", *options).returncode == 1
    (path,) = (folder / "runs").glob("2*")
    assert read_labels(path) == Labels(name="try 1", tags=("paper", "x"), note="why not")
    assert ridgepole("runs", "tag", "try 1", "paper", "--remove").stdout.endswith("(try 1): x\n")
    again = ridgepole("run", "pipeline.toml", "-s", "fail=true", "--resume", "--tag", "y")
    assert again.returncode == 1, again.stdout
    assert read_labels(path) == Labels(name="try 1", tags=("x", "y"), note="why not"), "a removed tag stays removed"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"name": "a\nb"}, "a name is one line without control characters"),
        ({"name": "x" * 201}, "a name has at most 200 characters, this one has 201"),
        ({"tags": [""]}, "a tag must not be empty"),
        ({"tags": ["\x1b[31m"]}, "a tag is one line"),
        ({"tags": [3]}, "a tag must be a text, not 3"),
        ({"tags": "baseline"}, "tags must be a list of texts, not the text 'baseline'"),
        ({"note": "x" * 100_001}, "a note has at most 100000 characters"),
    ],
)
def test_labels_that_are_not_valid_are_refused_before_anything_starts(labels, message, tmp_path):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Pipeline("quiet", progress=False).process("nothing", nothing).run(tmp_path / "runs", **labels)
    assert not (tmp_path / "runs").exists()


def test_a_tag_of_the_pipeline_that_is_not_valid_is_located(project):
    folder = project(pipeline__toml=PIPELINE.replace('["paper"]', '["fine", "a\\nb"]'), named__py=CODE)
    with pytest.raises(ConfigError, match=r"pipeline.toml:6:17: error: a tag is one line"):
        Pipeline.from_toml(folder / "pipeline.toml").plan()


def test_the_verbs_change_labels(run, ridgepole):
    assert (
        ridgepole("runs", "rename", "latest", "night shift").stdout == f"run {run.name} is called 'night shift' now\n"
    )
    assert ridgepole("runs", "tag", "night shift", "b", "a", "b").stdout == f"run {run.name} (night shift): b, a\n"
    assert ridgepole("runs", "note", "night shift", "a\nb").returncode == 0
    assert ridgepole("runs", "note", "night shift").stdout == "a\nb\n"
    assert ridgepole("runs", "archive", "night shift", "latest").stdout == "archived 1 run\n"
    assert ridgepole("runs", "ls").stdout.startswith("no runs in")
    stored = json.loads((run / "labels.json").read_text())
    expected = {"format": 1, "name": "night shift", "tags": ["b", "a"], "note": "a\nb", "archived": True}
    assert stored == expected
    assert ridgepole("runs", "archive", "latest", "--undo").stdout == "restored 1 run\n"
    assert ridgepole("runs", "tag", "latest", "a", "b", "--remove").stdout.endswith("no tags\n")
    assert ridgepole("runs", "note", "latest", "").stdout.endswith("the note is removed\n")
    assert ridgepole("runs", "rename", "latest", "").stdout.endswith("has no name now\n")
    assert read_labels(run) == Labels()
    refused = ridgepole("runs", "tag", "latest", "a\tb")
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: a tag is one line without control characters, not 'a\\tb'\n",
    )


def test_a_name_that_several_runs_have_stands_for_none(run, tmp_path):
    other = Pipeline("quiet", progress=False, logger=False).process("nothing", nothing).run(run.parent).path
    for path in (run, other):
        with LabelsChange(path) as change:
            change.labels = checked(name="twin")
    with pytest.raises(RunDirError, match="'twin' matches 2 runs"):
        find_run("twin", run.parent)
    with LabelsChange(other) as change:
        change.labels = checked(name="other")
    assert find_run("twin", run.parent).path == run


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"name": 3, "tags": "a", "note": null, "archived": 1}', '{"tags": [1]}']
)
def test_a_damaged_file_counts_as_no_labels(text, run):
    (run / "labels.json").write_text(text)
    assert read_labels(run) == Labels()


def _tag(path, start, first):
    start.wait(60)
    for number in range(10):
        with LabelsChange(path) as change:
            change.labels = change.labels.tagged([f"{first}{number}"])


def test_changes_at_the_same_time_are_all_kept(run):
    start = threading.Barrier(4)
    threads = [threading.Thread(target=_tag, args=(run, start, word)) for word in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read_labels(run).tags) == {f"{word}{number}" for word in "abcd" for number in range(10)}


def test_labels_of_a_run_that_is_gone(run, tmp_path):
    run.rename(tmp_path / "away")
    with (
        pytest.raises(RunDirError, match=r"the labels of run .* can't be written: No such file or directory"),
        LabelsChange(run),
    ):
        pass


def test_a_change_that_fails_writes_nothing(run):
    change = LabelsChange(run)
    with contextlib.suppress(ZeroDivisionError), change:
        change.labels = checked(name="never")
        raise ZeroDivisionError
    assert read_labels(run) == Labels()
    with LabelsChange(run) as change:
        change.labels = checked(name="free again")
    assert read_labels(run).name == "free again"
