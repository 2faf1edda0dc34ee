"""`runs rm` and `runs gc`."""

import json
import os
import signal
import subprocess
import sys
import time

import pexpect
import pytest

from ridgepole import Pipeline, PipelineProcess, process
from ridgepole.rundir import RunDir


@process
def work(fail: bool = False):
    if fail:
        raise ValueError("no good")


def made(root, fail=False):
    pipeline = Pipeline("made", progress=False, checkpoint=False).process("work", work, fail=fail)
    if not fail:
        return pipeline.run(root).path
    before = set(root.iterdir()) if root.exists() else set()
    with pytest.raises(ValueError, match="no good"):
        pipeline.run(root)
    (path,) = set(root.iterdir()) - before
    return path


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def names(root):
    return sorted(path.name for path in root.iterdir())


def age(path, days):
    fields = json.loads((path / "run.json").read_text())
    fields["started"] = fields["ended"] = time.time() - days * 86400
    (path / "run.json").write_text(json.dumps(fields))


def test_rm(root, ridgepole):
    first, second, third = (made(root) for _ in range(3))
    done = ridgepole("runs", "rm", first.name, str(second), "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("removed 2 runs, ")
    assert names(root) == [third.name], "and nothing else is left of them"
    ridgepole("runs", "rm", "latest", "latest", "--yes")
    assert names(root) == []


def test_rm_does_not_guess(root, ridgepole):
    made(root), made(root)
    before = names(root)
    for spec, message in (("nope", "no run 'nope'"), ("2", "matches 2 runs"), (str(root), "is not a run directory")):
        done = ridgepole("runs", "rm", before[0], spec, "--yes")
        assert done.returncode == 2
        assert message in done.stderr
        assert names(root) == before, "all are looked up before one is removed"


def test_rm_asks(root, ridgepole):
    path = made(root)
    done = ridgepole("runs", "rm", "latest")
    assert done.returncode == 2
    assert "there is no terminal to ask on; say --yes" in done.stderr
    assert path.exists()
    assert "about to remove 1 run" in done.stdout
    for answer, left in (("", True), ("n", True), ("y", False)):
        child = pexpect.spawn(
            sys.executable, ["-m", "ridgepole", "runs", "rm", "latest"], cwd=str(root.parent), timeout=30
        )
        child.expect(r"remove 1 run for good\? \[y/N\]")
        child.sendline(answer)
        child.expect(pexpect.EOF)
        child.close()
        assert path.exists() is left
        assert child.exitstatus == (1 if left else 0)


def test_a_running_run_stays(root, ridgepole):
    answers = []

    class Look(PipelineProcess):
        def execute(self):
            name = self.controller.run_dir.name
            answers.append(ridgepole("runs", "rm", name, "--yes"))
            answers.append(ridgepole("runs", "gc", "--keep", "0", "--yes"))

    old = made(root)
    new = Pipeline(progress=False, checkpoint=False).process("look", Look).run(root).path
    assert answers[0].returncode == 2
    assert f"is running: stop process {os.getpid()} on" in answers[0].stderr
    assert answers[1].returncode == 0
    assert not old.exists()
    assert (new / "run.json").exists()


def test_a_run_that_is_taken_up_meanwhile_stays(root, ridgepole):
    """The list was read when nobody owned it; the lock decides."""
    path = made(root, fail=True)
    owner = RunDir.reopen(path)
    try:
        done = ridgepole("runs", "rm", path.name, "--yes")
    finally:
        owner.close()
    assert done.returncode == 1
    assert "is running already" in done.stderr
    assert (path / "run.json").exists()


def test_links_are_never_followed(root, tmp_path, ridgepole):
    path, other = made(root), made(tmp_path / "elsewhere")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").write_text("1")
    (path / "checkpoints").symlink_to(precious)
    (root / "20260101-000000-linked").symlink_to(other)
    done = ridgepole("runs", "rm", "20260101-000000-linked", "--yes")
    assert done.returncode == 2
    assert "is a symbolic link to a run elsewhere" in done.stderr
    assert ridgepole("runs", "gc", "--keep", "0", "--yes").returncode == 0
    assert not path.exists()
    assert (precious / "data").read_text() == "1"
    assert (other / "run.json").exists()


SLOW = """
import os, shutil, sys, time
from ridgepole.cli import main, removal

def stuck(path, *args, **kwargs):
    os.unlink(path / "run.json")
    print("half", flush=True)
    time.sleep(60)

removal.shutil.rmtree = stuck
main(["runs", "rm", "latest", "--yes"])
"""


def test_a_killed_rm_leaves_nothing_that_looks_like_a_run(root, ridgepole):
    kept, path = made(root), made(root)
    child = subprocess.Popen([sys.executable, "-c", SLOW], cwd=root.parent, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert [row["id"] for row in json.loads(ridgepole("runs", "ls", "--json").stdout)] == [kept.name]
    assert not path.exists()
    assert len(names(root)) == 2, "the leftover has a name of its own"
    done = ridgepole("runs", "gc", "--dry-run")
    assert "would remove 1 leftover" in done.stdout
    assert len(names(root)) == 2
    done = ridgepole("runs", "gc")
    assert (done.returncode, names(root)) == (0, [kept.name]), "leftovers need no question"
    assert "removing 1 leftover" in done.stdout
    assert ridgepole("runs", "gc").stdout == "nothing to remove in runs\n"


def test_gc_by_rule(root, ridgepole):
    runs = [made(root, fail=index % 2 == 0) for index in range(6)]  # oldest first: failed, fine, failed, ...
    for index, path in enumerate(runs):
        age(path, days=60 - 10 * index)

    def would(*options):
        done = ridgepole("runs", "gc", *options, "--dry-run")
        assert done.returncode == 0, done.stderr
        return [index for index, path in enumerate(runs) if path.name in done.stdout]

    assert would() == []
    assert would("--keep", "4") == [0, 1]
    assert would("--older-than", "35d") == [0, 1, 2]
    assert would("--failed") == [0, 2, 4]
    assert would("--failed", "--keep", "1") == [0, 2], "the newest of the failed ones is kept"
    assert would("--failed", "--older-than", "35d") == [0, 2]
    assert would("--keep", "5", "--older-than", "1d") == [0], "however old, five are kept"
    assert len(names(root)) == 6
    done = ridgepole("runs", "gc", "--failed", "--older-than", "5w")
    assert (done.returncode, len(names(root))) == (2, 6), "asks like rm"
    done = ridgepole("runs", "gc", "--failed", "--older-than", "5w", "--yes")
    assert done.stdout.startswith("removed 2 runs, ")
    assert names(root) == sorted(path.name for path in (runs[1], *runs[3:]))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--older-than", "30", "write a number and a unit, such as 30d"),
        ("--older-than", "soon", "write a number and a unit, such as 30d"),
        ("--keep", "-1", "expected a whole number from 0"),
        ("--cache-size", "big", "such as 500M or 20G"),
    ],
)
def test_gc_refuses_what_it_does_not_understand(option, value, message, ridgepole):
    done = ridgepole("runs", "gc", f"{option}={value}")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_a_damaged_run_can_be_removed_and_a_newer_one_not(root, ridgepole):
    damaged, newer = made(root), made(root)
    (damaged / "run.json").write_text("{")
    (newer / "run.json").write_text('{"format": 99}')
    assert ridgepole("runs", "rm", damaged.name, "--yes").returncode == 0
    done = ridgepole("runs", "rm", newer.name, "--yes")
    assert (done.returncode, "written by a newer Ridgepole" in done.stderr) == (2, True)
    assert names(root) == [newer.name]
