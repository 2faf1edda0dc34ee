"""The tensor file is one that others can open, with names that say what is in it."""

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from ridgepole.checkpoint import write_part


def test_it_opens_with_the_safetensors_package(store):
    network = torch.nn.Linear(5, 3)
    info = store.save({"permanences": {"network": {"model": network.state_dict()}}}, step=0, kind="step").info
    tensors = safetensors.torch.load_file(info.path / "state.safetensors")
    assert torch.equal(tensors["permanences.network.model.weight"], network.weight)
    assert torch.equal(tensors["permanences.network.model.bias"], network.bias)


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
def test_every_kind_of_entry_opens(store):
    state = {
        "scalar": torch.tensor(1.5),
        "empty": torch.empty(0, 3, dtype=torch.bfloat16),
        "transposed": torch.arange(6.0).view(2, 3).t(),
        "flag": torch.tensor([True, False]),
        "half": torch.ones(3, dtype=torch.float16),
        "eight": torch.ones(3).to(torch.float8_e4m3fn),
        "complex": torch.ones(2, dtype=torch.complex64),
        "complex128": torch.ones(2, dtype=torch.complex128),
        "complex32": torch.ones(2, dtype=torch.complex32),
        "array": np.arange(3, dtype=np.uint16),
        "structured": np.zeros(2, dtype=[("a", "i4")]),
        "bytes": bytes(5000),
        "numbers": list(range(5000)),
        "\udcff": {"\n": torch.ones(1)},
        "__metadata__": torch.ones(1),
        "": torch.ones(1),
        "a.b": torch.zeros(1),
        "a": {"b": torch.ones(1)},
        "x" * 5000: torch.ones(1),
    }
    info = store.save(state, step=0, kind="step").info
    tensors = safetensors.torch.load_file(info.path / "state.safetensors")
    for name in ("scalar", "empty", "transposed", "flag", "half", "complex"):
        assert torch.equal(tensors[name], state[name]), name
    assert tensors["complex128"].shape == (2, 2)
    assert tensors["array"].dtype == torch.uint16
    assert {"a.b", "a.b#2"} <= set(tensors)
    assert len(tensors) == len(state)
    with safe_open(info.path / "state.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_part_of_a_rank_opens_too(store):
    with store.begin(step=0, kind="step") as saving:
        receipt = write_part(saving.directory, 1, {"shard": torch.arange(4)})
        info = saving.commit({}, parts=[receipt], world_size=2).info
    assert torch.equal(safetensors.torch.load_file(info.path / "rank-00001.safetensors")["shard"], torch.arange(4))
