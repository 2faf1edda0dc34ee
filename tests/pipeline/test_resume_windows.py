"""Gradient accumulation: a step is a whole window, and a window that is cut is told of."""

import pytest
import torch

from ridgepole import Permanence, Pipeline, PipelineProcess, ResumableLoader, track
from ridgepole.checkpoint import CheckpointStore


class DeathError(Exception):
    """In the place of whatever ends an attempt."""


class Net(Permanence):
    def __init__(self):
        self.model = torch.nn.Linear(4, 1)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=0.1)

    def state_dict(self):
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])

    def cleanup(self):
        pass


class Accumulates(PipelineProcess):
    dies_at = -1

    def __init__(self, net: Net, tick: int = 1, window: int = 4):
        self.net, self.tick, self.window = net, tick, window

    def execute(self):
        data = torch.linspace(0, 1, 120).reshape(30, 4)
        loader = ResumableLoader(data, batch_size=2, epochs=2)
        for batch in track(loader, "train", tick=self.tick):
            if loader.cursor == Accumulates.dies_at:
                Accumulates.dies_at = -1
                raise DeathError
            self.net.model(batch).square().mean().backward()
            if loader.cursor % self.window == 0 or loader.cursor == len(loader):
                self.net.optimiser.step()
                self.net.optimiser.zero_grad()


def pipeline(process=Accumulates, **params):
    made = Pipeline("windows", progress=False, seed=5, checkpoint={"every_steps": 1}).permanence("net", Net)
    return made.process("train", process, **params)


def weights(result):
    return CheckpointStore(result.path / "checkpoints").load().state["permanences"]["net"]["model"]


def warnings_of(result):
    return [line for line in (result.path / "run.log").read_text().splitlines() if "gradients" in line]


@pytest.mark.parametrize("at", [2, 4, 5, 14, 16, 29])
def test_a_window_that_is_cut_is_done_again_as_a_whole(at, tmp_path):
    whole = pipeline(tick=4).run(tmp_path / "whole")
    Accumulates.dies_at = at
    with pytest.raises(DeathError):
        pipeline(tick=4).run(tmp_path / "cut")
    resumed = pipeline(tick=4).resume(root=tmp_path / "cut")
    assert all(torch.equal(one, weights(resumed)[name]) for name, one in weights(whole).items())
    assert warnings_of(whole) == []


def test_the_steps_of_a_run_are_windows_and_the_last_may_be_shorter(tmp_path):
    result = pipeline(tick=4).run(tmp_path)
    steps = [info.step for info in CheckpointStore(result.path / "checkpoints").list()]
    assert steps[-1] == 8, "30 batches are 7 windows of 4, and one of 2"


def test_gradients_that_are_kept_at_a_step_are_a_warning_once(tmp_path):
    for window in (2, 4):
        result = pipeline(tick=1, window=window).run(tmp_path / str(window))
        (line,) = warnings_of(result)
        assert "net keeps gradients from one step to the next, and no checkpoint holds them" in line


class ZeroesFirst(PipelineProcess):
    def __init__(self, net: Net, to_none: bool = True, clip: bool = False, last: bool = False):
        self.net, self.to_none, self.clip, self.last = net, to_none, clip, last

    def execute(self):
        loader = ResumableLoader(torch.linspace(0, 1, 120).reshape(30, 4), batch_size=2)
        for batch in track(loader, "train", tick=True):
            if not self.last:
                self.net.optimiser.zero_grad(set_to_none=self.to_none)
            self.net.model(batch).square().mean().backward()
            if self.clip:
                torch.nn.utils.clip_grad_norm_(self.net.model.parameters(), 1.0)
            self.net.optimiser.step()
            if self.last:
                self.net.optimiser.zero_grad(set_to_none=self.to_none)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("to_none", [False, True])
def test_gradients_of_one_step_are_no_warning(to_none, clip, last, tmp_path):
    assert warnings_of(pipeline(ZeroesFirst, to_none=to_none, clip=clip, last=last).run(tmp_path)) == []


def test_a_wrong_number_of_items_is_refused():
    with pytest.raises(ValueError, match="tick of 'train' must be a number of items, not -1"):
        track([1], "train", tick=-1)
    assert list(track([1, 2], "train", tick=0)) == [1, 2]
