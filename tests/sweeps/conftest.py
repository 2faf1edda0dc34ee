"""A toy pipeline that costs milliseconds, for sweeps over it."""

import json
import secrets
import sys
import textwrap
import zlib
from pathlib import Path

import pytest
from sweep_places import EXECUTORS, Head

TOY = '''
import os, signal, time
from pathlib import Path
from ridgepole import Permanence, PipelineProcess, process
from ridgepole.permanences import BaseLoggerManager


def note(file, *words):
    with open(file, "a") as stream:
        print(*words, file=stream)


class Net(Permanence):
    def __init__(self, width: int = 4, lr: float = 0.1, kind: str = "plain"):
        self.width, self.lr, self.weight = width, lr, 1.0

    def state_dict(self):
        return {"weight": self.weight}

    def load_state_dict(self, state):
        self.weight = state["weight"]

    def cleanup(self):
        note("cleaned", self.lr)


class Train(PipelineProcess):
    """Its loss after n epochs is (1 - lr / width) ** n."""

    def __init__(self, net: Net, logger: BaseLoggerManager, epochs: int = 3, pause: float = 0.0, fail_at: int = -1,
                 how: str = "raise"):
        self.net, self.logger, self.epoch = net, logger, 0
        self.epochs, self.pause, self.fail_at, self.how = epochs, pause, fail_at, how

    def state_dict(self):
        return {"epoch": self.epoch}

    def load_state_dict(self, state):
        self.epoch = state["epoch"]

    def execute(self):
        while self.epoch < self.epochs:
            if self.epoch == self.fail_at and not Path("mended").exists():
                if Path("mends").exists():
                    Path("mended").touch()
                if self.how != "raise":
                    os.kill(os.getpid(), getattr(signal, self.how))
                    time.sleep(0.2)
                    continue
                raise RuntimeError("as asked")
            self.net.weight *= 1 - self.net.lr / self.net.width
            self.epoch += 1
            time.sleep(self.pause)
            note("steps", self.net.lr, self.epoch)
            self.logger.log_metrics({"loss": self.net.weight})
            self.controller.tick()
'''

PIPELINE = """
[pipeline]
package = "{package}"
seed = 1
checkpoint = {{ every_steps = 1, after_process = false }}
[permanences.net]
type = "Net"
[processes.train]
type = "Train"
{more}
"""


def loss(lr: float, epochs: int = 3, width: int = 4) -> float:
    """What `Train` comes to."""
    weight = 1.0
    for _ in range(epochs):
        weight *= 1 - lr / width
    return weight


@pytest.fixture(autouse=True)
def _quick(quick_python):
    """Drivers, workers and jobs are forked, but for the tests that use `fresh_python`."""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Writes the toy project into the working directory; gives a function that writes its pipeline and a sweep."""
    package = f"toy_{zlib.crc32(str(tmp_path).encode()):08x}"  # a name of its own: it stays imported
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(textwrap.dedent(TOY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))

    def write(sweep: dict | None = None, more: str = "") -> Path:
        (tmp_path / "toy.toml").write_text(PIPELINE.format(more=more, package=package))
        if sweep is not None:
            ours = {"pipeline": "toy.toml"} | sweep.get("ridgepole", {})
            (tmp_path / "sweep.json").write_text(json.dumps(sweep | {"ridgepole": ours}))
        return tmp_path

    return write


@pytest.fixture
def toy_loss():
    return loss


GRID = {
    "method": "grid",
    "metric": {"name": "loss"},
    "parameters": {"lr": {"values": [0.1, 0.5, 0.9]}, "train.epochs": {"values": [2, 3]}},
}


@pytest.fixture
def grid():
    """A sweep of six trials over the toy pipeline."""
    return json.loads(json.dumps(GRID))


# --- executors


@pytest.fixture(scope="session")
def ray_head():
    """The address of a cluster that all tests of a session share: starting one takes seconds."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # it listens to the network: a token of the tests' own keeps others out
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        head = Head()
        yield head.address
        head.kill()


@pytest.fixture
def place(request):
    """What the `ridgepole` table of a sweep says for one executor."""
    ours = dict(EXECUTORS[request.param])
    if ours["executor"] == "ray":
        ours["ray"] = {"address": request.getfixturevalue("ray_head")}
    return ours
