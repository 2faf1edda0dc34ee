"""`checkpoints export`: the weights of a run's checkpoint, as other tools read them."""

import json

import pytest

from ridgepole import CheckpointError, Permanence, Pipeline, process
from ridgepole.checkpoint import CheckpointStore
from ridgepole.checkpoint.weights import find_weights, write_weights

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")


class Net(Permanence):
    """A network with tied weights, its optimiser, and a config."""

    def __init__(self, config=None):
        self.config = config
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
        self.model[1].weight = self.model[0].weight
        self.model.register_buffer("seen", torch.tensor(7, dtype=torch.bfloat16))
        self.optimiser = torch.optim.AdamW(self.model.parameters())

    def state_dict(self):
        config = {} if self.config is None else {"config": self.config}
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()} | config

    def load_state_dict(self, state):
        pass

    def cleanup(self):
        pass


class Flat(Net):
    """Tensors beside other values."""

    def state_dict(self):
        return {"weight": torch.ones(2, dtype=torch.complex128), "updates": 3}


class Pair(Net):
    """Two models."""

    def state_dict(self):
        return {"a": {"weight": torch.ones(2)}, "b": {"inner": {"weight": torch.zeros(2)}, "bias": torch.ones(1)}}


def ran(folder, **permanences):
    pipeline = Pipeline("nets", progress=False)
    for name, (kind, params) in permanences.items():
        pipeline = pipeline.permanence(name, kind, **params)
    return pipeline.process("step", process(lambda: None)).run(folder / "runs")


def same(found, wanted):
    assert sorted(found) == sorted(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_the_formats(tmp_path, torch_server):
    def ridgepole(*arguments):
        return torch_server.call(*arguments, cwd=tmp_path)

    run = ran(tmp_path, net=(Net, {"config": {"model_type": "tied", "hidden_size": 3}}))
    wanted = CheckpointStore(run.path / "checkpoints").load().state["permanences"]["net"]["model"]
    done = ridgepole("checkpoints", "export", "--to", "safetensors")
    assert done.returncode == 0, done.stderr
    assert "exported 5 tensors of net.model from" in done.stdout
    (folder,) = tmp_path.glob(f"{run.path.name}-*")
    assert [file.name for file in folder.iterdir()] == ["model.safetensors"]
    same(safetensors.load_file(folder / "model.safetensors"), wanted)

    done = ridgepole("checkpoints", "export", f"{run.path.name}@latest", "--to", "hf", "-o", "hf", "--json")
    report = json.loads(done.stdout)
    assert (report["permanence"], report["key"], report["files"]) == (
        "net",
        "model",
        ["hf/model.safetensors", "hf/config.json"],
    )
    same(safetensors.load_file(tmp_path / "hf" / "model.safetensors"), wanted)
    with safetensors.safe_open(tmp_path / "hf" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}, "transformers refuses a file without it"
    assert json.loads((tmp_path / "hf" / "config.json").read_text()) == {"model_type": "tied", "hidden_size": 3}

    again = ridgepole("checkpoints", "export", "--to", "hf", "-o", "hf")
    assert again.returncode == 1
    assert "model.safetensors exists already" in again.stderr


def test_what_has_to_be_chosen(tmp_path):
    run = ran(tmp_path, net=(Net, {"config": [1]}), flat=(Flat, {}), pair=(Pair, {}))
    store = CheckpointStore(run.path / "checkpoints")
    loaded = store.load()

    def refused(*choice, to="safetensors"):
        with pytest.raises(CheckpointError) as caught:
            write_weights(find_weights(loaded, *choice), to, tmp_path / "refused")
        assert not (tmp_path / "refused").exists()
        return str(caught.value)

    assert "has tensors in 'net', 'flat', 'pair': choose one with --permanence" in refused()
    assert "has no permanence 'nat'; it has 'logger', 'net', 'flat', 'pair'" in refused("nat")
    assert "has no tensors in 'logger'" in refused("logger")
    assert "has tensors under 'a', 'b' of 'pair': choose one with --key" in refused("pair")
    unknown = refused("pair", "c")
    assert "has no tensors under 'c' of 'pair'; it has some under 'a', 'b', 'b.inner'" in unknown
    assert "weight is complex128, which the format can't hold" in refused("flat")
    assert "it is list, not a mapping" in refused("net", to="hf")

    (file,) = write_weights(find_weights(loaded, "pair", "b"), "hf", tmp_path / "b")
    same(safetensors.load_file(file), {"inner.weight": torch.zeros(2), "bias": torch.ones(1)})
    weights = find_weights(loaded, "flat")
    assert weights.left_out == ("updates",)
    (file,) = write_weights(weights, "torch", tmp_path / "flat")
    same(torch.load(file), {"weight": torch.ones(2, dtype=torch.complex128)})
    (tmp_path / "a file").touch()
    with pytest.raises(CheckpointError, match="can't be written: File exists"):
        write_weights(weights, "torch", tmp_path / "a file")
