"""A run that the kernel killed for lack of memory, and that could not tell it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memory_groups import memory_group
from ridgepole import Pipeline, process, rundir
from ridgepole.cli import main
from ridgepole.watch import cgroup
from ridgepole.watch.alerts import Alert, append_alert, new_alert, read_alerts
from ridgepole.watch.killed import TITLE, TITLE_OTHERWISE, alerts_of, baseline, find_kill, note_told

TOML = """
[pipeline]
name = "eats"
package = "eats"
progress = false
console = false

[processes.train]
type = "train"
"""

EATS = """
import os
from pathlib import Path

from ridgepole import process


@process
def train():
    if Path("eat").exists():
        held = [b"x" * 10_000_000 for _ in range(1000)]
"""

JOINS = """
import os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
from ridgepole.cli import main
main(sys.argv[2:])
"""


def eat(path, group):
    """Runs a pipeline in a group until the kernel kills it, and gives the run."""
    (path / "eats.py").write_text(EATS)
    (path / "eat").touch()
    command = [sys.executable, "-c", JOINS, str(group), "run", "eats.toml"]
    modules = os.pathsep.join([str(Path(rundir.__file__).parents[1]), str(path)])
    done = subprocess.run(
        command, cwd=path, env=os.environ | {"PYTHONPATH": modules}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (run,) = rundir.list_runs(path / "runs")
    assert run.status == "crashed"
    return run


def test_a_kill_before_there_is_a_helper_is_told_by_the_next_attempt(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "eats.toml").write_text(TOML)
    with memory_group(200_000_000) as group:
        run = eat(tmp_path, group)
        assert read_alerts(run.path)[0] == []
        assert main(["runs", "show", run.id]) == 0
        shown = capsys.readouterr().out
        assert f"killed    {TITLE}: " in shown
        assert " of 200 MB; 1 in the control group of this run" in shown
        assert main(["runs", "alerts", run.id, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [alert["title"] for alert in told["alerts"]] == [TITLE]
        assert main(["runs", "alerts", run.id, "--json", "--since", told["next"]]) == 0
        assert json.loads(capsys.readouterr().out)["alerts"] == []
        (tmp_path / "eat").unlink()
        assert main(["resume", run.id]) == 0
    (alert,) = read_alerts(run.path)[0]
    assert alert["title"] == "the kernel killed attempt 1: out of memory"
    assert " of 200 MB" in alert["text"]
    assert find_kill(run.path) is None, "the attempt that is last was not killed"


def test_a_helper_tells_of_it_at_once(tmp_path):
    (tmp_path / "eats.toml").write_text(TOML.replace("console = false\n", ""))
    with memory_group(200_000_000) as group:
        run = eat(tmp_path, group)
        until = time.monotonic() + 60
        while not read_alerts(run.path)[0] and time.monotonic() < until:
            time.sleep(0.05)
    (alert,) = alerts_of(run)[0]
    assert alert["title"] == TITLE
    assert " of 200 MB; 1 in the control group of this run" in alert["text"]


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Files as those of a group of version 2 with a limit of 2 GB, of which 1.9 GB were used."""
    root = tmp_path / "cgroup"
    (root / "job").mkdir(parents=True)
    (tmp_path / "self").write_text("0::/job\n")
    for name, text in {"max": "2000000000", "current": "5", "peak": "1900000000"}.items():
        (root / "job" / f"memory.{name}").write_text(text)
    monkeypatch.setattr(cgroup, "ROOT", root)
    monkeypatch.setattr(cgroup, "SELF", tmp_path / "self")
    events = root / "job" / "memory.events"
    events.write_text("low 0\noom 3\noom_kill 3\noom_group_kill 0\n")
    return events


def crashed(path):
    path.mkdir()
    rundir.note_attempt(path, 1, **baseline(path))
    return rundir.RunInfo(path=path, fields={}, status="crashed")


def test_only_kills_since_the_attempt_began_count(tmp_path, group):
    run = crashed(tmp_path / "run")
    assert alerts_of(run) == ([], 0)
    group.write_text("oom 5\noom_kill 5\n")
    assert find_kill(run.path).text == "1.9 GB of 2 GB; 2 in the control group of this run"
    note_told(run.path, 1, 1)
    note_told(run.path, 1, 1)
    assert find_kill(run.path) is None, "both were told of, and did not end the run"
    group.write_text("oom 5\noom_kill 6\n")
    assert find_kill(run.path).text.endswith("; 1 in the control group of this run")


def test_a_kill_that_is_told_is_not_told_twice(tmp_path, group):
    run = crashed(tmp_path / "run")
    group.write_text("oom_kill 9\n")
    append_alert(run.path, new_alert("memory", "error", TITLE, "as the helper said"))
    assert find_kill(run.path).text == "as the helper said"
    assert alerts_of(run)[1] == 1
    rundir.note_attempt(run.path, 2, **baseline(run.path))
    assert find_kill(run.path) is None, "that was the attempt before"
    clock = read_alerts(run.path)[0][0]["time"]
    append_alert(run.path, Alert(time=clock - 86400, level="error", kind="memory", title=TITLE, text="set back"))
    assert find_kill(run.path).text == "set back"


@pytest.mark.parametrize("how", ["killed otherwise", "another group", "another machine", "gone", "damaged"])
def test_without_evidence_nothing_is_told(tmp_path, group, monkeypatch, how):
    run = crashed(tmp_path / "run")
    group.write_text("oom_kill 9\n")
    if how == "killed otherwise":
        append_alert(run.path, new_alert("failed", "error", TITLE_OTHERWISE))
    elif how == "another group":
        group.parent.rename(tmp_path / "before")
        group.parent.mkdir()
        group.write_text("oom_kill 9\n")
    elif how == "another machine":
        monkeypatch.setattr(cgroup, "BOOT", tmp_path / "self")
    elif how == "gone":
        group.unlink()
    else:
        (run.path / rundir.ATTEMPTS).write_text('{"attempt": 1, "memory_group": {"folder": 3}}\n{')
    assert find_kill(run.path) is None


@process
def nothing():
    pass


def test_a_run_that_ended_well_tells_nothing(tmp_path, group):
    run = Pipeline("well", progress=False).process("nothing", nothing).run(tmp_path / "runs").path
    group.write_text("oom_kill 9\n")
    assert alerts_of(rundir.read_run(run)) == ([], 0)
