"""Saves in the background: copied at the step, whole or not there, and never in the way of a stop."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from ridgepole import CheckpointError, Permanence, Pipeline, StopRequested, process, track
from ridgepole.checkpoint import CheckpointStore
from ridgepole.checkpoint.saving import HostBuffer, Part
from ridgepole.permanences import BaseLoggerManager

HELPER = Path(__file__).with_name("background_helper.py")
RANKS_HELPER = Path(__file__).with_name("ranks_helper.py")
TORTURE = pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")


@pytest.mark.isolated
@pytest.mark.parametrize("trials", [20, pytest.param(200, marks=[pytest.mark.torture, TORTURE])])
@pytest.mark.fault("kill at any moment of a background save: the one before or the new one, whole")
def test_a_kill_at_any_moment_leaves_a_usable_checkpoint(trials, tmp_path, tally):
    command = [sys.executable, str(HELPER), str(tmp_path), str(trials)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    whole, *lines = [json.loads(line) for line in done.stdout.splitlines() if "calls" in line or "at" in line]
    assert whole["calls"] >= 20
    lines = [line for line in lines if "at" in line]
    assert len(lines) == trials
    killed = [line for line in lines if line["code"] == -signal.SIGKILL]
    assert len(killed) >= trials * 0.7
    assert {line["left"] for line in lines} == {2, 3}, "some before the commit, some after it"
    tally(trials, kills=len(killed))


def of_two_ranks(folder, trials, how, fault):
    command = [sys.executable, str(RANKS_HELPER), str(folder), str(trials), how, fault]
    done = subprocess.run(command, capture_output=True, text=True, timeout=trials * 60 + 120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    lines = [line for line in said if "at" in line]
    assert len(lines) == trials
    return lines, [text for line in said for text in line.get("told", ())]


TRIALS = [10, pytest.param(200, marks=[pytest.mark.torture, TORTURE, pytest.mark.timeout(1800)])]


@pytest.mark.isolated
@pytest.mark.timeout(400)
@pytest.mark.parametrize("trials", TRIALS)
@pytest.mark.fault("a rank killed at any moment of a sharded save in the background: the one before or the new one")
def test_a_rank_killed_in_a_background_save_leaves_a_usable_checkpoint(trials, tmp_path, tally):
    lines, _ = of_two_ranks(tmp_path, trials, "background", "kill")
    assert {line["victim"] for line in lines} == {0, 1}
    tally(trials, kills=sum(line["killed"] for line in lines))


@pytest.mark.isolated
@pytest.mark.timeout(400)
@pytest.mark.parametrize("trials", TRIALS)
@pytest.mark.fault("a rank killed at any moment of a sharded save: the one before or the new one, whole")
def test_a_rank_killed_in_a_sharded_save_leaves_a_usable_checkpoint(trials, tmp_path, tally):
    lines, _ = of_two_ranks(tmp_path, trials, "foreground", "kill")
    assert {line["victim"] for line in lines} == {0, 1}
    tally(trials, kills=sum(line["killed"] for line in lines))


@pytest.mark.isolated
@pytest.mark.timeout(400)
def test_a_full_disk_of_one_rank_is_a_warning_of_rank_0(tmp_path):
    lines, told = of_two_ranks(tmp_path, 4, "background", "full")
    assert {line["left"] for line in lines} <= {2, 3}
    assert 2 in {line["left"] for line in lines}
    assert any("No space left on device" in text for text in told)


def test_a_copy_holds_every_kind_of_value(rich_state, differences, store):
    """What changes after the copy is not stored, and the memory is used again."""
    rich_state["views"] = (base := torch.arange(24.0).reshape(4, 6))[1:3], base.t(), base
    rich_state["half"] = torch.randn(3, 5, dtype=torch.complex128).conj()
    before = CheckpointStore(store.path.parent / "plain")
    before.save(rich_state, step=1, kind="step")
    buffer = HostBuffer()
    for _ in range(2):
        part = Part(rich_state)
        part.copy_to(buffer)
        first = buffer.reserve(1)
    assert buffer.reserve(part.size) is first
    base.zero_()
    for value in rich_state["permanences"]["network"]["model"].values():
        value.zero_()
    with store.begin(step=1, kind="step") as saving:
        saving.commit(part)
    assert not differences(store.load().state, before.load().state)


def test_a_save_that_is_given_up_is_never_committed(store):
    store.save({"a": 1}, step=1, kind="step")
    with store.begin(step=2, kind="step") as saving:
        store.give_up()
        with pytest.raises(CheckpointError, match="the run ended before"):
            saving.commit({"a": 2})
    assert store.load().state == {"a": 1}
    assert not list(store.path.glob(".saving-*"))


# --- a run


class Net(Permanence):
    """Weights that count the steps."""

    gate = threading.Event()

    def __init__(self) -> None:
        self.weights = torch.zeros(50_000)

    def state_dict(self):
        return {"weights": self.weights}

    def load_state_dict(self, state):
        self.weights.copy_(state["weights"])

    def cleanup(self):
        pass


@pytest.fixture
def gate(monkeypatch):
    """Has saves in the background wait until it is open."""
    opened, begin = threading.Event(), CheckpointStore.begin

    def waiting(self, **keywords):
        if threading.current_thread().name == "ridgepole-save":
            assert opened.wait(60)
        return begin(self, **keywords)

    monkeypatch.setattr(CheckpointStore, "begin", waiting)
    monkeypatch.setattr(Net, "gate", opened)
    return opened


@process
def train(net: Net, logger: BaseLoggerManager, controller, steps: int = 10, opens: int = 0, best: int = -1):
    for step in track(range(steps), "train", tick=True):
        net.weights += 1
        if step == best:
            logger.log_metrics({"score": 1.0})
            threading.Timer(0.05, net.gate.set).start()  # while the tick of this step waits
        if step == opens:
            net.gate.set()
        if step == steps - 1:  # the last one due is written by now
            controller.finish_save()


def run(tmp_path, policy=None, **values):
    rules = {"background": True, "every_steps": 2, "every_minutes": None, "after_process": False, "keep_last": 9}
    pipeline = Pipeline("behind", progress=False, seed=1, checkpoint=rules | (policy or {}))
    result = pipeline.permanence("net", Net).process("train", train, **values).run(tmp_path / "runs")
    store = CheckpointStore(result.path / "checkpoints")
    for info in store.list():
        assert (store.load(info.name).state["permanences"]["net"]["weights"] == info.step).all(), "of another step"
    assert not list(store.path.glob(".saving-*")), "the end did not wait"
    return [(info.kind, info.step) for info in store.list()], (result.path / "run.log").read_text()


def test_every_checkpoint_holds_the_state_of_its_step(tmp_path):
    saved, _ = run(tmp_path, {"after_process": True, "every_steps": None}, steps=6)
    assert saved == [("boundary", 0), ("boundary", 6)], "those between processes are never left out"


def test_a_due_checkpoint_is_left_out_while_one_is_written(tmp_path, gate):
    saved, log = run(tmp_path, steps=8, opens=7)
    assert saved == [("step", 2), ("step", 8)]
    assert "2 checkpoints left out that came due while another one was written" in log


def test_a_new_best_waits_for_the_save_in_flight(tmp_path, gate):
    best = {"keep_best": {"metric": "score", "mode": "max"}, "every_steps": 4}
    saved, _ = run(tmp_path, best, steps=7, best=5, opens=99)
    assert saved == [("step", 4), ("best", 6)]


def test_a_failure_is_a_warning(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ridgepole.checkpoint.saving.write_new", full)
    saved, log = run(tmp_path, steps=4)
    assert saved == []
    assert "no checkpoint was taken: [Errno 28]" in log


@pytest.mark.parametrize("why", ["host_memory_limit is 1e-05 GB", "a copy of the state needs", "could not be made"])
def test_without_memory_for_the_copy_it_is_written_in_the_foreground(why, tmp_path, monkeypatch):
    policy = {"host_memory_limit": 1e-5} if "limit" in why else {}
    if "needs" in why:
        monkeypatch.setattr("ridgepole.pipeline.lifecycle.background.memory", lambda: (10**9, 1000))
    if "made" in why:

        def refuse(_self, _size):
            raise MemoryError("no memory")

        monkeypatch.setattr(HostBuffer, "reserve", refuse)
    saved, log = run(tmp_path, policy, steps=4)
    assert [step for _, step in saved] == [2, 4]
    assert log.count("checkpoints are written in the foreground") == 1
    assert why in log


def test_a_stop_waits_and_takes_the_last_one_in_the_foreground(tmp_path, gate):
    rules = {"background": True, "every_steps": 2, "every_minutes": None, "after_process": False}
    pipeline = Pipeline("behind", progress=False, seed=1, checkpoint=rules).permanence("net", Net)
    pipeline.process("train", stopping)
    with pytest.raises(StopRequested):
        pipeline.run(tmp_path / "runs")
    (path,) = (tmp_path / "runs").glob("2*/checkpoints")
    assert [(info.kind, info.step) for info in CheckpointStore(path).list()] == [("step", 2), ("signal", 5)]


@process
def stopping(net: Net, controller):
    for step in track(range(10), "train", tick=True):
        net.weights += 1
        if step == 4:
            threading.Timer(0.05, net.gate.set).start()
            controller.ask_to_stop(StopRequested("SIGTERM", 143))
