"""What a checkpoint could not store is said at the first step, and nothing else happens there."""

import torch

from ridgepole import Permanence, Pipeline, process, track

RULES = {"every_steps": 1000, "every_minutes": None, "after_process": False, "on_signal": False}


class Sampler(Permanence):
    """Its state can't be stored once the first step is done."""

    def __init__(self) -> None:
        self.state = {"order": torch.arange(4)}

    def state_dict(self):
        if self.state is None:
            raise ValueError("no state yet")
        return self.state

    def load_state_dict(self, state):
        self.state = state

    def cleanup(self):
        pass


@process
def draw(sampler: Sampler, kind: str = ""):
    for _ in track(range(3), "draw", tick=True):
        if kind == "generator":
            sampler.state["generator"] = torch.Generator()
        if kind == "error":
            sampler.state = None
    sampler.state = {}


def log_of(tmp_path, kind, **policy):
    pipeline = Pipeline("early", progress=False, seed=1, checkpoint=RULES | policy).permanence("sampler", Sampler)
    path = pipeline.process("draw", draw, kind=kind).run(tmp_path / "runs").path
    return (path / "run.log").read_text()


def test_what_cannot_be_stored_is_said_at_the_first_step(tmp_path):
    log = log_of(tmp_path, "generator")
    assert log.count("checkpoints will fail") == 1
    assert "checkpoints will fail: permanences.sampler['generator'] is a torch" in log
    assert ".get_state()" in log


def test_an_error_of_state_dict_is_a_warning_there(tmp_path):
    assert "checkpoints will fail: permanences.sampler: state_dict raised ValueError: no state yet" in log_of(
        tmp_path, "error"
    )


def test_states_that_can_be_stored_are_not_mentioned(tmp_path):
    assert "checkpoints will fail" not in log_of(tmp_path, "")
