"""The random generators of every kind of device are stored where torch offers that, else it is said.

None of these devices is in the machines that run the tests: modules in the shape of torch's own stand for them.
"""

from types import SimpleNamespace

import pytest
import torch

from ridgepole import Pipeline, process, seeding


class Kind:
    """Two devices (or one, as MPS has), each with a state."""

    def __init__(self, *, several, initialised=True, stores=True):
        self.states = [torch.tensor([1]), torch.tensor([2])] if several else [torch.tensor([1])]
        self.is_available, self.device_count = (lambda: True), (lambda: len(self.states))
        if several:
            self.is_initialized = lambda: initialised
        if several and stores:
            self.get_rng_state_all = lambda: [state.clone() for state in self.states]
        if stores:
            self.get_rng_state = lambda: self.states[0].clone()
            self.set_rng_state = self.put

    def put(self, state, index=0):
        self.states[index] = state


@pytest.mark.parametrize(("name", "several"), [("xpu", True), ("mps", False), ("cuda", True)])
def test_generators_of_a_device_are_restored(name, several, monkeypatch):
    kind = Kind(several=several)
    monkeypatch.setattr(torch, name, kind)
    stored = seeding.capture()
    wanted = [int(state) for state in kind.states]
    kind.states = [state + 10 for state in kind.states]
    seeding.restore(stored)
    assert [int(state) for state in kind.states] == wanted
    assert seeding.not_captured() == []


def test_a_device_that_was_not_used_is_left_alone(monkeypatch):
    monkeypatch.setattr(torch, "xpu", Kind(several=True, initialised=False))
    assert "xpu" not in seeding.capture()


def test_states_of_a_device_that_is_gone_are_no_error(monkeypatch):
    stored = seeding.capture() | {"xpu": [torch.tensor([1])], "gone": [torch.tensor([1])]}
    seeding.restore(stored)


def test_a_kind_that_torch_stores_nothing_of_is_a_warning_once(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "odd", Kind(several=True, stores=False), raising=False)
    accelerator = SimpleNamespace(current_accelerator=lambda *_: SimpleNamespace(type="odd"), is_available=lambda: True)
    monkeypatch.setattr(torch, "accelerator", accelerator)

    @process
    def step(controller) -> None:
        for _ in range(3):
            controller.tick()

    policy = {"every_steps": 1}
    result = Pipeline("odd", progress=False, checkpoint=policy).process("step", step).run(tmp_path)
    lines = [line for line in (result.path / "run.log").read_text().splitlines() if "generators" in line]
    (line,) = lines
    assert "torch can't store the random generators of odd" in line


def test_a_torch_that_raises_without_an_accelerator_is_no_fault(monkeypatch):
    """torch 2.6 does; newer releases return None."""

    def raises():
        raise RuntimeError("Cannot access accelerator device when none is available.")

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", raises)
    before = torch.get_rng_state()
    stored = seeding.capture()
    torch.rand(3)
    seeding.restore(stored)
    assert torch.equal(torch.get_rng_state(), before)
