"""Signals to a whole process group, as schedulers and terminals send them, while DataLoader workers run."""

import os
import random
import select
import signal
import time
from pathlib import Path

import pytest

from isolation import send
from ridgepole.checkpoint import CheckpointStore
from ridgepole.rundir import list_runs

TORTURE = pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")
GROUP = pytest.mark.fault("SIGTERM to the group, with DataLoader workers (fork, spawn, forkserver): a checkpoint, 143")

PACKAGE = """
import os, signal, time
import torch
from torch.utils.data import DataLoader
from ridgepole import Permanence, PipelineProcess, ResumableLoader, track


def say(text):
    os.write(1, f"{text}\\n".encode())


class Slow:
    def __init__(self, seconds):
        self.seconds = seconds

    def __len__(self):
        return 100000

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return torch.tensor(float(index))


class Held(Permanence):
    def __init__(self):
        self.count = 0

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]

    def cleanup(self):
        say("cleaned up")


class Train(PipelineProcess):
    def __init__(self, held: Held, method: str = "fork", workers: int = 2, item: float = 0.002, step: float = 0.05,
                 plain: bool = False, persistent: bool = False, gated: bool = False):
        self.held, self.method, self.workers, self.item, self.step = held, method, workers, item, step
        self.plain, self.persistent, self.gated = plain, persistent, gated

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass

    def execute(self):
        more = {"num_workers": self.workers, "multiprocessing_context": self.method,
                "persistent_workers": self.persistent}
        make = DataLoader if self.plain else ResumableLoader
        loader = make(Slow(self.item), batch_size=4, **more)
        say("begins")
        for _ in track(loader, tick=True):
            self.held.count += 1
            say(f"step {self.held.count}")
            if self.held.count >= int(os.environ.get("STEPS", "1000")):
                break
            time.sleep(self.step)
            while self.gated and self.held.count > 1 and not os.path.exists("gate"):
                time.sleep(0.005)
"""
FILE = """
[pipeline]
package = "loads"
progress = false
[permanences.held]
type = "Held"
[processes.train]
type = "Train"
"""


@pytest.fixture
def start(torch_server, project):
    """Starts a run with workers, at the head of a process group of its own."""
    folder = project(loads__py=PACKAGE, loads__toml=FILE)
    started = []

    def make(verb="run", *, steps=1000, **params):
        given = [word for name, value in params.items() for word in ("-s", f"train.{name}={value}")]
        where = ["latest"] if verb == "resume" else ["loads.toml", *given]
        started.append(torch_server.start(verb, *where, cwd=folder, STEPS=str(steps)))
        return started[-1]

    yield make
    for child in started:
        try:
            send(child.pid, signal.SIGKILL, group=True)
        except ProcessLookupError:
            continue


def to_group(child, number):
    send(child.pid, number, group=True)
    return child


def members(group):
    """The processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = path.read_text().rpartition(") ")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(number) == group and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def wait_until_empty(group):
    """Waits for the last of a group: multiprocessing's helpers notice by a pipe that their parent has ended."""
    limit = time.monotonic() + 30
    while left := members(group):
        assert time.monotonic() < limit, f"left: {left}"
        time.sleep(0.005)


def newest(tmp_path):
    (run,) = list_runs(tmp_path / "runs")
    return run, CheckpointStore(run.path / "checkpoints").list()[-1]


def reached(child):
    return int(child.stdout.rpartition("step ")[2].split()[0])


@GROUP
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_sigterm_to_the_group_stops_after_the_step(method, start, tmp_path):
    child = start(method=method, workers=2 if method == "fork" else 1).until("step 3")
    to_group(child, signal.SIGTERM)
    assert child.wait() == 143, child.stderr
    run, checkpoint = newest(tmp_path)
    assert run.status == "interrupted"
    assert (checkpoint.kind, checkpoint.step) == ("signal", reached(child))
    assert child.stdout.count("cleaned up") == 1
    wait_until_empty(child.pid)
    resumed = start("resume", steps=checkpoint.step + 3)
    assert resumed.wait() == 0, resumed.stderr
    assert resumed.stdout.startswith(f"begins\nstep {checkpoint.step + 1}\n")


@GROUP
def test_any_escalation_to_the_group_leaves_a_checkpoint(start, tmp_path):
    """While it waits for a batch, too: the workers deliver it."""
    child = start(item=0.1, step=0.0, persistent=True).until("step 2")
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
        to_group(child, number)
    # On a busy machine the first two arrive together, and Python handles either first
    assert child.wait() in (75, 143), child.stderr
    _, checkpoint = newest(tmp_path)
    assert (checkpoint.kind, checkpoint.step) == ("signal", reached(child))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_ctrl_c_while_workers_start_is_an_interrupt(method, start, tmp_path):
    child = start(method=method, workers=1).until("begins")
    to_group(child, signal.SIGINT)
    assert child.wait() == 130, child.stderr
    run, _ = newest(tmp_path)
    assert run.status == "interrupted"
    assert "Traceback" not in child.stderr


def test_a_worker_that_hangs_does_not_outlast_its_loader(start, tmp_path):
    child = start(item=1000, workers=1).until("begins")
    while len(members(child.pid)) < 2:
        assert child.poll() is None, child.stderr
        time.sleep(0.002)
    to_group(child, signal.SIGTERM)
    assert child.wait() == 143, child.stderr
    wait_until_empty(child.pid)


def test_workers_end_with_a_parent_that_is_killed(start):
    child = start(item=1000, workers=2).until("begins")
    while len(members(child.pid)) < 3:
        assert child.poll() is None, child.stderr
        time.sleep(0.002)
    watched = [os.pidfd_open(pid) for pid in members(child.pid) if pid != child.pid]
    child.send(signal.SIGKILL)
    child.wait()
    for ended in watched:
        assert select.select([ended], [], [], 30)[0], "a worker outlives its parent"
        os.close(ended)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_plain_loader_finishes_the_step(method, start, tmp_path):
    """Its workers end by the same signal, which is not an error of the run."""
    child = start(plain=True, method=method, workers=1, gated=True).until("step 2")
    to_group(child, signal.SIGTERM)
    (tmp_path / "gate").touch()
    assert child.wait() == 143, child.stderr
    run, checkpoint = newest(tmp_path)
    assert run.status == "interrupted"
    assert (checkpoint.kind, checkpoint.step) == ("signal", reached(child))


def test_a_plain_loader_that_waits_for_a_batch_is_interrupted(start, tmp_path):
    child = start(plain=True, workers=1, item=0.5, step=0.0).until("step 1")
    to_group(child, signal.SIGTERM)
    assert child.wait() == 143, child.stderr
    run, _ = newest(tmp_path)
    assert run.status == "interrupted"


@GROUP
@pytest.mark.torture
@TORTURE
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("number", range(50))
def test_sigterm_to_the_group_at_any_moment(number, method, start, tmp_path):
    rng = random.Random(number)
    child = start(method=method, item=rng.choice((0.0, 0.01)), step=rng.choice((0.0, 0.03)))
    child.until("step 2")  # in the first step, before any tick, a signal stops at once
    time.sleep(rng.uniform(0, 0.3))
    for _ in range(rng.randint(1, 3)):
        to_group(child, rng.choice((signal.SIGTERM, signal.SIGUSR1)))
        time.sleep(rng.choice((0, 0.01)))
    assert child.wait() in (143, 75), child.stderr
    _, checkpoint = newest(tmp_path)
    assert (checkpoint.kind, checkpoint.step) == ("signal", reached(child))
