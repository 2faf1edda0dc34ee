"""Tensors that are spread over ranks: stored by one number of ranks, restored by another, to the bit."""

import json
import shutil
import signal
import socket
from pathlib import Path

import pytest
import torch
from fork_server import ForkServer
from safetensors.torch import load_file

from conftest import CORE
from ridgepole import load_checkpoint
from ridgepole.checkpoint import CheckpointStore
from ridgepole.checkpoint.weights import find_weights, write_weights
from ridgepole.rundir import list_runs

SPREAD = (
    "torch",
    "torch.utils.data",
    "torch._dynamo",
    "ridgepole.data.loader",
    "torch.distributed.tensor.parallel",
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint.state_dict",
)

PACKAGE = """
import hashlib, json, os, signal
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, distribute_tensor, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from ridgepole import Permanence, ResumableLoader, process, track

torch.set_num_threads(1)
RANK = int(os.environ["RANK"])


def say(**values):
    os.write(1, (json.dumps(values) + "\\n").encode())


class Group(Permanence):
    def initialize(self):
        dist.init_process_group("gloo")

    def cleanup(self):
        if dist.is_initialized():
            dist.destroy_process_group()


class Network(Permanence):
    state_ranks = "all"

    def __init__(self, group: Group, tp: int = 1):
        self.tp = tp

    def initialize(self):
        torch.manual_seed(0 if not os.environ.get("OTHER") else 5)
        size = dist.get_world_size()
        mesh = init_device_mesh("cpu", (size // self.tp, self.tp), mesh_dim_names=("dp", "tp"))
        # Odd sizes: some ranks have less, or nothing
        self.model = nn.Sequential(nn.Linear(5, 14), nn.LayerNorm(14), nn.ReLU(), nn.Linear(14, 3))
        if self.tp > 1:
            wide, narrow = ColwiseParallel(output_layouts=Replicate()), RowwiseParallel(input_layouts=Replicate())
            parallelize_module(self.model, mesh["tp"], {"0": wide, "3": narrow})
        fully_shard(self.model, mesh=mesh["dp"])
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.mesh = mesh

    def state_dict(self):
        model, optimiser = get_state_dict(self.model, self.optimiser)
        state = {"model": model, "optimiser": optimiser}
        if os.environ.get("PARTIAL"):
            state["sums"] = DTensor.from_local(torch.ones(2), self.mesh["dp"], [Partial()])
        if os.environ.get("UNEQUAL"):  # held by all ranks, and not the same on each
            own = torch.full((3,), float(RANK))
            state["copy"] = DTensor.from_local(own, self.mesh["dp"], [Replicate()], run_check=False)
        return state

    def load_state_dict(self, state):
        set_state_dict(self.model, self.optimiser, model_state_dict=state["model"], optim_state_dict=state["optimiser"])

    def whole(self):
        found = {}
        model, optimiser = get_state_dict(self.model, self.optimiser)
        values = [(name, value) for name, value in model.items()]
        values += [(f"{name} {key}", value) for name, held in optimiser["state"].items() for key, value in held.items()]
        for name, value in values:
            full = value.full_tensor() if isinstance(value, DTensor) else value
            found[name] = hashlib.sha256(full.detach().contiguous().numpy().tobytes()).hexdigest()[:12]
        return found

    def cleanup(self):
        pass


@process
def train(network: Network, controller, steps: int = 8):
    world = controller.world_size
    if controller.attempt > 1:
        say(rank=RANK, restored=network.whole(), at=controller.step)
    items = torch.arange(48 * 5, dtype=torch.float32).reshape(48, 5) / 240
    rank, size = RANK // network.tp, world // network.tp
    loader = ResumableLoader(list(enumerate(items)), global_batch=8, epochs=2, seed=3, rank=rank, world_size=size)
    for numbers, batch in track(loader, "train", tick=True):
        say(rank=RANK, step=controller.step, items=numbers.tolist())
        network.optimiser.zero_grad()
        network.model(batch).square().mean().backward()
        network.optimiser.step()
        if controller.step % 3 == 2 and controller.attempt == 1:
            say(rank=RANK, held=network.whole(), at=controller.step + 1)
        if os.environ.get("BEHIND"):  # so that no checkpoint is left out
            controller.finish_save()
        if os.environ.get("FAIL") == f"{RANK}:{controller.step}":
            raise ValueError("a bad batch")
        if os.environ.get("KILL") == f"{RANK}:{controller.step}" and controller.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if controller.step >= steps:
            return
"""

TABLE = """
[pipeline]
package = "spread"
progress = false
seed = 1
checkpoint = { every_steps = 3 }
[permanences]
group = { type = "Group" }
[permanences.network]
type = "Network"
params = { tp = 1 }
[processes.train]
type = "train"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = ForkServer(tmp_path_factory.mktemp("server"), *CORE, *SPREAD)
    yield made
    made.close()


class World:
    """Some ranks with gloo, forked."""

    def __init__(self, server, folder, size, *arguments, **environment):
        with socket.create_server(("localhost", 0)) as free:
            port = free.getsockname()[1]
        common = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "RIDGEPOLE_JOIN_SECONDS": "120"} | environment
        self.children = [
            server.start(*arguments, cwd=folder, **common, RANK=str(rank), WORLD_SIZE=str(size)) for rank in range(size)
        ]

    def end(self):
        return [child.wait(180) for child in self.children]

    def stop(self):
        for child in self.children:
            child.send(signal.SIGKILL)
            child.wait(30)

    @property
    def texts(self):
        return [child.stdout + child.stderr for child in self.children]

    def said(self, key):
        """What the ranks said under a key, in the order of the ranks."""
        lines = [json.loads(line) for child in self.children for line in child.stdout.splitlines() if line[:1] == "{"]
        return [line for line in lines if key in line]

    def steps(self):
        """The items of all ranks by step."""
        found = {}
        for line in self.said("items"):
            found.setdefault(line["step"], []).extend(line["items"])
        return found


@pytest.fixture
def worlds(server, tmp_path):
    started = []
    (tmp_path / "spread").mkdir()
    (tmp_path / "spread" / "__init__.py").write_text(PACKAGE)
    (tmp_path / "spread.toml").write_text(TABLE)

    def make(size, *arguments, folder=tmp_path, **environment):
        started.append(World(server, folder, size, *arguments, **environment))
        return started[-1]

    yield make
    for world in started:
        world.stop()


def restored(world, wanted, step):
    """All ranks have restored what was held, after that step."""
    assert set(world.end()) == {0}, world.texts
    found = world.said("restored")
    assert len(found) == len(world.children)
    for line in found:
        assert line["at"] == step
        assert line["restored"] == wanted
        assert len(wanted) == 6 + 3 * 6, "weights, and step and two moments of each"


def held_at(world, step):
    (wanted,) = {json.dumps(line["held"]) for line in world.said("held") if line["at"] == step}
    return json.loads(wanted)


def whole_states(folder):
    """The tensors of a checkpoint, read on one machine without torch.distributed."""
    import hashlib

    state = load_checkpoint("latest", "latest", root=folder / "runs")["network"]
    values = list(state["model"].items())
    values += [(f"{n} {key}", v) for n, held in state["optimiser"]["state"].items() for key, v in held.items()]
    assert all(type(value) is torch.Tensor for _, value in values)
    return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest()[:12] for name, value in values}


def exported_whole(folder):
    """The weights of a checkpoint are exported as the whole tensors, under the model's names."""
    store = CheckpointStore(next(iter(list_runs(folder / "runs"))).path / "checkpoints")
    (file,) = write_weights(find_weights(store.load()), "safetensors", folder / "exported")
    tensors, model = load_file(file), load_checkpoint("latest", "latest", root=folder / "runs")["network"]["model"]
    assert sorted(tensors) == sorted(model)
    assert all(torch.equal(tensors[name], model[name]) for name in model)


@pytest.mark.timeout(300)
@pytest.mark.fault("a rank killed beside sharded checkpoints: resumed by another number of ranks")
def test_fsdp_of_two_ranks_continues_on_one_two_and_four(worlds, tmp_path, tally):
    elsewhere = tmp_path / "alone"
    elsewhere.mkdir()
    for name in ("spread", "spread.toml"):
        (elsewhere / name).symlink_to(tmp_path / name)
    alone = worlds(1, "run", "spread.toml", folder=elsewhere)
    killed = worlds(2, "run", "spread.toml", "-s", "pipeline.checkpoint.background=true", BEHIND="1", KILL="1:7")
    assert alone.end() == [0], alone.texts
    assert killed.end()[1] == -signal.SIGKILL, killed.texts
    wanted = held_at(killed, 6)
    info = CheckpointStore(next(iter(list_runs(tmp_path / "runs"))).path / "checkpoints").latest()
    assert (info.step, info.world_size, info.meta["uneven"]) == (6, 2, [])
    assert whole_states(tmp_path) == wanted
    exported_whole(tmp_path)
    for size in (1, 2, 4):
        folder = tmp_path / f"with {size}"
        shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("with *", "alone"))
        again = worlds(size, "resume", "latest", folder=folder, OTHER="1")
        restored(again, wanted, 6)
        together = killed.steps() | again.steps()
        assert {s: sorted(i) for s, i in together.items()} == {s: sorted(i) for s, i in alone.steps().items()}
    tally(4, kills=1)


@pytest.mark.timeout(300)
def test_fsdp_with_tensor_parallelism_of_four_continues_on_one_and_two(worlds, tmp_path):
    """The norm's weights lie on the data-parallel mesh alone: both columns have them, one writes."""
    first = worlds(4, "run", "spread.toml", "-s", "network.tp=2", KILL="2:7")
    assert -signal.SIGKILL in first.end(), first.texts
    wanted = held_at(first, 6)
    assert whole_states(tmp_path) == wanted
    path = CheckpointStore(next(iter(list_runs(tmp_path / "runs"))).path / "checkpoints").latest().path
    index = json.loads((path / "shards.json").read_text())["tensors"]
    boxes = index["permanences.network.model.1.weight"]["boxes"]
    assert [box[1:] for box in sorted(boxes, key=lambda box: box[1])] == [[[0], [7]], [[7], [7]]]
    for size, tp in ((1, 1), (2, 2)):
        folder = tmp_path / f"with {size}"
        shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("with *"))
        changed = ["--allow-change", "permanences.network.params.tp"] if tp == 1 else []
        again = worlds(size, "resume", "latest", "-s", f"network.tp={tp}", *changed, folder=folder, OTHER="1")
        restored(again, wanted, 6)


def damage(path: Path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.timeout(300)
@pytest.mark.fault("a damaged or missing shard: all ranks use the checkpoint before")
def test_a_damaged_shard_sends_all_ranks_to_the_checkpoint_before(worlds, tmp_path):
    first = worlds(2, "run", "spread.toml", KILL="0:7", UNEQUAL="1")
    assert -signal.SIGKILL in first.end(), first.texts
    run = next(iter(list_runs(tmp_path / "runs")))
    log = (run.path / "run.log").read_text()
    assert "copies that should be equal differ: permanences.network.copy on rank" in log
    latest = CheckpointStore(run.path / "checkpoints").latest()
    damage(latest.path / "rank-00001.safetensors")
    again = worlds(2, "resume", "latest", OTHER="1", UNEQUAL="1")
    restored(again, held_at(first, 3), 3)
    log = (run.path / "run.log").read_text()
    assert f"checkpoint {latest.name} can't be used: rank-00001.safetensors is damaged" in log


@pytest.mark.timeout(300)
def test_an_error_of_one_rank_leaves_no_half_checkpoint(worlds, tmp_path):
    world = worlds(2, "run", "spread.toml", "-s", "pipeline.checkpoint.on_error=true", FAIL="0:4")
    assert world.end() == [1, 1], world.texts
    run = next(iter(list_runs(tmp_path / "runs")))
    assert CheckpointStore(run.path / "checkpoints").list()[-1].step == 3
    assert (
        "no checkpoint of the error was taken: its tensors are spread over ranks" in (run.path / "run.log").read_text()
    )


@pytest.mark.timeout(300)
def test_a_partial_tensor_is_refused_by_name(worlds, tmp_path):
    world = worlds(2, "run", "spread.toml", PARTIAL="1")
    assert world.end() == [1, 1], world.texts
    text = " ".join(world.texts)
    assert "permanences.network['sums'] is a DTensor with a Partial placement" in text
    assert "redistribute it to Shard or Replicate" in text
