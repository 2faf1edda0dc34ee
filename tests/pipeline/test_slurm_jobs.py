"""Runs as SLURM jobs, on a real node of it: what its signals and its requeuing leave of them."""

import os
import sys

import pytest
from slurm_node import Node, missing

from ridgepole.checkpoint import CheckpointStore
from ridgepole.rundir import list_runs, read_attempts

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "SLURM is here"),
    pytest.mark.fault("a SLURM job: --signal, scancel, requeue and the time limit leave a checkpoint to resume from"),
]

PACKAGE = """
import os, time
from ridgepole import Permanence, PipelineProcess


class Held(Permanence):
    def __init__(self):
        self.count = 0

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
        while not os.path.exists("enough"):
            self.held.count += 1
            print("step", self.held.count, flush=True)
            time.sleep(0.05)
            self.controller.tick()

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Repeats(PipelineProcess):
    # has no state to resume from
    def __init__(self, held: Held):
        self.held = held

    execute = Work.execute
"""
FILE = """
[pipeline]
package = "jobs"
progress = false
grace_seconds = 20
[permanences.held]
type = "Held"
[processes.work]
type = "{process}"
"""
SCRIPT = """#!/bin/bash
exec {python} -m ridgepole run jobs.toml --resume
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("slurm"))
    yield made
    made.close()


class Job:
    def __init__(self, node, folder, *options, process="Work"):
        self.node, self.folder = node, folder
        (folder / "jobs").mkdir()
        (folder / "jobs" / "__init__.py").write_text(PACKAGE)
        (folder / "jobs.toml").write_text(FILE.format(process=process))
        self.number = node.submit(SCRIPT.format(python=sys.executable), *options, cwd=folder)
        assert self.number.isdecimal(), node.said()

    @property
    def lines(self):
        out = self.folder / "job.out"
        return out.read_text().splitlines() if out.exists() else []

    def until(self, text, times=1):
        self.node.wait_for(lambda: self.lines.count(text) >= times, text)
        return self

    def until_state(self, *states):
        self.node.wait_for(lambda: self.node.state(self.number) in states, f"{states}")
        return self

    def steps(self):
        return [int(line.split()[1]) for line in self.lines if line.startswith("step ")]

    @property
    def run(self):
        (run,) = list_runs(self.folder / "runs")
        return run

    def newest(self):
        return CheckpointStore(self.run.path / "checkpoints").list()[-1]


@pytest.fixture
def submit(node, tmp_path):
    jobs = []

    def make(*options, **keywords):
        jobs.append(Job(node, tmp_path, *options, **keywords))
        return jobs[-1]

    yield make
    for job in jobs:
        node.ask("scancel", job.number)


def test_a_requeued_job_resumes_where_it_was_stopped(submit, node):
    job = submit().until("step 5")
    node.ask("scontrol", "requeue", job.number)
    node.begin_now(job.number)
    job.node.wait_for(lambda: len(read_attempts(job.run.path)) == 2, "the second attempt")
    stopped = read_attempts(job.run.path)[1]["step"]
    job.until(f"step {stopped + 3}")
    (job.folder / "enough").touch()
    job.until_state("COMPLETED")
    assert job.steps() == list(range(1, len(job.steps()) + 1)), "no step is lost, none is repeated"
    assert job.run.status == "finished"


def test_the_signal_before_the_limit_requeues_the_job(submit, node):
    """`--signal=B:USR1@55` of a minute: exit code 75, which this cluster requeues."""
    job = submit("--time=1", "--signal=B:USR1@55").until("step 5")
    node.begin_now(job.number)
    (job.folder / "enough").touch()
    job.until_state("COMPLETED")
    assert job.run.status == "finished"
    assert job.run.fields["attempt"] == 2
    assert job.steps() == list(range(1, len(job.steps()) + 1))


def test_a_cancelled_job_has_its_checkpoint(submit, node):
    job = submit().until("step 5")
    node.ask("scancel", job.number)
    job.until_state("CANCELLED")
    node.wait_for(lambda: job.run.status == "interrupted", "the end of the run")
    assert (job.newest().kind, job.newest().step) == ("signal", job.steps()[-1])


def test_a_requeued_job_without_progress_is_stopped(submit, node):
    """Each attempt begins where the one before it did; the third is refused."""
    job = submit(process="Repeats")
    for attempt in (1, 2):
        job.until("step 5", times=attempt)
        node.ask("scontrol", "requeue", job.number)
        node.begin_now(job.number)
    job.until_state("FAILED")
    assert len(read_attempts(job.run.path)) == 2
    assert any("its last two attempts began at step 0" in line for line in job.lines), job.lines


@pytest.mark.torture
@pytest.mark.timeout(400)
@pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")
def test_the_time_limit_leaves_a_checkpoint(submit, node):
    job = submit("--time=1").until("step 5")
    node.wait_for(lambda: node.state(job.number) == "TIMEOUT", "the limit", seconds=300)
    node.wait_for(lambda: job.run.status == "interrupted", "the end of the run")
    assert (job.newest().kind, job.newest().step) == ("signal", job.steps()[-1])
