"""A pipeline whose steps can be counted, to be run as a job."""

PACKAGE = """
import os, time
from ridgepole import Permanence, PipelineProcess


class Held(Permanence):
    def __init__(self, start: int = 0):
        self.count = start

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]

    def cleanup(self):
        pass


class Work(PipelineProcess):
    def __init__(self, held: Held):
        self.held = held

    def execute(self):
        while not os.path.exists("enough") or self.held.count < 5:
            self.held.count += 1
            if self.controller.rank == 0:
                print("step", self.held.count, flush=True)
            time.sleep(0.05)
            self.controller.tick()

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
"""
FILE = """
[pipeline]
package = "work"
progress = false
grace_seconds = 20
[permanences.held]
type = "Held"
[processes.work]
type = "Work"
"""


def write_project(folder):
    """Write the pipeline's file and its package."""
    folder.mkdir(exist_ok=True)
    (folder / "work").mkdir()
    (folder / "work" / "__init__.py").write_text(PACKAGE)
    (folder / "work.toml").write_text(FILE)
    return folder


def steps(log):
    """Return the steps that a log shows."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("step ")]
