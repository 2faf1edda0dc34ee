"""Memory that is used up, a full disk, and steps that become slow."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memory_groups import memory_group
from ridgepole import Pipeline, process, rundir, track
from ridgepole.checkpoint import CheckpointStore
from ridgepole.pipeline.lifecycle import guarding
from ridgepole.ticks import ASKS
from ridgepole.watch import cgroup
from ridgepole.watch.policy import Slow
from ridgepole.watch.resources import disk_shortage
from ridgepole.watch.slow import SampleReader, SlowWatch, StepSample, what_grew


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


def samples(count, held_back=0.0, throttled=(), **parts):
    return [StepSample(parts=parts, held_back=held_back, throttled=dict(throttled))] * count


def test_what_grew_is_named_with_what_the_machine_does():
    first = samples(5, code=0.1, data=0.01, logging=0.001)
    waits = samples(5, code=0.1, data=0.2, logging=0.002)
    assert what_grew(first, waits) == "waiting for data grew from 0.01 to 0.2 s a step"
    both = samples(5, code=0.3, data=0.01, checkpoints=0.1, logging=0.0)
    said = "your code grew from 0.1 to 0.3 s a step; checkpoints grew from 0 to 0.1 s a step"
    assert what_grew(first, both) == said
    hot = samples(5, throttled={"gpu0": "heat"}, code=0.3, data=0.01)
    assert what_grew(first, hot) == "your code grew from 0.1 to 0.3 s a step; gpu0 is throttled: heat"
    held = samples(5, held_back=60.0, code=0.3)
    assert what_grew(first, held).endswith("limit of processor time holds the run back for 60 % of the time")
    assert what_grew(samples(5, throttled={"gpu0": "power"}, code=0.1), hot).count("throttled") == 0, "as before"
    assert what_grew(first, samples(2, code=1.0)) == what_grew(first, first) == "", "nothing tells it"


@process
def waits_for_data(controller, more):
    """Wait longer for data once there are some samples, and end when there are some more."""
    path = controller.run_dir / rundir.SYSTEM

    def taken():
        return len(list(rundir.read_lines(path)))

    def batches(seconds, enough):
        until = time.monotonic() + 60
        while taken() < enough and time.monotonic() < until:
            time.sleep(seconds)
            yield 1

    for _ in track(batches(0.002, more), "before", tick=True):
        pass
    for _ in track(batches(0.05, taken() + more + 1), "after", tick=True):
        pass


def test_the_samples_of_a_run_tell_that_it_waits_for_data(tmp_path):
    made = Pipeline("waits", progress=False, system={"every_seconds": 0.1})
    run = made.process("waits", waits_for_data, more=8).run(tmp_path / "runs").path
    lines = (run / rundir.SYSTEM).read_bytes().splitlines(keepends=True)
    copy = tmp_path / "copy.jsonl"
    reader = SampleReader(copy)
    assert list(reader.read()) == [], "there is no file yet"
    copy.write_bytes(b"".join(lines[:6]) + lines[6][:20])
    first = list(reader.read())
    with copy.open("ab") as file:
        file.write(lines[6][20:] + b"not json\n" + b"".join(lines[7:]))
    more = list(reader.read())
    assert len(first) in (5, 6), "one line of the first is a header, or none"
    assert what_grew(first[:5], more[-6:]).startswith("waiting for data grew from ")


def test_a_slow_watch_names_what_its_samples_tell(tmp_path):
    path = tmp_path / rundir.SYSTEM
    watch = SlowWatch(Slow(minutes=2, first_minutes=10), SampleReader(path))
    told = []
    for number in range(200):
        data, second = (10, 0.1) if number < 100 else (70, 0.3)
        values = {"steps_per_second": 1 / second, "code_percent": 100 - data, "data_percent": data}
        with path.open("a") as file:
            file.write(json.dumps({"values": values}) + "\n")
        told += filter(None, [watch.look(10.0, second)])
    (text,) = told
    assert text.startswith("a step took 0.1 s, and takes 0.3 s for 2 minutes; waiting for data grew from 0.01 to 0.21")


EATS = """
import os, sys
sys.path.insert(0, sys.argv[2])
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
from ridgepole.watch.cgroup import memory_group
group = memory_group()
pid = os.fork()
if not pid:
    open("/proc/self/oom_score_adj", "w").write("1000")
    held = [b"x" * 10_000_000 for _ in range(1000)]
print(os.waitpid(pid, 0)[1], group.kills, group.kills_since(), *group.fullest())
"""


def test_the_kernel_s_kill_for_memory_is_counted():
    with memory_group(200_000_000) as group:
        command = [sys.executable, "-c", EATS, str(group), str(Path(rundir.__file__).parents[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    status, before, since, peak, limit = map(int, done.stdout.split())
    assert (status, before, since) == (signal.SIGKILL, 0, 1)
    assert limit - 5_000_000 < peak <= limit <= 200_000_000


def test_without_a_count_nothing_is_told(monkeypatch):
    monkeypatch.setattr(cgroup, "_folders", lambda _controller: iter([Path("/nowhere")]))
    assert cgroup.memory_group() is None
