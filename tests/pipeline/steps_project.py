"""A small project for whole runs, and what must be true of one that goes on, or is refused."""

import signal

from ridgepole.checkpoint import CheckpointStore
from ridgepole.metrics import load_metrics
from ridgepole.rundir import OWNER, read_run

TOML = """
[pipeline]
name = "steps"
package = "steps"
seed = 3
progress = false
checkpoint = { every_steps = 2, keep_last = 3 }

[permanences.weights]
type = "Weights"
size = 4

[processes.prepare]
type = "prepare"

[processes.train]
type = "Train"
steps = 8
rate = 0.5
"""

STEPS = """
import os, signal, time
import numpy as np
from ridgepole import Permanence, PipelineProcess, process
from ridgepole.permanences import BaseLoggerManager


class Weights(Permanence):
    def __init__(self, size: int = 4):
        self.values = np.zeros(size)

    def state_dict(self):
        return {"values": self.values}

    def load_state_dict(self, state):
        if state["values"].shape != self.values.shape:
            raise ValueError(f"values of shape {state['values'].shape} do not fit {self.values.shape}")
        self.values = state["values"]

    def cleanup(self):
        pass


@process
def prepare():
    print("prepare", flush=True)


class Train(PipelineProcess):
    def __init__(self, weights: Weights, logger: BaseLoggerManager, steps: int, rate: float, api_token: str = ""):
        self.weights, self.logger, self.steps, self.rate, self.done = weights, logger, steps, rate, 0
        self.token = api_token

    def execute(self):
        kill_at = int(os.environ.get("KILL_AT", "-1"))
        while self.done < self.steps:
            if self.done == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.done == int(os.environ.get("WAIT_AT", "-1")):
                print("waiting", flush=True)
                time.sleep(60)
            if self.done == int(os.environ.get("FAIL_AT", "-1")):
                raise RuntimeError("no luck")
            self.weights.values += self.rate
            self.logger.log_metrics({"value": self.weights.values[0]})
            print("step", self.done, flush=True)
            self.done += 1
            self.controller.tick()

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]
"""


class Place:
    """A directory with the project's files in it, and the command line called there."""

    def __init__(self, server, path):
        self.server, self.path = server, path

    def write(self, **files):
        for name, text in files.items():
            (self.path / name.replace("__", ".")).write_text(text)

    def change(self, *changes):
        """Changes the pipeline's file."""
        text = TOML
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (self.path / "steps.toml").write_text(text)

    def call(self, *arguments, cwd=None, **environment):
        return self.server.call(*arguments, cwd=cwd or self.path, **environment)

    def start(self, *arguments, **environment):
        return self.server.start(*arguments, cwd=self.path, **environment)

    def kill(self, *arguments, at=5, **files):
        """Starts a run that kills itself before a step; gives its directory."""
        self.write(**{"steps__toml": TOML, "steps__py": STEPS} | files)
        done = self.call("run", "steps.toml", *arguments, KILL_AT=str(at))
        assert done.returncode == -signal.SIGKILL, done.stderr
        return self.run

    @property
    def run(self):
        (run,) = (self.path / "runs").iterdir()
        return run


def store(run):
    return CheckpointStore(run / "checkpoints")


def content(run):
    """Every byte in a run directory; but not who held its lock last, nor what the helper of a killed run adds."""
    helper = {OWNER, "alerts.jsonl"}
    files = [path for path in run.rglob("*") if path.is_file() and path.name not in helper]
    files = [path for path in files if path.parent.name != "console"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def values(run):
    return load_metrics(run).frame["value"].to_list()


WHOLE = [0.5 * step for step in range(1, 9)]


def went_on(done, run, step=4):
    """It finished from a checkpoint on, and its record is that of a run that was never killed."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[:-1] == [f"step {number}" for number in range(step, 8)]
    assert values(run) == WHOLE
    assert read_run(run).status == "finished"
    return True


def refused(done, run, before, *words, code=2):
    """It said why in one message, with no traceback, and left the run as it was."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not done.stdout
    assert content(run) == before, "something was overwritten"
    return True
