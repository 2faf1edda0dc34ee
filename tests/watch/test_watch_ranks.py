"""A fault that one of several ranks finds: all of them go back, or take a checkpoint, together."""

import json
import signal
import socket

import pytest

from ridgepole import read_metrics, rundir
from ridgepole.checkpoint import CheckpointStore

TOML = """
[pipeline]
name = "spread"
package = "spread"
progress = false
checkpoint = {{ every_steps = {every}, keep_last = 9 }}
guard = {{ nan = {{ {nan} }}, spike = false }}

[permanences]
weight = {{ type = "Weight" }}

[processes.train]
type = "train"
"""

PACKAGE = """
import os, random
from pathlib import Path

from ridgepole import Permanence, process, track
from ridgepole.permanences import BaseLoggerManager
from ridgepole.pipeline.lifecycle import guarding

guarding.PERIOD = 0.0
RANK = int(os.environ["RANK"])


class Batches:
    def __init__(self, size):
        self.size, self.cursor, self.start = size, 0, 0

    def __len__(self):
        return self.size

    def __iter__(self):
        self.cursor, self.start = self.start, 0
        while self.cursor < self.size:
            self.cursor += 1
            yield self.cursor - 1

    def state_dict(self):
        return {"cursor": self.cursor}

    def load_state_dict(self, state):
        self.start = self.cursor = state["cursor"]


class Weight(Permanence):
    state_ranks = "all"

    def __init__(self):
        self.value, self.left = 1.0, None

    def checkpoint(self):
        if os.environ.get("UNTIL_CHECKPOINT") and self.value != self.value:
            self.left = 20

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value, self.left = state["value"], 20

    def cleanup(self):
        pass


@process
def train(weight: Weight, logger: BaseLoggerManager):
    # Ranks agree on a step while they go on, so the end must wait for it
    for batch in track(Batches(100_000), "train", tick=True):
        if weight.left == 0:
            break
        if weight.left is not None and not os.environ.get("ENDLESS"):
            weight.left -= 1
        number = random.random()
        with open(f"rank-{RANK}.txt", "a") as file:
            file.write(f"{batch} {number} {weight.value}\\n")
        again = Path(f"bad-{RANK}").exists()
        if batch == 10 and not (again and os.environ.get("FORGETS")):
            Path(f"bad-{RANK}").touch()
            weight.value = float("nan")
        logger.log_metrics({"loss": weight.value, "batch": batch})
"""


class Launch:
    """Two ranks of a run, and what each has done."""

    def __init__(self, server, folder, nan, every=4, **environment):
        self.folder = folder
        (folder / "spread.toml").write_text(TOML.format(nan=nan, every=every))
        (folder / "spread.py").write_text(PACKAGE.replace("\\\\", "\\"))
        with socket.create_server(("localhost", 0)) as free:
            port = free.getsockname()[1]
        place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2"} | environment
        self.children = [
            server.start(
                "run", "spread.toml", cwd=folder, **place | {"RANK": str(rank), "RIDGEPOLE_JOIN_SECONDS": "60"}
            )
            for rank in range(2)
        ]
        self.codes = [child.wait() for child in self.children]

    @property
    def shown(self):
        return [child.stdout + child.stderr for child in self.children]

    @property
    def run(self):
        (run,) = rundir.list_runs(self.folder / "runs")
        return run

    def steps(self, rank):
        """The batches of a rank with their random numbers, in the order in which it took them."""
        lines = (self.folder / f"rank-{rank}.txt").read_text().splitlines()
        return [(int(batch), float(number), float(weight)) for batch, number, weight in map(str.split, lines)]

    def alerts(self):
        lines = (self.run.path / rundir.ALERTS).read_text("utf-8").splitlines()
        return [alert for alert in map(json.loads, lines) if alert["kind"] == "nan"]

    def stop(self):
        for child in self.children:
            child.send(signal.SIGKILL)


@pytest.fixture
def launch(command_server, tmp_path):
    made = []

    def start(nan, **more):
        made.append(Launch(command_server, tmp_path, nan, **more))
        return made[-1]

    yield start
    for each in made:
        each.stop()


def test_all_ranks_go_back_to_the_same_checkpoint_and_leave_the_same_batches_out(launch):
    ranks = launch('action = "rollback", count = 2')
    assert ranks.codes == [0, 0], ranks.shown
    assert ranks.run.status == "finished"
    first, second = (ranks.steps(rank) for rank in range(2))
    assert [batch for batch, _, _ in first] == [batch for batch, _, _ in second], "in step all the time"
    batches = [batch for batch, _, _ in first]
    until = next(place for place, batch in enumerate(batches) if batch > 10 and first[place][2] == 1.0)
    assert batches == list(range(until + 20)), "the batches since are left out, and none comes twice"
    for steps in (first, second):
        assert all(weight == 1.0 for _, _, weight in steps[until:]), "the weights are those of the checkpoint"
    metrics = read_metrics(ranks.run.path)
    logged = [int(value) for value in metrics.filter(name="batch").sort("step")["value"]]
    assert logged == [*range(8), *range(until, until + 20)], "what was logged since the checkpoint of step 8 is hidden"
    assert "step 8, and leaves out" in (ranks.run.path / rundir.RUN_LOG).read_text("utf-8")


def test_all_ranks_draw_other_numbers(launch):
    ranks = launch('action = "rollback", count = 1, then = "reseed"', FORGETS="1")
    assert ranks.codes == [0, 0], ranks.shown
    for rank in range(2):
        steps = ranks.steps(rank)
        batches = [batch for batch, _, _ in steps]
        back = next(place for place in range(1, len(batches)) if batches[place] < batches[place - 1])
        assert batches == [*range(back), *range(8, 28)], "from the checkpoint of step 8 on"
        assert steps[8][1] != steps[back][1], "with other random numbers"
    assert str(ranks.steps(0)) == str(ranks.steps(1))


def test_all_ranks_stop_after_the_last_rollback(launch):
    ranks = launch('action = "rollback", count = 1, rollbacks = 2, then = "reseed"', ENDLESS="1")
    assert 0 not in ranks.codes, ranks.shown
    run = ranks.run
    assert run.status == "failed"
    assert "loss is not finite since step 10: " in run.fields["error"]["message"]
    assert "rolled back 2 times already" in run.fields["error"]["message"]
    steps = [info.step for info in CheckpointStore(run.path / rundir.CHECKPOINTS).list() if info.kind != "error"]
    assert max(steps) <= 10, "no checkpoint after the fault is left, from which a resume would continue"


def test_all_ranks_take_the_checkpoint_of_a_fault(launch):
    ranks = launch('action = "checkpoint", count = 1', every=100_000, UNTIL_CHECKPOINT="1")
    assert ranks.codes == [0, 0], ranks.shown
    taken = CheckpointStore(ranks.run.path / rundir.CHECKPOINTS).list()
    assert [(info.kind, info.world_size) for info in taken if info.kind == "guard"] == [("guard", 2)]
