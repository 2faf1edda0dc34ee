"""`runs ls|show|diff` and `doctor`."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from ridgepole import Pipeline, PipelineProcess, process
from ridgepole.permanences import BaseLoggerManager
from ridgepole.runs.row import FIELDS


@process
def train(logger: BaseLoggerManager, lr: float = 0.1):
    logger.log_metrics({"loss": lr, "validation": {"accuracy": 1 - lr}})


@process
def fail():
    raise ValueError("no good")


@pytest.fixture
def two_runs(tmp_path):
    best = {"keep_best": {"metric": "validation/accuracy", "mode": "max"}}
    for lr in (0.25, 0.5):
        Pipeline("lines", progress=False, seed=1, checkpoint=best).process("train", train, lr=lr).run(tmp_path / "runs")
    return sorted((tmp_path / "runs").iterdir())


def test_ls(two_runs, ridgepole):
    done = ridgepole("runs", "ls")
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["RUN", "PIPELINE", "STATUS"]
    assert [line.split()[0] for line in lines[1:]] == [path.name for path in reversed(two_runs)]
    assert "validation/accuracy 0.75" in lines[2]
    assert "\x1b" not in done.stdout, "no colour off a terminal"


def test_ls_json(two_runs, ridgepole):
    rows = json.loads(ridgepole("runs", "ls", "--json").stdout)
    assert [set(row) for row in rows] == [{*FIELDS, "best", "path", "config", "metrics"}] * 2
    assert [row["id"] for row in rows] == [path.name for path in reversed(two_runs)]
    assert rows[0]["best"] == {"metric": "validation/accuracy", "value": 0.5}
    assert rows[0]["status"] == "finished"
    assert rows[0]["config"]["processes.train.params.lr"] == 0.5
    assert rows[0]["metrics"] == {"loss": 0.5, "validation/accuracy": 0.5}


def test_ls_of_nothing(ridgepole):
    done = ridgepole("runs", "ls")
    assert (done.returncode, done.stdout) == (0, "no runs in runs\n")
    assert json.loads(ridgepole("runs", "ls", "--json").stdout) == []


def test_show(two_runs, ridgepole):
    text = ridgepole("runs", "show").stdout
    assert two_runs[-1].name in text
    assert "status    finished" in text
    assert any(line.split()[:2] == ["loss", "0.5"] for line in text.splitlines())
    shown = json.loads(ridgepole("runs", "show", two_runs[0].name, "--json").stdout)
    assert shown["config"]["processes"]["train"]["params"]["lr"] == 0.25
    assert shown["summary"]["metrics"]["loss"]["last"] == 0.25


def test_show_a_failed_run(tmp_path, ridgepole):
    with pytest.raises(ValueError, match="no good"):
        Pipeline("broken", progress=False).process("fail", fail).run(tmp_path / "runs")
    text = ridgepole("runs", "show").stdout
    assert "status    failed" in text
    assert "ValueError: no good" in text
    assert "in process 'fail'" in text


def test_damaged_and_half_made_runs_are_listed(two_runs, ridgepole):
    root = two_runs[0].parent
    (root / "20260101-000000-aaaaaaaa").mkdir()
    (root / "20260101-000000-aaaaaaaa" / "owner.lock").write_text("")
    (two_runs[0] / "run.json").write_text('{"format": 1, "started": 1e20, "error": "text", "status": "failed"}')
    done = ridgepole("runs", "ls")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert "crashed" in done.stdout.splitlines()[-1]
    assert ridgepole("runs", "show", two_runs[0].name).returncode == 0


def test_a_killed_run_shows_its_metrics(two_runs, ridgepole):
    path = two_runs[-1]
    (path / "run.json").write_text('{"format": 1, "status": "running", "pipeline": "lines"}')
    (path / "summary.json").unlink()
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"seq": 9, "ti')
    text = ridgepole("runs", "show", path.name).stdout
    assert "status    crashed" in text
    assert any(line.split()[:2] == ["loss", "0.5"] for line in text.splitlines())


def test_diff(two_runs, ridgepole):
    a, b = (path.name for path in two_runs)
    rows = [line.split() for line in ridgepole("runs", "diff", a, "latest").stdout.splitlines()]
    assert ["config", "processes.train.params.lr", "0.25", "0.5"] in rows
    assert ["metrics", "loss", "0.25", "0.5"] in rows
    parts = json.loads(ridgepole("runs", "diff", a, b, "--json").stdout)
    assert parts["config"] == [{"key": "processes.train.params.lr", "a": 0.25, "b": 0.5}]
    assert parts["packages"] == []
    assert ridgepole("runs", "diff", a, a).stdout == "no differences\n"


@pytest.mark.parametrize("arguments", [["show", "nope"], ["show", "2"], ["diff", "latest", "nope"]])
def test_a_run_that_is_not_there(arguments, two_runs, ridgepole):
    done = ridgepole("runs", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_a_reader_that_stops_early(two_runs):
    command = f"{shlex.quote(sys.executable)} -m ridgepole runs show --json | head -n 1"
    done = subprocess.run(command, shell=True, cwd=two_runs[0].parents[1], capture_output=True, text=True, timeout=60)
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_doctor(ridgepole):
    text = ridgepole("doctor").stdout
    assert "EXTRA" in text
    report = json.loads(ridgepole("doctor", "--json").stdout)
    names = {"torch", "plots", "tensorboard", "wandb", "sweep", "ray", "slurm", "view", "notify", "remote"}
    found = {extra["name"] for extra in report["extras"]}
    assert names <= found
    assert not {"dev", "all"} & found
    for extra in report["extras"]:
        assert extra["packages"], f"{extra['name']} lists no packages"
        assert extra["complete"] == all(extra["packages"].values())
        assert (extra["install"] is None) == extra["complete"]
    assert report["devices"]["chosen"], "there is always a CPU"


class Wobbly(PipelineProcess):
    def execute(self):
        for _ in range(4):
            self.controller.tick()
        if self.controller.attempt == 1:
            raise RuntimeError("the lights went out")


def test_show_a_resumed_run(tmp_path, ridgepole):
    pipeline = Pipeline("twice", progress=False).process("first", train).process("second", Wobbly)
    with pytest.raises(RuntimeError, match="lights"):
        pipeline.run(tmp_path / "runs")
    done = ridgepole("runs", "show")
    assert "attempt " not in done.stdout, "one is not worth a line"
    assert "2 checkpoints" in done.stdout
    assert ridgepole("runs", "ls").stdout.splitlines()[1].split()[2] == "failed"
    pipeline.resume(root=tmp_path / "runs")
    text = ridgepole("runs", "show").stdout
    first, second = [line for line in text.splitlines() if line.startswith("attempt")]
    assert first.split()[1] == "1,"
    assert re.search(r"from the beginning; failed after [\d.:]+(?: s)?$", first)
    assert second.split()[1] == "2,"
    assert re.search(r"from 000002-step-0, step 0; finished after \d+\.\d s$", second)
    shown = json.loads(ridgepole("runs", "show", "--json").stdout)
    assert [(line["attempt"], line["checkpoint"]) for line in shown["attempts"]] == [(1, None), (2, "000002-step-0")]
    assert shown["checkpoints"] == 2, "keep_last"


def test_show_a_run_while_it_goes_on(tmp_path, ridgepole):
    seen = []

    class Look(PipelineProcess):
        def execute(self):
            seen.append(ridgepole("runs", "show").stdout)

    pipeline = Pipeline(progress=False).process("before", train).process("look", Look).process("after", train)
    pipeline.run(tmp_path / "runs")
    assert "status    running" in seen[0]
    rows = [line.split()[:2] for line in seen[0].splitlines()]
    assert ["before", "done"] in rows
    assert ["look", "running"] in rows
    assert ["after", "pending"] in rows
