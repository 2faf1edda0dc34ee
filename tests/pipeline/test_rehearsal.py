"""The states that no checkpoint could store are named in the first seconds, and nothing else happens there."""

import pytest
import torch

from ridgepole import Permanence, Pipeline, process, track
from ridgepole.pipeline.run import executor

RULES = {"every_steps": 1000, "every_minutes": None, "after_process": False, "on_signal": False}


class Sampler(Permanence):
    """Its state can't be stored once the first step is done."""

    def __init__(self):
        self.state, self.asked = {"order": torch.arange(4)}, 0

    def state_dict(self):
        self.asked += 1
        if self.state is None:
            raise ValueError("no state yet")
        return self.state

    def load_state_dict(self, state):
        self.state = state

    def cleanup(self):
        pass


@process
def draw(sampler: Sampler, kind: str = "", asked: int = 1):
    for _ in track(range(3), "draw", tick=True):
        if kind == "generator":
            sampler.state["generator"] = torch.Generator()
        if kind == "error":
            sampler.state = None
    assert sampler.asked == asked
    sampler.state = {}


def log_of(tmp_path, kind, asked=1, **policy):
    pipeline = Pipeline("early", progress=False, seed=1, checkpoint=RULES | policy).permanence("sampler", Sampler)
    path = pipeline.process("draw", draw, kind=kind, asked=asked).run(tmp_path / "runs").path
    return (path / "run.log").read_text()


@pytest.fixture
def _soon(monkeypatch):
    monkeypatch.setattr(executor, "_REHEARSAL_SECONDS", 0.0)


@pytest.mark.usefixtures("_soon")
def test_what_cannot_be_stored_is_said_early(tmp_path):
    log = log_of(tmp_path, "generator")
    assert log.count("checkpoints will fail") == 1
    assert "checkpoints will fail: permanences.sampler['generator'] is a torch" in log
    assert ".get_state()" in log


@pytest.mark.usefixtures("_soon")
def test_an_error_of_state_dict_is_a_warning_there(tmp_path):
    assert "checkpoints will fail: permanences.sampler: state_dict raised ValueError: no state yet" in log_of(
        tmp_path, "error"
    )


@pytest.mark.usefixtures("_soon")
def test_states_that_can_be_stored_are_not_mentioned(tmp_path):
    assert "checkpoints will fail" not in log_of(tmp_path, "")


def test_a_run_of_less_than_that_is_not_asked(tmp_path):
    assert "checkpoints will fail" not in log_of(tmp_path, "generator", asked=0)


@pytest.mark.usefixtures("_soon")
def test_a_checkpoint_at_the_first_step_needs_none(tmp_path):
    log_of(tmp_path, "", asked=3, every_steps=1)
