"""Memory that is used up, a full disk, and steps that become slow."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ridgepole import Pipeline, process, rundir, track
from ridgepole.checkpoint import CheckpointStore
from ridgepole.pipeline.lifecycle import guarding
from ridgepole.ticks import ASKS
from ridgepole.watch.policy import Slow
from ridgepole.watch.resources import SlowWatch, disk_shortage, oom_kills


@process
def takes_all(size: int = 1 << 62):
    return bytearray(size)


@process
def is_asked(controller):
    for step in track(range(30), "train", tick=True):
        if step == 10:
            controller.ticks.beat[ASKS] += 1  # as the helper process does


def only_run(root):
    (run,) = [path for path in root.iterdir() if not path.name.startswith(".")]
    return run


def test_memory_that_is_used_up_is_told_and_the_error_goes_on(tmp_path):
    with pytest.raises(MemoryError) as caught:
        Pipeline("takes", progress=False).process("takes", takes_all).run(tmp_path)
    assert type(caught.value) is MemoryError
    run = only_run(tmp_path)
    (alert,) = [json.loads(line) for line in (run / rundir.ALERTS).read_text("utf-8").splitlines()]
    assert (alert["kind"], alert["level"], alert["title"]) == ("memory", "error", "out of memory")
    (report,) = (run / rundir.OOM).iterdir()
    assert report.name in alert["text"]
    assert f"process {os.getpid()}" in report.read_text("utf-8")
    with pytest.raises(MemoryError):
        Pipeline("takes", progress=False, guard={"memory": False}).process("takes", takes_all).run(tmp_path / "off")
    assert not (only_run(tmp_path / "off") / rundir.OOM).exists()


def test_the_helper_can_ask_for_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(guarding, "PERIOD", 0.0)
    keeps = {"keep_last": 5}
    run = Pipeline("asked", progress=False, checkpoint=keeps).process("asked", is_asked).run(tmp_path).path
    taken = [info for info in CheckpointStore(run / rundir.CHECKPOINTS).list() if info.kind == "guard"]
    assert len(taken) == 1
    assert taken[0].step >= 11


def with_checkpoint(run):
    CheckpointStore(run / rundir.CHECKPOINTS).save({"numbers": "x" * 1_000_000}, step=1, kind="step")


def test_a_disk_without_room_for_two_checkpoints(tmp_path, monkeypatch):
    assert disk_shortage(tmp_path) == "", "no checkpoint, no need"
    with_checkpoint(tmp_path)
    assert disk_shortage(tmp_path) == ""
    before = __import__("shutil").disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: before._replace(free=1_500_000))
    assert disk_shortage(tmp_path) == "1.5 MB are free, and the next two checkpoints need 2 MB"


def test_a_real_disk_that_is_nearly_full(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2500k", "none", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk can't be mounted here")
    try:
        with_checkpoint(tmp_path)
        assert "are free, and the next two checkpoints need 2 MB" in disk_shortage(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def slow_steps(watch, *parts):
    """Looks at parts of a run: seconds that it lasts, and the time of a step; gives when it was told."""
    told, clock = [], 0
    for seconds, step in parts:
        for _ in range(0, seconds, 10):
            clock += 10
            if text := watch.look(10.0, step):
                told.append((clock, text))
    return told


def test_steps_that_take_twice_as_long_for_ten_minutes_are_told_once():
    told = slow_steps(SlowWatch(Slow()), (3600, 0.1), (3600, 0.25))
    ((at, text),) = told
    assert 3600 + 290 <= at <= 3600 + 620
    assert text == "a step took 0.1 s, and takes 0.25 s for 10 minutes"


@pytest.mark.parametrize(
    "parts",
    [
        [(7200, 0.1)],
        [(3600, 0.1), (3600, 0.19)],
        [(3600, 0.1), (200, 5.0), (3600, 0.1)],
        [(600, None), (3600, 0.1)],
        [(1000, 0.5), (3600, 0.1)],
    ],
)
def test_steps_that_are_not_slow_are_not_told(parts):
    assert slow_steps(SlowWatch(Slow()), *parts) == []


@contextlib.contextmanager
def memory_group(limit):
    """A control group (v1 or v2) of our own below that of this process."""
    line = next((each for each in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in each), None)
    root = "/sys/fs/cgroup/memory" if line else "/sys/fs/cgroup"
    name = (line or Path("/proc/self/cgroup").read_text().splitlines()[-1]).split(":", 2)[2]
    for parent in (Path(root) / name.lstrip("/"), Path(root)):
        group = parent / f"ridgepole-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / ("memory.limit_in_bytes" if line else "memory.max")).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    pytest.skip("no control group can be made here")


EATS = """
import os, sys
sys.path.insert(0, sys.argv[2])
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
from ridgepole.watch.resources import oom_kills
before = oom_kills()
pid = os.fork()
if not pid:
    open("/proc/self/oom_score_adj", "w").write("1000")
    held = [b"x" * 10_000_000 for _ in range(1000)]
print(os.waitpid(pid, 0)[1], before, oom_kills())
"""


def test_the_kernel_s_kill_for_memory_is_counted():
    with memory_group(200_000_000) as group:
        command = [sys.executable, "-c", EATS, str(group), str(Path(rundir.__file__).parents[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    status, before, after = done.stdout.split()
    assert (int(status), int(before), int(after)) == (signal.SIGKILL, 0, 1)


def test_without_a_count_nothing_is_told(monkeypatch):
    monkeypatch.setattr("ridgepole.watch.resources._event_files", lambda: [Path("/nowhere")])
    assert oom_kills() is None
