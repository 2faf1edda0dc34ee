"""Runs that are mirrored, resumed, listed and viewed by URL."""

import json
from pathlib import Path

import pytest

from ridgepole.checkpoint import CheckpointStore
from ridgepole.mirror.download import fetch_run
from ridgepole.rundir import read_run

from .conftest import make_project, run_of


def contents(run: Path) -> dict[str, bytes]:
    """Return the files of a run, but for the locks."""
    files = (
        path for path in run.rglob("*") if path.is_file() and not path.name.startswith(".") and ".lock" not in path.name
    )
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("kind", ["store", "bucket", "container"])
def test_a_run_is_mirrored_whole_and_comes_back_equal(tmp_path, ridgepole, kind, request):
    url = request.getfixturevalue(kind)
    here = make_project(tmp_path / "here", url)
    done = ridgepole("run", "pipe.toml", cwd=here)
    assert done.returncode == 0, done.stderr
    run = run_of(here)
    there = fetch_run(f"{url}/{run.name}", tmp_path / "there", print)
    assert contents(there) == contents(run)
    assert read_run(there).status == "finished"
    store = CheckpointStore(there / "checkpoints")
    assert len(store.list()) >= 2
    assert store.load("latest").state

    listed = ridgepole("runs", "ls", url, cwd=tmp_path)
    assert run.name in listed.stdout, listed.stderr
    assert "finished" in listed.stdout


@pytest.mark.parametrize("kind", ["store", "bucket", "container"])
def test_a_run_resumes_on_a_machine_that_never_saw_it(tmp_path, ridgepole, kind, request):
    url = request.getfixturevalue(kind)
    here = make_project(tmp_path / "here", url)
    failed = ridgepole("run", "pipe.toml", "processes.learn.stop=17", cwd=here)
    assert failed.returncode == 1, failed.stderr
    run = run_of(here)
    other = make_project(tmp_path / "other", url)
    (other / "go").touch()
    resumed = ridgepole("resume", f"{url}/{run.name}", cwd=other)
    assert resumed.returncode == 0, resumed.stderr
    lines = [json.loads(line) for line in (other / "runs" / run.name / "attempts.jsonl").read_text().splitlines()]
    assert max(line["attempt"] for line in lines) == 2
    assert read_run(other / "runs" / run.name).status == "finished"
    # the machine that was left behind must not write over it
    stale = ridgepole("mirror", "push", run.name, cwd=here)
    assert stale.returncode != 0
    assert "attempt 2" in stale.stderr
    last = fetch_run(f"{url}/{run.name}", tmp_path / "third", print)
    assert contents(last) == contents(other / "runs" / run.name)
