"""What the tests of checkpoints share: a store, an exact comparison, and a state with a bit of everything."""

import random
import struct
from collections import Counter, OrderedDict, deque

import numpy as np
import pytest
import torch

from ridgepole.checkpoint import CheckpointStore


def differences(a, b, path="state"):
    """Where two values are not the same to the bit and the type; the first place, or an empty text."""
    if type(a) is not type(b):
        return f"{path}: {type(a)} and {type(b)}"
    if isinstance(a, float):
        return "" if struct.pack("d", a) == struct.pack("d", b) else f"{path}: {a!r} and {b!r}"
    if isinstance(a, complex):
        return differences(a.real, b.real, path) or differences(a.imag, b.imag, path)
    if isinstance(a, torch.Tensor):
        alike = (a.dtype, a.shape, a.device) == (b.dtype, b.shape, b.device)
        return "" if alike and raw(a) == raw(b) else f"{path}: {a} and {b}"
    if isinstance(a, (np.ndarray, np.generic)):
        alike = (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        return "" if alike else f"{path}: {a!r} and {b!r}"
    if isinstance(a, (dict, list, tuple, deque)) and len(a) != len(b):
        return f"{path}: {len(a)} and {len(b)} items"
    if isinstance(a, dict):
        pairs = zip(a.items(), b.items(), strict=True)
        found = (differences(x, y, f"{path}[{type(x[0]).__name__}]") for x, y in pairs)
        return next(filter(None, found), "") or differences(getattr(a, "_metadata", 0), getattr(b, "_metadata", 0))
    if isinstance(a, (list, tuple, deque)):
        found = (differences(x, y, f"{path}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))
        return next(filter(None, found), "") or differences(getattr(a, "maxlen", 0), getattr(b, "maxlen", 0))
    if isinstance(a, (set, frozenset)):
        a, b = canonical(a), canonical(b)
    return "" if a == b else f"{path}: {a!r} and {b!r}"


def canonical(value):
    """A text that is the same for equal sets, whose order is not, and tells types and zeros apart."""
    if isinstance(value, frozenset | set):
        return f"{{{sorted(map(canonical, value))}}}"
    inside = ",".join(map(canonical, value)) if isinstance(value, tuple) else repr(value)
    return f"{type(value).__name__} {inside}"


def raw(tensor):
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.fixture(name="differences")
def _differences():
    return differences


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "run" / "checkpoints")


@pytest.fixture
def round_trip(tmp_path):
    """Saves a state in a store of its own, loads it by another, and compares."""
    count = iter(range(10**9))

    def call(state):
        path = tmp_path / f"trip{next(count)}"
        CheckpointStore(path).save(state, step=0, kind="step")
        loaded = CheckpointStore(path).load().state
        assert not differences(state, loaded)
        return loaded

    return call


@pytest.fixture
def rich_state():
    """A trained network, its optimiser, random generators, and odd values."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.BatchNorm1d(30), torch.nn.Linear(30, 2))
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.randn(8, 40)).square().sum().backward()
    optimiser.step()
    return {
        "permanences": {"network": {"model": network.state_dict(), "optimiser": optimiser.state_dict()}},
        "ranks": [
            {"rng": {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}}
        ],
        "cursor": (1, 2.5, None, float("nan"), -0.0, {2: "a", (1, b"x"): {3, 4}}, 10**30),
        "odd": OrderedDict(a=deque([1], maxlen=4), b=Counter("abca"), c=bytes(5000), d="\udcff"),
    }
