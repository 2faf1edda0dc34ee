"""Stalls of every kind, provoked for real, and the helper process that sees them."""

import ctypes
import json
import math
import os
import signal
import time
from pathlib import Path

import pytest

from isolation import send
from ridgepole import Pipeline, process, rundir, track
from ridgepole.ticks import COUNT, FIRST, PAUSES
from ridgepole.watch import stacks
from ridgepole.watch.helper import Orders, dump_signal
from ridgepole.watch.monitor import Watch, _answers_file
from ridgepole.watch.reports import StallReport, waits_for_ranks, who_is_behind
from ridgepole.watch.stall import StallWatch

TOML = """
[pipeline]
name = "hangs"
package = "hangs"
progress = false
grace_seconds = 0.5
guard = { stall = { seconds = 0.5, action = "warn" } }

[processes.train]
type = "train"
"""

# A read of an empty pipe hangs until the test writes into it.
HANGS = """
import ctypes, os, signal, time
from ridgepole import process, track


def hang_in_python():
    with open("pipe", "rb") as pipe:
        pipe.read(1)


def hang_in_c():
    fd = os.open("pipe", os.O_RDONLY)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ctypes.PyDLL(None).read(fd, ctypes.create_string_buffer(1), 1)


class Items:
    def __len__(self):
        return 60

    def __getitem__(self, index):
        if index == 40:
            hang_in_python()
        return index


def hang_in_collective():
    from torch import distributed, zeros

    if os.environ["RANK"] == "1":
        hang_in_python()
    distributed.all_reduce(zeros(1))


def place():
    return {"rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}


def loader():
    from torch.utils.data import DataLoader

    return DataLoader(Items(), batch_size=1, num_workers=1, prefetch_factor=1)


@process
def train():
    how = os.environ["HOW"]
    if how == "collective":
        from torch import distributed

        distributed.init_process_group("gloo", init_method="file://" + os.path.abspath("store"), **place())
    for index in track(loader() if how == "worker" else range(60), "train", tick=True):
        if how != "worker" and index == 30:
            globals()["hang_in_" + how]()
        time.sleep(0.001)  # faster steps are counted several at a time
"""


class Hanging:
    """A run that hangs until it is let go."""

    def __init__(self, server, path, how, toml=TOML, **environment):
        (path / "hangs.toml").write_text(toml)
        (path / "hangs.py").write_text(HANGS)
        os.mkfifo(path / "pipe")
        self.pipe = os.open(path / "pipe", os.O_RDWR)
        self.path, self.server, self.how, self.environment = path, server, how, environment
        self.start()

    def start(self, **more):
        command = ("run", "hangs.toml")
        self.child = self.server.start(*command, cwd=self.path, HOW=self.how, **(self.environment | more))
        return self.child

    @property
    def run(self) -> Path:
        (found,) = [path for path in (self.path / "runs").iterdir() if not path.name.startswith(".")]
        return found

    def alerts(self, word, timeout=60):
        """Waits for an alert whose title has a word, and gives all of them."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            for file in self.path.glob("runs/2*/alerts.jsonl"):
                found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
                if any(word in alert["title"] for alert in found):
                    return found
            time.sleep(0.01)
        raise TimeoutError(f"no alert says {word!r}:\n{self.child.stdout}\n{self.child.stderr}")

    def let_go(self):
        os.write(self.pipe, b"xx")

    def report(self, rank=0):
        (path,) = (self.run / rundir.STALLS).glob(f"*-rank-{rank}.txt")
        return path.read_text("utf-8")


@pytest.fixture
def hanging(command_server, torch_server, tmp_path):
    made = []

    def make(how, **given):
        server = torch_server if how in ("worker", "collective") else command_server
        made.append(Hanging(server, tmp_path, how, **given))
        return made[-1]

    yield make
    for one in made:
        one.let_go()
        one.child.send(signal.SIGKILL)
        one.child.wait()
        os.close(one.pipe)


@pytest.mark.parametrize("how", ["python", "c"])
def test_a_step_that_hangs_is_told_with_its_stack(hanging, how):
    run = hanging(how)
    stall = run.alerts("no step")[0]
    assert (stall["kind"], stall["level"], stall["step"]) == ("stall", "error", 30)
    assert f"hang_in_{how}" in run.report()
    assert "rank 0 of 1, 30 steps done" in run.report()
    run.let_go()
    over = run.alerts("moves again")[-1]
    assert (over["kind"], over["level"]) == ("stall", "info")
    assert run.child.wait() == 0
    assert "error: no step for" in run.child.stderr


def test_a_stalled_run_that_ignores_sigterm_is_killed(hanging):
    run = hanging("c", toml=TOML.replace('"warn"', '"stop"'))
    assert run.child.wait() == -signal.SIGKILL
    first, second = run.alerts("did not stop")
    assert "stopped by SIGTERM, and killed after 0.5 s" in first["text"]
    assert second["title"] == "the stalled run did not stop, and was killed"
    assert rundir.read_run(run.run).status == "crashed"


def test_a_worker_that_hangs_is_among_the_stacks(hanging):
    run = hanging("worker")
    run.alerts("no step")
    text = run.report()
    assert "a worker or another child" in text
    assert "hang_in_python" in text.partition("a worker or another child")[2]


def test_the_rank_that_hangs_is_named(hanging):
    run = hanging("collective", RANK="1", WORLD_SIZE="2", MASTER_ADDR="here", MASTER_PORT="1")
    second, first = run.child, run.start(RANK="0")
    (stall,) = run.alerts("no step")
    recorded = list((run.run / rundir.STALLS).glob("*-flight-rank-0.json"))
    if recorded:
        # This torch records gloo's operations
        where = "rank 0 waits in all_reduce [1], operation 1 of the process group default_pg"
        assert f"{where}, which rank 1 has not entered" in stall["text"]
    else:
        assert "rank 1 is behind: the others wait for it" in stall["text"]
    assert "waits for other ranks" in run.report(0).partition("\n")[0]
    assert "hang_in_python" in run.report(1)
    run.let_go()
    assert (first.wait(), second.wait()) == (0, 0)


def test_a_run_that_is_killed_is_told_of(hanging):
    run = hanging("python")
    run.alerts("no step")
    run.child.send(signal.SIGKILL)
    alert = run.alerts("was killed")[-1]
    assert (alert["kind"], alert["level"]) == ("failed", "error")


# --- the helper


@pytest.mark.isolated
def test_a_helper_that_dies_costs_a_warning(tmp_path):
    said = []
    watch = Watch(Orders(run=str(tmp_path), parent=os.getpid(), stall_action="warn"), said.append)
    watch.start()
    send(watch._helper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, watch._helper.pid, os.WEXITED | os.WNOWAIT)
    watch.say(op="nothing")
    watch.end()
    assert said == ["the process that watched over this run ended early, with -9; the run was not harmed"]


def test_a_helper_that_cannot_be_started_costs_a_warning(tmp_path, monkeypatch):
    said = []
    watch = Watch(Orders(run=str(tmp_path), parent=os.getpid(), stall_action="warn"), said.append)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    watch.start()
    watch.end()
    assert len(said) == 1
    assert "nothing watches over this run: its helper process can't be started" in said[0]


@pytest.mark.isolated
def test_stacks_come_without_py_spy_too_while_c_holds_the_lock(monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    import faulthandler

    answers = _answers_file()
    reading, writing = os.pipe()
    ready, tell = os.pipe()
    pid = os.fork()
    if not pid:
        faulthandler.register(dump_signal(), file=answers, all_threads=True)
        os.write(tell, b"x")
        ctypes.PyDLL(None).read(reading, ctypes.create_string_buffer(1), 1)
        os._exit(0)
    assert os.read(ready, 1) == b"x"
    text = stacks._stacks(pid, answers, dump_signal())
    os.write(writing, b"x")
    os.waitpid(pid, 0)
    assert "most recent call first" in text
    assert "test_stacks_come_without_py_spy_too" in text
    assert "install py-spy" in stacks._stacks(os.getppid(), answers, 63)


# --- when a stall counts


SEEN: list = []


@process
def ticks_in_places(controller):
    SEEN.append(("before", controller.ticks.beat[COUNT]))
    for _ in track(range(2), "outer", tick=True):
        for _ in track(range(3), "inner", tick=True):
            SEEN.append(("inside", controller.ticks.beat[COUNT]))
        SEEN.append(("between", controller.ticks.beat[COUNT]))
    controller.tick()
    SEEN.append(("by hand", controller.ticks.beat[COUNT]))


@process
def second(controller):
    SEEN.append(("next process", controller.ticks.beat[COUNT], controller.ticks.beat[FIRST]))


def test_a_stall_counts_only_inside_of_a_loop(tmp_path):
    SEEN.clear()
    pipeline = Pipeline("places", progress=False, logger=False, checkpoint=False)
    pipeline.process("ticks", ticks_in_places).process("second", second).run(tmp_path)
    by_place = {}
    for place, count, *first in SEEN:
        by_place.setdefault(place, []).append((count, *first))
    assert by_place["before"] == [(0,)]
    assert all(count >= 0 for (count,) in by_place["inside"])
    assert by_place["between"] == [(-3,), (-6,)]
    assert by_place["by hand"] == [(7,)]
    assert by_place["next process"] == [(-8, 8)]


class Moves:
    """A run as its helper sees it."""

    def __init__(self, seconds=None):
        self.watch, self.beat = StallWatch(seconds), [0, 0, 0, 0]

    def look(self, elapsed, steps=0):
        self.beat[COUNT] += steps
        return self.watch.look(self.beat, elapsed)


def test_a_stall_is_twenty_median_steps_but_a_minute_at_least():
    run = Moves()
    assert math.isnan(run.watch.median)
    for _ in range(30):
        assert run.look(1.0, 10) == ""
    assert run.watch.median == pytest.approx(0.1)
    assert run.watch.limit == 60
    assert [run.look(30.0) for _ in range(4)] == ["", "", "stalls", ""]
    assert [run.look(1.0, 1), run.look(1.0)] == ["moves", ""]

    slow = Moves()
    for _ in range(25):
        slow.look(5.0)
        assert slow.look(5.0, 1) == ""
    assert slow.watch.limit == pytest.approx(200)
    assert [slow.look(50.0) for _ in range(5)] == ["", "", "", "", "stalls"]


def test_no_stall_counts_before_twenty_steps_and_in_pauses():
    run = Moves(seconds=1.0)
    run.look(0.1, 19)
    assert run.look(100.0) == ""
    run.look(0.1, 1)
    run.beat[PAUSES] = 1  # a checkpoint
    assert [run.look(100.0), run.look(100.0)] == ["", ""]
    run.beat[PAUSES] = 2
    assert [run.look(100.0), run.look(0.9)] == ["", ""]
    assert run.look(0.2) == "stalls"
    run.beat[COUNT] = -run.beat[COUNT]  # the loop has ended
    assert [run.look(100.0), run.look(100.0)] == ["moves", ""]
    run.beat[COUNT], run.beat[FIRST] = 25, 20  # another process
    assert [run.look(100.0), run.look(100.0)] == ["", ""]


def report(rank, steps, *, waits=False):
    return StallReport(rank=rank, steps=steps, waits=waits)


@pytest.mark.parametrize(
    ("reports", "size", "words"),
    [
        ([report(0, 5, waits=True), report(1, 4)], 2, "rank 1 is behind"),
        ([report(0, 5, waits=True), report(1, 5)], 2, "rank 1 is behind"),
        ([report(1, 5)], 2, "rank 1 is behind"),
        ([report(0, 5, waits=True), report(2, 5, waits=True)], 4, "wait for ranks 1, 3, which did not report"),
        ([report(0, 5), report(1, 5)], 2, ""),
        ([], 2, ""),
    ],
)
def test_the_rank_that_is_behind(reports, size, words):
    told = who_is_behind(reports, size)
    assert words in told if words else told == ""


def test_the_main_thread_tells_whether_a_rank_waits():
    spied = 'Thread 1 (idle): "MainThread"\n  all_reduce (torch/distributed/x.py:1)\nThread 2 (idle): "other"\n  f\n'
    assert waits_for_ranks(spied)
    assert not waits_for_ranks(spied.replace('"MainThread"', '"first"').replace('"other"', '"MainThread"'))
    handled = 'Thread 0x2 (most recent call first):\n  File "ridgepole/pipeline/distributed/protocol.py"\n'
    assert not waits_for_ranks(handled + 'Current thread 0x1 (most recent call first):\n  File "train.py"\n')
