"""A store needs neither torch nor numpy, unless a state has tensors or arrays."""

import subprocess
import sys

BLOCKED = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
from pathlib import Path
from ridgepole.checkpoint import CheckpointStore
from ridgepole import MissingExtraError
store = CheckpointStore(Path(sys.argv[1]))
"""

PLAIN = """
import random
state = {"a": [1, (2.5, None)], "b": bytes(9000), "c": random.getstate(), "d": list(range(10000))}
store.save(state, step=1, kind="step")
assert store.load().state == state
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""

TENSORS_WITHOUT_NUMPY = """
import torch
store.save({"w": torch.arange(5.0), "e": torch.empty(0), "t": torch.ones(2, 3).t()}, step=2, kind="step")
assert torch.equal(store.load().state["w"], torch.arange(5.0))
assert "numpy" not in sys.modules
"""

MISSING = """
for which, package in (("1", "torch"), ("2", "numpy")):
    try:
        store.load(which)
    except MissingExtraError as error:
        assert f"needs {package}, which is not installed" in str(error), error
    else:
        raise AssertionError(which)
    assert store.verify(which) == ()
"""


def run(code, blocked, directory):
    code = BLOCKED.format(blocked) + code
    done = subprocess.run([sys.executable, "-c", code, str(directory)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_state_without_tensors(tmp_path):
    run(PLAIN, {"torch", "numpy"}, tmp_path)


def test_tensors_need_no_numpy(tmp_path):
    run(TENSORS_WITHOUT_NUMPY, {"numpy"}, tmp_path)


def test_what_is_missing_is_named(tmp_path):
    """It is no damage: nothing earlier is used in its place."""
    import numpy as np
    import torch

    from ridgepole.checkpoint import CheckpointStore

    store = CheckpointStore(tmp_path)
    store.save({"w": torch.ones(3)}, step=1, kind="step")
    store.save({"w": np.ones(3)}, step=2, kind="step")
    run(MISSING, {"torch", "numpy"}, tmp_path)
