"""`ridgepole submit` on a real node of SLURM, which preempts, warns, cancels and refuses."""

import json
import os

import job_project
import pytest
from slurm_node import Node, missing

from ridgepole.checkpoint import CheckpointStore
from ridgepole.rundir import list_runs, read_attempts
from ridgepole.submit.job import Job
from ridgepole.submit.script import batch_script
from ridgepole.submit.spec import JobSpec

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "SLURM is here")

# Nor does the cluster requeue by itself a job that ends with 75
WITHOUT = ("PartitionName=", "RequeueExit=", "KillWait=")
MORE = """KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES OverSubscribe=NO PriorityTier=1 GraceTime=2 State=UP
PartitionName=urgent Nodes=ALL OverSubscribe=NO PriorityTier=10 PreemptMode=OFF State=UP
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("slurm"), without=WITHOUT, more=MORE)
    yield made
    made.close()


class Jobs:
    """The command line, where the node is."""

    def __init__(self, node, ridgepole, folder):
        self.node, self.ridgepole = node, ridgepole
        self.folder = job_project.write_project(folder)

    def call(self, *arguments, code=0):
        done = self.ridgepole(
            "submit", *arguments, cwd=self.folder, SLURM_CONF=self.node.environment["SLURM_CONF"], timeout=120
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def start(self, *options, file="work.toml"):
        return json.loads(self.call(file, "--executor", "slurm", "--json", *options))

    def status(self, job="latest"):
        return json.loads(self.call("status", job, "--json"))

    def until(self, ready, what):
        self.node.wait_for(lambda: ready(job_project.steps(self.log)), what)

    def until_state(self, state):
        self.node.wait_for(lambda: self.status()["state"] == state, state)
        return self.status()

    def resumes(self, job):
        """Wait until the job is queued again, and see it continue to its end without a lost or repeated step."""
        self.node.begin_now(job["number"])
        (self.folder / "enough").touch()
        self.until_state("finished")
        assert job_project.steps(self.log) == list(range(1, len(job_project.steps(self.log)) + 1))
        assert (self.run.status, len(read_attempts(self.run.path))) == ("finished", 2)

    @property
    def log(self):
        (folder,) = (self.folder / "runs" / ".jobs").glob("2*")
        return folder / "job.log"

    @property
    def run(self):
        (run,) = list_runs(self.folder / "runs")
        return run


@pytest.fixture
def jobs(node, ridgepole, tmp_path):
    # sbatch reads its lines by rules of its own
    yield Jobs(node, ridgepole, tmp_path / 'a 100% "job\'s"')
    node.ask("scancel", "--user=root")


def test_a_preempted_job_resumes_where_it_was_stopped(jobs, node, tmp_path):
    job = jobs.start("--sbatch=--exclusive", "--name", "first")
    jobs.until(lambda steps: len(steps) >= 5, "five steps")
    assert jobs.status()["state"] == "running"
    urgent = node.submit("#!/bin/sh\n:\n", "--partition=urgent", "--exclusive", cwd=tmp_path)
    node.wait_for(lambda: node.state(job["number"]) == "PENDING", "the preemption")
    node.wait_for(lambda: node.state(urgent) == "COMPLETED", "the urgent job")
    assert jobs.status()["state"] == "waiting"
    stopped = len(job_project.steps(jobs.log))
    node.begin_now(job["number"])
    jobs.until(lambda steps: len(steps) >= stopped + 3, "further steps")
    (jobs.folder / "enough").touch()
    ended = jobs.until_state("finished")
    assert job_project.steps(jobs.log) == list(range(1, len(job_project.steps(jobs.log)) + 1))
    assert (ended["starts"], ended["run"]) == (2, jobs.run.id)
    assert (jobs.run.status, jobs.run.labels.name) == ("finished", "first")
    assert jobs.call("logs").count("step 1\n") == 1


def test_a_warned_job_is_requeued_and_resumes(jobs, node):
    """The script does it: this cluster has no `RequeueExit`."""
    job = jobs.start()
    jobs.until(lambda steps: len(steps) >= 5, "five steps")
    node.ask("scancel", "--batch", "--signal=USR1", job["number"])
    jobs.resumes(job)
    events = [json.loads(line) for line in (jobs.log.parent / "events.jsonl").read_text().splitlines()]
    assert [(event["restart"], event["event"], event["code"]) for event in events] == [
        (0, "began", 0),
        (0, "ended", 75),
        (1, "began", 0),
        (1, "ended", 0),
    ]


def test_a_running_job_is_not_submitted_twice_and_is_cancelled_with_a_checkpoint(jobs, node):
    job = jobs.start()
    jobs.until(lambda steps: len(steps) >= 5, "five steps")
    twice = jobs.call("work.toml", "--executor", "slurm", code=2)
    assert f"job {job['job']} does the same and is running" in twice
    jobs.call("cancel", job["job"][:12])
    jobs.until_state("cancelled")
    node.wait_for(lambda: jobs.run.status == "interrupted", "the end of the run")
    newest = CheckpointStore(jobs.run.path / "checkpoints").list()[-1]
    assert (newest.kind, newest.step) == ("signal", job_project.steps(jobs.log)[-1])
    recorded = (jobs.log.parent / "ended.json").read_bytes()
    assert "is not running: it is cancelled" in jobs.call("cancel", "latest", code=2)
    assert (jobs.log.parent / "ended.json").read_bytes() == recorded, "it is recorded once"


def test_a_wrong_partition_is_refused_in_the_words_of_sbatch_and_leaves_nothing(jobs):
    errors = jobs.call("work.toml", "--executor", "slurm", "--partition", "moon", code=2)
    assert "sbatch refuses the job: invalid partition specified: moon" in errors
    assert list((jobs.folder / "runs" / ".jobs").glob("2*")) == []


def test_a_node_that_does_not_see_the_runs_is_said(jobs):
    jobs.start("--sbatch=--output=/nowhere/job.log")
    ended = jobs.until_state("failed")
    assert "before it had begun" in ended["detail"]
    assert "all nodes share" in ended["detail"]
    assert ended["starts"] == 0


def test_a_script_gets_its_arguments_and_its_failure_is_the_jobs(jobs):
    (jobs.folder / "train.py").write_text("import sys; print(sys.argv[1:], flush=True); sys.exit(3)")
    jobs.start("--", "it's", "$HOME", "a  b", file="train.py")
    ended = jobs.until_state("failed")
    assert "exit code 3; see" in ended["detail"]
    assert """["it's", '$HOME', 'a  b']""" in jobs.call("logs")


TORTURE = pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")


@pytest.mark.torture
@TORTURE
@pytest.mark.timeout(400)
def test_the_warning_before_the_time_limit_comes_from_slurm(jobs):
    job = jobs.start("--time", "1", "--warn", "55")
    jobs.until(lambda steps: len(steps) >= 5, "five steps")
    jobs.resumes(job)


@pytest.mark.torture
@TORTURE
@pytest.mark.timeout(400)
def test_a_job_that_does_not_stop_in_time_says_so(jobs, node):
    (jobs.folder / "stuck.py").write_text(
        "import signal, time\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)\nwhile True: time.sleep(1)\n"
    )
    job = jobs.start("--time", "1", file="stuck.py")
    node.wait_for(lambda: node.state(job["number"]) == "TIMEOUT", "the limit", seconds=300)
    ended = jobs.status()
    assert (ended["state"], ended["starts"]) == ("failed", 1)
    assert "it ran out of time before it had stopped" in ended["detail"]


@pytest.mark.torture
@TORTURE
@pytest.mark.timeout(400)
def test_the_ranks_of_torchrun_stop_together_and_resume(jobs, node):
    job = jobs.start("--processes-per-node", "2")
    jobs.until(lambda steps: len(steps) >= 5, "five steps")
    node.ask("scancel", "--batch", "--signal=USR1", job["number"])
    jobs.resumes(job)


@pytest.mark.torture
@TORTURE
@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["warned", "preempted"])
def test_the_step_of_several_nodes_stops_and_is_requeued(jobs, node, tmp_path, how):
    """The script for two nodes, cut down to the one that there is."""
    spec = JobSpec(
        name="work",
        file="work.toml",
        directory=str(jobs.folder),
        root=str(jobs.folder / "runs"),
        nodes=2,
        processes=2,
        sbatch=("--exclusive",),
    )
    text = batch_script(spec, Job.create(spec, "slurm"))
    for several, one in (("--nodes=2", "--nodes=1"), ("--ntasks=2", "--ntasks=1"), ("NNODES=2", "NNODES=1")):
        assert several in text
        text = text.replace(several, one)
    number = node.submit(text, cwd=tmp_path)
    jobs.log.with_name("job.log").symlink_to(tmp_path / "job.out")  # which the helper names
    jobs.until(lambda steps: len(steps) >= 5, "five steps")
    if how == "warned":
        node.ask("scancel", "--batch", "--signal=USR1", number)
    else:
        node.submit("#!/bin/sh\n:\n", "--partition=urgent", "--exclusive", cwd=jobs.folder)
    node.begin_now(number)
    (jobs.folder / "enough").touch()
    node.wait_for(lambda: node.state(number) == "COMPLETED", "the end")
    assert job_project.steps(jobs.log) == list(range(1, len(job_project.steps(jobs.log)) + 1))
    assert len(read_attempts(jobs.run.path)) == 2
