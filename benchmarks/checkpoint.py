"""What saving and loading a state of 100 MB costs: CheckpointStore beside writing the same bytes, and its peers.

The state is that of a network of eight linear layers and its AdamW optimiser after a step, with the random generators.
Every contender forces what it wrote to the disk; ours hashes it (SHA-256), keeps every type, and commits by a rename.
Contenders are interleaved; medians are shown, and the median of the ratios within a round.

    write + fsync        the bytes of our tensor file, in pieces of 8 MB
    torch.save           the whole state, by pickle
    safetensors          `safetensors.torch.save_file`: the tensors alone
    torch DCP            `torch.distributed.checkpoint`, without processes: the tensors alone

Loading reads what was written just before, so from the page cache, and ours verifies every byte while it reads.
Target: a save within twice of write + fsync.

    python benchmarks/checkpoint.py [rounds] [directory]
"""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp

from ridgepole.checkpoint import CheckpointStore

PIECE = 8 << 20


def make_state() -> dict[str, Any]:
    torch.manual_seed(0)
    network = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024) for _ in range(8)])
    optimiser = torch.optim.AdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()
    rng = {"python": random.getstate(), "torch": torch.get_rng_state()}
    return {"permanences": {"model": network.state_dict(), "optimiser": optimiser.state_dict()}, "rng": rng, "step": 10}


def tensors_of(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {name: value.detach()}
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {key: tensor for word, item in inside for key, tensor in tensors_of(item, f"{name}.{word}").items()}


def force(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


class Contenders:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = make_state()
        self.tensors = tensors_of(self.state)
        self.store = CheckpointStore(directory / "checkpoints")
        path = self.store.save(self.state, step=0, kind="step").info.path / "state.safetensors"
        self.data = path.read_bytes()
        self.step = 0

    def ours(self) -> None:
        self.step += 1
        self.store.save(self.state, step=self.step, kind="step")

    def bare(self) -> None:
        view = memoryview(self.data)
        fd = os.open(self.directory / "bare", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for start in range(0, len(view), PIECE):
            os.write(fd, view[start : start + PIECE])
        os.fsync(fd)
        os.close(fd)

    def torch_save(self) -> None:
        torch.save(self.state, self.directory / "torch.pt")
        force(self.directory / "torch.pt")

    def safetensors(self) -> None:
        safetensors.torch.save_file(self.tensors, self.directory / "peer.safetensors")
        force(self.directory / "peer.safetensors")

    def distributed(self) -> None:  # its writer forces its files by itself
        writer = dcp.FileSystemWriter(self.directory / "dcp", overwrite=True)
        dcp.save(dict(self.tensors), storage_writer=writer, no_dist=True)

    def load_ours(self) -> None:
        self.store.load()

    def load_torch(self) -> None:
        torch.load(self.directory / "torch.pt", weights_only=True)

    def load_safetensors(self) -> None:
        safetensors.torch.load_file(self.directory / "peer.safetensors")

    def read_and_hash(self) -> None:
        digest = hashlib.sha256()
        with (self.directory / "bare").open("rb") as file:
            while data := file.read(PIECE):
                digest.update(data)


def race(title: str, calls: dict[str, Callable[[], None]], rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            started = perf_counter()
            call()
            if turn:  # the first round warms the caches
                seconds[name].append(perf_counter() - started)
    first = next(iter(calls))
    print(f"\n{title:34s} {'ms':>8s}   times '{first}'")
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds[first], strict=True))
        print(f"  {name:32s} {statistics.median(values) * 1e3:8.1f}   {ratio:.2f}")


def main(rounds: int, where: str | None) -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=where) as folder:
        racers = Contenders(Path(folder))
        print(f"{len(racers.data) / 1e6:.0f} MB in {len(racers.tensors)} tensors, medians of {rounds} rounds")
        saves = {
            "write + fsync": racers.bare,
            "CheckpointStore.save": racers.ours,
            "torch.save + fsync": racers.torch_save,
            "safetensors.save_file + fsync": racers.safetensors,
            "torch.distributed.checkpoint": racers.distributed,
        }
        race("save (target: at most 2)", saves, rounds)
        loads = {
            "torch.load, weights_only": racers.load_torch,
            "CheckpointStore.load, verified": racers.load_ours,
            "safetensors.load_file": racers.load_safetensors,
            "read + SHA-256, one thread": racers.read_and_hash,
        }
        race("load", loads, rounds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9, sys.argv[2] if len(sys.argv) > 2 else None)
