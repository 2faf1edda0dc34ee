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


class Tied(torch.nn.Module):
    """A language model's first and last layer share their weight."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 3)
        self.body = torch.nn.Linear(3, 3)
        self.head = torch.nn.Linear(3, 7, bias=False)
        self.head.weight = self.embed.weight


def test_tied_weights_have_their_other_names_in_the_metadata(store):
    network = Tied()
    state = {"network": network.state_dict(), "twice": [network.body.bias, network.body.bias]}
    path = store.save(state, step=0, kind="step").info.path / "state.safetensors"
    with safe_open(path, "pt") as file:
        aliases = file.metadata()
    assert aliases == {
        "format": "pt",
        "network.head.weight": "network.embed.weight",
        "twice.0": "network.body.bias",
        "twice.1": "network.body.bias",
    }
    tensors = safetensors.torch.load_file(path)
    tensors |= {alias: tensors[kept] for alias, kept in aliases.items() if alias != "format"}
    other = Tied()
    other.load_state_dict({name.removeprefix("network."): each for name, each in tensors.items() if "network" in name})
    assert torch.equal(other.head.weight, network.embed.weight)
    restored = store.load().state["network"]
    assert restored["head.weight"].data_ptr() == restored["embed.weight"].data_ptr()


def test_load_model_reads_the_state_of_a_tied_network(store, tmp_path):
    network = Tied()
    path = store.save(network.state_dict(), step=0, kind="step").info.path / "state.safetensors"
    other = Tied()
    assert safetensors.torch.load_model(other, path) == (set(), [])
    assert torch.equal(other.head.weight, network.embed.weight)
    safetensors.torch.save_model(network, tmp_path / "theirs.safetensors")
    with safe_open(tmp_path / "theirs.safetensors", "pt") as theirs, safe_open(path, "pt") as ours:
        assert theirs.metadata() | {"format": "pt"} == ours.metadata()


def test_what_the_format_has_no_word_for_is_bytes(store):
    state = {"texts": np.array(["ab", "c"]), "complex": np.ones(2, dtype=np.complex128), "dates": np.zeros(2, "M8[s]")}
    path = store.save(state, step=0, kind="step").info.path / "state.safetensors"
    tensors = safetensors.torch.load_file(path)
    assert {name: (each.dtype, each.numel()) for name, each in tensors.items()} == {
        name: (torch.uint8, each.nbytes) for name, each in state.items()
    }
    restored = store.load().state
    assert all(np.array_equal(restored[name], each) for name, each in state.items())


def test_the_part_of_a_rank_opens_too(store):
    with store.begin(step=0, kind="step") as saving:
        receipt = write_part(saving.directory, 1, {"shard": torch.arange(4)})
        info = saving.commit({}, parts=[receipt], world_size=2).info
    assert torch.equal(safetensors.torch.load_file(info.path / "rank-00001.safetensors")["shard"], torch.arange(4))
