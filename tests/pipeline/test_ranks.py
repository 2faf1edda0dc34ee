"""Several ranks, one run: processes of their own, launched by hand where torch has no part in it, else by torchrun."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ridgepole import Pipeline, RankError, StopRequested, read_metrics
from ridgepole.checkpoint import CheckpointStore
from ridgepole.launch import launched
from ridgepole.rundir import list_runs

PACKAGE = """
import os, random, resource, signal, sys, threading, time
from ridgepole import Permanence, PipelineProcess, process, track
from ridgepole.permanences import BaseLoggerManager

RANK = int(os.environ["RANK"])


def say(text):
    os.write(1, f"[{RANK}] {text}\\n".encode())


def here(name):
    return f"{RANK}" in os.environ.get(name, "").split(",")


class Held(Permanence):
    def __init__(self):
        self.fails("construct")
        if here("EARLY"):
            os.kill(os.getpid(), signal.SIGUSR1)

    def initialize(self):
        say("constructed")
        self.fails("initialize")

    def validate(self):
        self.fails("validate")

    def fails(self, phase):
        if os.environ.get("FAILS") == f"{RANK}:{phase}":
            raise ValueError(f"no {phase} here")

    def checkpoint(self):
        say("checkpoint")

    def cleanup(self):
        say("cleanup")
        if here("BAD_CLEANUP"):
            raise OSError("not clean")


class Shared(Permanence):
    def __init__(self):
        self.value = RANK

    def state_dict(self):
        say("shared stored")
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]

    def cleanup(self):
        pass


class Own(Shared):
    state_ranks = "all"

    def state_dict(self):
        if not here("FULL"):
            return {"value": self.value}
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        return {"value": self.value, "large": "x" * 200_000}


    def reshard(self, states, rank, world_size):
        return {"value": sum(state["value"] for state in states) / world_size}


class Train(PipelineProcess):
    def __init__(
        self, held: Held, shared: Shared, own: Own, logger: BaseLoggerManager, steps: int = 10, pause: float = 0
    ):
        self.held, self.shared, self.own, self.logger = held, shared, own, logger
        self.steps, self.pause, self.done = steps, pause, 0

    def state_dict(self):
        at_end = {"thread": threading.Lock()} if here("BAD_END") and self.done == self.steps else {}
        return {"done": self.done, "rank": RANK} | at_end

    if os.environ.get("RESHARDS"):

        def reshard(self, states, rank, world_size):
            return {"done": states[0]["done"], "rank": rank}

    def load_state_dict(self, state):
        assert state["rank"] == RANK, "the state of another rank"
        self.done = state["done"]

    def skip(self):
        say("asked to skip")
        return os.environ.get("SKIPS") == f"{RANK}" and "there already"

    def execute(self):
        c = self.controller
        say(f"seed {c.seed} run {c.run_dir.name} attempt {c.attempt} rank {c.rank} of {c.world_size}")
        say(f"shared {self.shared.value} own {self.own.value}")
        self.held.fails("execute")
        for step in track(range(self.done, self.steps), "train", tick=True):
            self.own.value += random.random() * (RANK + 1)
            self.logger.log_metrics({"loss": step})
            say(f"step {step}")
            open(f"begun-{RANK}", "w").close()
            if step == 5 and os.environ.get("FAILS") == f"{RANK}:step":
                while not os.path.exists(f"begun-{1 - RANK}"):
                    time.sleep(0.01)
                self.held.fails("step")
            if os.environ.get("KILL") == f"{RANK}:{step}" and c.attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if os.environ.get("SIGNAL", "").startswith(f"{RANK}:{step}:") and c.attempt == 1:
                os.kill(os.getpid(), int(os.environ["SIGNAL"].split(":")[2]))
            time.sleep(self.pause * (1 + RANK))  # the ranks drift apart
            self.done = step + 1
        say(f"own {self.own.value} random {random.random()}")


@process
def stuck(held: Held):
    import threading

    if RANK == 0:
        raise ValueError("gone")
    say("waiting")
    threading.Lock().acquire() if here("SOFT") else C_SLEEP()


def C_SLEEP():
    import ctypes

    # A call that signals do not end, as a collective is: it restarts its sleep for as long as it is to last.
    libc = ctypes.CDLL(None)
    while not here("NEVER"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        libc.sleep(120)
"""

TABLE = """
[pipeline]
package = "ranked"
progress = false
{pipeline}
[permanences]
held = {{ type = "Held" }}
shared = {{ type = "Shared" }}
own = {{ type = "Own" }}
[processes.train]
type = "Train"
{train}
"""


ENDLESS = "params = { steps = 100000, pause = 0.01 }"


class Ranks:
    """Some ranks of one launch, each a process of its own."""

    def __init__(
        self, command_server, folder, ranks, arguments, names=("RANK", "WORLD_SIZE"), size=None, **environment
    ):
        with socket.create_server(("localhost", 0)) as free:
            port = free.getsockname()[1]
        common = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "RIDGEPOLE_JOIN_SECONDS": "60"} | environment
        size = str(size or len(ranks))
        self.children = [
            command_server.start(
                *arguments, cwd=folder, **common | {"RANK": str(rank), names[0]: str(rank), names[1]: size}
            )
            for rank in ranks
        ]

    @property
    def lines(self):
        """What each rank printed, stdout before stderr."""
        texts = [child.stdout + child.stderr for child in self.children]
        return [[line.removeprefix(f"[{rank}] ") for line in text.splitlines()] for rank, text in enumerate(texts)]

    def until(self, rank, wanted):
        self.children[rank].until(wanted)
        return self

    def end(self):
        """The exit codes."""
        return [child.wait() for child in self.children]

    def stop(self):
        for child in self.children:
            child.send(signal.SIGKILL)
            child.wait(10)

    def found(self, rank, text):
        return [line for line in self.lines[rank] if text in line]


@pytest.fixture
def start(command_server, tmp_path):
    started = []

    def make(ranks=2, pipeline="", train="", arguments=("run", "ranked.toml"), **keywords):
        (tmp_path / "ranked").mkdir(exist_ok=True)
        (tmp_path / "ranked" / "__init__.py").write_text(PACKAGE)
        (tmp_path / "ranked.toml").write_text(TABLE.format(pipeline=pipeline, train=train))
        which = range(ranks) if isinstance(ranks, int) else ranks
        started.append(Ranks(command_server, tmp_path, which, arguments, **keywords))
        return started[-1]

    yield make
    for ranks in started:
        ranks.stop()


def the_run(folder):
    (run,) = list_runs(folder / "runs")
    return run


def losses(run):
    metrics = read_metrics(run.path)
    return metrics.filter(metrics["name"] == "loss")["value"].to_list()


# --- meeting


def test_one_run_one_seed(start, tmp_path):
    ranks = start(3)
    assert ranks.end() == [0, 0, 0], ranks.lines
    run = the_run(tmp_path)
    seeds = [ranks.found(rank, "seed")[0].split(" rank ")[0] for rank in range(3)]
    assert len(set(seeds)) == 1, seeds
    assert run.id in seeds[0]
    assert run.status == "finished"
    assert f"seed {run.fields['seed']} " in seeds[0]
    assert [ranks.found(rank, "attempt")[0].rpartition("rank ")[2] for rank in range(3)] == [
        "0 of 3",
        "1 of 3",
        "2 of 3",
    ]
    assert len(losses(run)) == 10, "rank 0 alone logs"
    assert not (tmp_path / "runs" / ".ranks").exists(), "what they met by is still there"
    assert [len(ranks.found(rank, "finished in")) for rank in range(3)] == [1, 0, 0]
    assert [ranks.lines[rank].count("shared stored") > 0 for rank in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    "names", [("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")]
)
def test_other_launchers(names, monkeypatch):
    monkeypatch.setenv(names[0], "1")
    monkeypatch.setenv(names[1], "2")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    launch = launched()
    assert (launch.rank, launch.size) == (1, 2)
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    assert launched().key != launch.key
    monkeypatch.delenv(names[1])
    with pytest.raises(ValueError, match=f"this is rank 1 by {names[0]}, .* set {names[1]} too"):
        launched()


def test_a_batch_script_is_alone(monkeypatch):
    """SLURM gives it a rank and the number of tasks, but no step runs that many."""
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert launched() is None


def test_mpirun_in_a_slurm_job_counts_by_mpi(monkeypatch):
    for name, value in {"SLURM_PROCID": "0", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert launched().rank == 3


def test_a_file_of_a_crashed_launch_is_passed_over(start, tmp_path, monkeypatch):
    """It names a port where somebody else listens now, who says nothing, or nobody at all."""
    silent = socket.create_server(("localhost", 0))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1234")
    stale = tmp_path / "runs" / ".ranks" / f"{launched().key}.json"
    stale.parent.mkdir(parents=True)
    port = silent.getsockname()[1]
    stale.write_text(json.dumps({"token": "00" * 32, "host": socket.gethostname(), "port": port, "addresses": []}))
    ranks = start(MASTER_PORT="1234")
    with silent:
        assert ranks.end() == [0, 0], ranks.lines
    assert the_run(tmp_path).status == "finished"


def test_two_launches_at_once(start, tmp_path):
    both = [start(), start()]
    assert [ranks.end() for ranks in both] == [[0, 0], [0, 0]], [ranks.lines for ranks in both]
    assert len(list(list_runs(tmp_path / "runs"))) == 2


@pytest.mark.parametrize(
    ("alone", "missing"), [(0, "of 2 ranks 1 did not join"), (1, "rank 1 did not connect to rank 0")]
)
def test_a_rank_that_never_comes(alone, missing, monkeypatch, tmp_path):
    for name, value in {"RANK": str(alone), "WORLD_SIZE": "2", "RIDGEPOLE_JOIN_SECONDS": "0.5"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RankError, match=f"{missing} within 0.5 s"):
        Pipeline("alone", progress=False).run(tmp_path)
    assert not list(list_runs(tmp_path))


def test_rank_zero_killed_while_it_waits(start, tmp_path):
    first = start([0], size=2, MASTER_PORT="1")
    file = tmp_path / "runs" / ".ranks"
    end = time.monotonic() + 30
    while not list(file.glob("*.json")) and time.monotonic() < end:
        time.sleep(0.02)
    first.stop()
    assert list(file.glob("*.json")), "it leaves its file behind"
    again = start(MASTER_PORT="1")
    assert again.end() == [0, 0], again.lines


# --- failing


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("phase", ["construct", "initialize", "validate", "execute"])
def test_a_failure_on_one_rank_stops_all(phase, rank, start, tmp_path):
    ranks = start(train=ENDLESS, FAILS=f"{rank}:{phase}")
    assert ranks.end() == [1, 1], ranks.lines
    run = the_run(tmp_path)
    assert run.status == "failed"
    failed = "ValueError" if rank == 0 else "RankError"
    assert run.fields["error"]["type"] == failed
    assert f"no {phase} here" in run.fields["error"]["message"]
    assert rank == 0 or run.fields["error"]["message"].startswith("rank 1 failed: ValueError")
    for each in range(2):
        cleaned = len(ranks.found(each, "cleanup"))
        if ranks.found(each, "constructed"):
            assert cleaned == 1, ranks.lines
        else:  # its constructor may have been interrupted before its end or after
            assert cleaned <= (phase != "construct" or each != rank), ranks.lines
    assert sum(len(ranks.found(each, "Traceback")) for each in range(2)) == 1, "told once, where it happened"


def test_a_killed_rank_stops_all(start, tmp_path):
    ranks = start(3, train=ENDLESS, KILL="2:5")
    assert ranks.end() == [1, 1, -9], ranks.lines
    error = the_run(tmp_path).fields["error"]
    assert error["message"] == "rank 2 ended without a word, as by kill -9, a crash or os._exit"
    assert [len(ranks.found(rank, "cleanup")) for rank in range(3)] == [1, 1, 0]


def test_rank_zero_killed(start, tmp_path):
    ranks = start(train=ENDLESS, KILL="0:5")
    assert ranks.end() == [-9, 1], ranks.lines
    assert ranks.found(1, "rank 0 ended without a word")
    assert len(ranks.found(1, "cleanup")) == 1
    assert the_run(tmp_path).status == "crashed"


@pytest.mark.parametrize("rank", [0, 1])
def test_the_checkpoint_of_an_error_is_rank_zero_s(rank, start, tmp_path):
    ranks = start(train=ENDLESS, pipeline="checkpoint = { on_error = true }", FAILS=f"{rank}:step")
    assert ranks.end() == [1, 1], ranks.lines
    kinds = [info.kind for info in CheckpointStore(the_run(tmp_path).path / "checkpoints").list()]
    assert kinds == ["boundary", "error"], ranks.lines


def test_two_pipelines_in_one_script(command_server, tmp_path):
    (tmp_path / "twice.py").write_text(
        "import os\n"
        "from ridgepole import Pipeline, process\n"
        "@process\n"
        "def work(controller):\n"
        "    print(controller.rank, controller.run_dir.name)\n"
        "for _ in range(2):\n"
        "    Pipeline('twice', progress=False).process('work', work).run('runs')\n"
    )
    ranks = [
        command_server.start(cwd=tmp_path, script=tmp_path / "twice.py", RANK=str(rank), WORLD_SIZE="2")
        for rank in (0, 1)
    ]
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.stderr for rank in ranks]
    first, second = (rank.stdout.split() for rank in ranks)
    assert first[1::2] == second[1::2]
    assert len(set(first[1::2])) == 2


def test_a_clean_up_that_fails_elsewhere_fails_the_run(start, tmp_path):
    ranks = start(BAD_CLEANUP="1")
    assert ranks.end() == [1, 1], ranks.lines
    run = the_run(tmp_path)
    assert run.status == "finished_with_cleanup_errors"
    assert run.fields["error"]["message"] == "the clean-up of rank 1: OSError: not clean"


def test_rank_zero_answers_skip(start, tmp_path):
    ranks = start(SKIPS="0")
    assert ranks.end() == [0, 0], ranks.lines
    assert [len(ranks.found(rank, "asked to skip")) for rank in range(2)] == [1, 0]
    assert not ranks.found(1, "step"), "rank 1 ran what rank 0 skipped"


def test_nothing_is_cached(start, tmp_path):
    """Each rank would have to keep a state of its own, and all of them to find theirs."""
    ranks = start(train='cache = "fingerprint"')
    assert ranks.end() == [0, 0], ranks.lines
    assert "with several ranks no process is cached" in (the_run(tmp_path).path / "run.log").read_text()
    assert not (tmp_path / "runs" / ".cache").exists()


@pytest.mark.parametrize("where", ["python", "c"])
def test_a_rank_that_sits_in_a_call_gets_out(where, start, tmp_path):
    ranks = start(
        train='params = { steps = 1 }\n[processes.stuck]\ntype = "stuck"', SOFT="1" if where == "python" else ""
    )
    assert ranks.end() == [1, 1], ranks.lines
    assert len(ranks.found(1, "cleanup")) == 1, ranks.lines
    assert bool(ranks.found(1, "does not return; cleaned up beside it")) == (where == "c"), ranks.lines
    assert "gone" in the_run(tmp_path).fields["error"]["message"]


# --- stopping

CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 75)]


@pytest.mark.parametrize(("number", "code"), CODES)
@pytest.mark.parametrize("to", [[0], [1], [0, 1]], ids=["zero", "one", "all"])
def test_all_stop_at_the_same_step(number, code, to, start, tmp_path):
    ranks = start(train=ENDLESS)
    ranks.until(0, "step 20").until(1, "step 20")
    for rank in to:
        ranks.children[rank].send(number)
    assert ranks.end() == [code, code], ranks.lines
    ends = [ranks.found(rank, "step ")[-1] for rank in range(2)]
    assert ends[0] == ends[1], ends
    infos = CheckpointStore(the_run(tmp_path).path / "checkpoints").list()
    assert [info.kind for info in infos] == ["boundary", "signal"]
    assert f"step {infos[-1].step - 1}" == ends[0]
    assert infos[-1].world_size == 2
    assert [len(ranks.found(rank, "cleanup")) for rank in range(2)] == [1, 1]
    assert the_run(tmp_path).status == "interrupted"


def test_a_signal_before_the_first_step(start, tmp_path):
    """It is obeyed at the first step, on all ranks, however far the others are when it comes."""
    ranks = start(train=ENDLESS, EARLY="1")
    assert ranks.end() == [75, 75], ranks.lines
    assert [ranks.found(rank, "step ")[-1] for rank in range(2)] == ["step 0", "step 0"]


def test_steps_without_a_pause_stop_together(start, tmp_path):
    """Many thousand steps a second: no margin of steps would do, the ranks have to wait where they said they could."""
    ranks = start(train="params = { steps = 10000000 }", pipeline="logger = false")
    ranks.until(0, "step 3000").until(1, "step 3000")
    ranks.children[1].send(signal.SIGTERM)
    assert ranks.end() == [143, 143]
    ends = [ranks.found(rank, "step ")[-1] for rank in range(2)]
    assert ends[0] == ends[1], ends


def test_a_second_signal_stops_all_at_once(start, tmp_path):
    """Rank 1 is far from its next step."""
    ranks = start(train="params = { steps = 10, pause = 30 }", SIGNAL="")
    ranks.until(0, "step 0").until(1, "step 0")
    for _ in range(2):
        ranks.children[1].send(signal.SIGINT)
        time.sleep(0.3)
    assert ranks.end() == [130, 130], ranks.lines
    assert [len(ranks.found(rank, "cleanup")) for rank in range(2)] == [1, 1]


# --- checkpoints and resuming


def test_clock_and_best_are_agreed_on(start, tmp_path):
    policy = "every_minutes = 0.005, after_process = false, keep_last = 50"
    best = 'keep_best = { metric = "loss", mode = "max", k = 1 }'
    ranks = start(pipeline=f"checkpoint = {{ {policy}, {best} }}", train="params = { steps = 60, pause = 0.02 }")
    assert ranks.end() == [0, 0], ranks.lines
    store = CheckpointStore(the_run(tmp_path).path / "checkpoints")
    kinds = {info.kind for info in store.list()}
    assert kinds
    assert kinds <= {"time", "best"}, kinds
    assert all(info.world_size == 2 for info in store.list())
    inside = [info for info in store.list() if info.meta["process"]]  # the last may be that of the end
    assert inside
    for info in inside:
        loaded = store.load(info.name, ranks=[1])
        assert loaded.state["process"]["state"]["done"] == loaded.parts[1]["process"]["state"]["done"], info.name


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_and_resumed_is_as_if_left_alone(rank, start, tmp_path):
    policy = "seed = 3\ncheckpoint = { every_steps = 4 }"
    alone = start(pipeline=policy, train="params = { steps = 30 }")
    assert alone.end() == [0, 0], alone.lines
    killed = start(pipeline=policy, train="params = { steps = 30 }", KILL=f"{rank}:17")
    assert killed.end()[rank] == -9
    resumed = start(pipeline=policy, train="params = { steps = 30 }", arguments=("run", "ranked.toml", "--resume"))
    assert resumed.end() == [0, 0], resumed.lines
    for each in range(2):
        assert resumed.found(each, "attempt 2"), resumed.lines
        assert resumed.found(each, "step ")[0] == "step 16"
        assert resumed.found(each, "random") == alone.found(each, "random")
        assert resumed.found(each, "shared")[0].startswith("shared 0 "), "rank 0's state is given back to all"
    second, first = list_runs(tmp_path / "runs")
    assert losses(second) == losses(first) == [float(step) for step in range(30)]


def test_another_number_of_ranks_is_refused(start, tmp_path):
    ranks = start(train=ENDLESS)
    ranks.until(1, "step 5").children[0].send(signal.SIGTERM)
    assert ranks.end() == [143, 143]
    run = the_run(tmp_path)
    more = start(3, train=ENDLESS, arguments=("resume", run.id))
    assert more.end() == [1, 1, 1], more.lines
    wanted = f"run {run.id} was stored by 2 ranks"
    assert all(
        wanted in line and "can't be resumed with 3 ranks" in line for rank in range(3) for line in more.lines[rank]
    )
    assert "the state of the process 'train' (Train, " in more.lines[0][-1]
    alone = start(1, train=ENDLESS, arguments=("resume", run.id))
    assert alone.end() == [1]
    assert "can't be resumed with 1 rank:" in " ".join(alone.lines[0])
    assert the_run(tmp_path).fields["attempt"] == 1

    stored = CheckpointStore(run.path / "checkpoints").load(ranks=[1])
    held = [state["permanences"]["own"]["value"] for state in (stored.state, stored.parts[1])]
    more = start(3, train=ENDLESS, arguments=("resume", run.id), RESHARDS="1")
    for rank in range(3):
        more.until(rank, "step ")
        assert more.found(rank, "own")[0].endswith(f"own {sum(held) / 3}"), more.lines
        assert more.found(rank, "step ")[0] == f"step {stored.info.step}"
    assert "another number of ranks (2 before, 3 now)" in (run.path / "run.log").read_text()


def test_a_run_that_has_finished_is_refused_on_all_ranks(start, tmp_path):
    assert start().end() == [0, 0]
    again = start(arguments=("resume", "latest"))
    assert again.end() == [2, 1], again.lines
    assert all("there is nothing to resume" in " ".join(again.lines[rank]) for rank in range(2)), again.lines


def test_a_part_that_can_t_be_written_leaves_the_checkpoints_before(start, tmp_path):
    """A file of rank 1 may not grow beyond 100 kB: the checkpoint is not taken, both go on."""
    ranks = start(pipeline="checkpoint = { every_steps = 4 }", FULL="1")
    assert ranks.end() == [0, 0], ranks.lines
    run = the_run(tmp_path)
    assert not CheckpointStore(run.path / "checkpoints").list()
    log = (run.path / "run.log").read_text()
    assert "no checkpoint was taken: rank 1: " in log
    assert "File too large" in log


def test_the_end_of_a_process_that_can_t_be_stored_keeps_the_ranks_in_step(start, tmp_path):
    """Only a fork needs it. Rank 0 may not save a second time without it, while the other rank goes on."""
    ranks = start(pipeline="checkpoint = { every_steps = 4 }", BAD_END="0")
    assert ranks.end() == [0, 0], ranks.lines
    run = the_run(tmp_path)
    store = CheckpointStore(run.path / "checkpoints")
    assert store.list()[-1].kind == "boundary"
    assert "no checkpoint was taken" not in (run.path / "run.log").read_text()
    assert "ended" not in store.load().state


# --- torchrun and gloo


GLOO = """
import os, random, signal, time
import torch
import torch.distributed as dist
from torch import nn
from ridgepole import Permanence, PipelineProcess, ResumableLoader, process, track
from ridgepole.permanences import BaseLoggerManager

torch.set_num_threads(1)


def say(text):
    os.write(1, f"[{os.environ['RANK']}] {text}\\n".encode())


class Group(Permanence):
    def initialize(self):
        if os.environ.get("FAILS") == os.environ["RANK"]:
            while not os.path.exists("waiting"):
                time.sleep(0.01)
            time.sleep(0.3)
            raise ValueError("no card here")
        open("waiting", "w").close()
        launch = os.environ.get("TORCHELASTIC_RUN_ID")
        # torchrun's own store may still hold the addresses of before a restart (torch 2.13): a file for each start.
        name = os.path.abspath(f"group-{launch}-{os.environ.get('TORCHELASTIC_RESTART_COUNT')}")
        where = {"init_method": f"file://{name}", "rank": int(os.environ["RANK"]), "world_size": 2} if launch else {}
        dist.init_process_group("gloo", **where)

    def cleanup(self):
        say("cleanup")
        if dist.is_initialized():
            dist.destroy_process_group()


class Network(Permanence):
    def __init__(self, group: Group):
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-2)

    def state_dict(self):
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])

    def learn(self, batch):
        loss = (self.model(batch) - batch.sum(1, keepdim=True)).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        for parameter in self.model.parameters():
            dist.all_reduce(parameter.grad)
        self.optimiser.step()
        return loss.item()

    def cleanup(self):
        pass


@process
def train(network: Network, logger: BaseLoggerManager, controller, epochs: int = 5, pause: float = 0.0):
    items = torch.arange(128, dtype=torch.float32).reshape(32, 4) / 128
    if not controller.step:  # each rank its own dropout
        torch.manual_seed(100 + controller.rank)
        random.seed(100 + controller.rank)
    say(f"attempt {controller.attempt}")
    for batch in track(ResumableLoader(items, 4, epochs), "train", tick=True):
        logger.log_metrics({"loss": network.learn(batch), "drawn": random.random()})
        say(f"step {controller.step}")
        if os.environ.get("KILL") == f"{os.environ['RANK']}:{controller.step}" and controller.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(pause)
    weights = [parameter.detach().numpy().tobytes().hex() for parameter in network.model.parameters()]
    say(f"end {hash(tuple(weights))} {torch.rand(1).item()} {random.random()}")
"""

GLOO_TABLE = """
[pipeline]
package = "deep"
progress = false
seed = 11
checkpoint = { every_steps = 6 }
[permanences]
group = { type = "Group" }
network = { type = "Network" }
[processes.train]
type = "train"
"""

needs_gloo = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or not (Path(sys.executable).parent / "torchrun").exists(),
    reason="needs torch with torchrun",
)


def torture(test):
    wanted = os.environ.get("RIDGEPOLE_TORTURE")
    return pytest.mark.torture(pytest.mark.skipif(not wanted, reason="needs RIDGEPOLE_TORTURE=1")(test))


class Deep(Ranks):
    """Two ranks with gloo, forked."""

    def of(self, rank, text):
        return self.found(rank, text)


class Torchrun:
    """Two ranks under torchrun."""

    def __init__(self, folder, *arguments, options=(), **environment):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *options]
        own = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.path = folder / f"{time.time_ns()}.out"
        with self.path.open("wb") as out:
            self.child = subprocess.Popen(
                [*torchrun, "-m", "ridgepole", *arguments],
                cwd=folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | own | environment,
            )

    @property
    def lines(self):
        return self.path.read_text().splitlines()

    def of(self, rank, text):
        return [
            line.removeprefix(f"[{rank}] ") for line in self.lines if line.startswith(f"[{rank}] ") and text in line
        ]

    def until(self, text):
        end = time.monotonic() + 240
        while text not in self.path.read_text():
            assert time.monotonic() < end, f"{text!r} never came: {self.lines}"
            assert self.child.poll() is None, self.lines
            time.sleep(0.02)
        return self

    def end(self):
        return self.child.wait(240)

    def stop(self):
        self.child.terminate()  # torchrun ends its workers
        self.child.wait(40)


@pytest.fixture
def deep(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "__init__.py").write_text(GLOO)
    (tmp_path / "deep.toml").write_text(GLOO_TABLE)
    return tmp_path


@pytest.fixture
def torchrun(deep):
    started = []

    def make(*arguments, **keywords):
        started.append(Torchrun(deep, *arguments, **keywords))
        return started[-1]

    yield make
    for run in started:
        run.stop()


@pytest.fixture
def gloo(torch_server, deep):
    started = []

    def make(*arguments, **keywords):
        started.append(Deep(torch_server, deep, range(2), arguments, **keywords))
        return started[-1]

    yield make
    for ranks in started:
        ranks.stop()


def same_end(folder, interrupted, alone):
    """Weights, the generators of both ranks and the masked metrics, to the bit."""
    for rank in range(2):
        assert interrupted.of(rank, "end") == alone.of(rank, "end") != []
    ends = [alone.of(rank, "end")[0].split() for rank in range(2)]
    assert ends[0][1] == ends[1][1], "the weights are the same"
    assert ends[0][2] != ends[1][2], "the generators are not"
    second, first = list_runs(folder / "runs")
    assert (first.status, second.status) == ("finished", "finished")
    assert losses(second) == losses(first)
    assert len(losses(first)) == 20


@needs_gloo
@pytest.mark.parametrize("rank", [0, 1])
def test_killed_and_resumed_with_gloo_is_as_if_left_alone(rank, gloo, deep):
    """In the middle of an epoch."""
    alone = gloo("run", "deep.toml")
    assert alone.end() == [0, 0], alone.lines
    killed = gloo("run", "deep.toml", KILL=f"{rank}:15")
    codes = [-9 if each == rank else 1 for each in range(2)]
    assert killed.end() == codes, killed.lines
    assert len(killed.found(1 - rank, "cleanup")) == 1
    resumed = gloo("resume", "latest")
    assert resumed.end() == [0, 0], resumed.lines
    same_end(deep, resumed, alone)


@needs_gloo
def test_a_rank_that_fails_to_initialise(gloo, deep):
    """The other one waits for it in `init_process_group`, where no exception reaches it."""
    ranks = gloo("run", "deep.toml", FAILS="1")
    assert ranks.end() == [1, 1], ranks.lines
    assert the_run(deep).fields["error"]["message"] == "rank 1 failed: ValueError: no card here"
    assert [len(ranks.found(rank, "cleanup")) for rank in range(2)] == [1, 1]


@needs_gloo
@torture
@pytest.mark.timeout(300)  # torch is imported up to five times
def test_a_killed_rank_restarted_by_torchrun(torchrun, deep):
    """The launcher starts all ranks again, and `--resume` finds the run that they were in."""
    run = torchrun("run", "deep.toml", "--resume", options=["--max-restarts=1"], KILL="1:15")
    assert run.end() == 0, run.lines
    for rank in range(2):
        assert run.of(rank, "attempt") == ["attempt 1", "attempt 2"]
    assert the_run(deep).status == "finished"
    assert len(losses(the_run(deep))) == 20


@needs_gloo
@pytest.mark.timeout(300)  # torch is imported up to five times
def test_sigterm_to_torchrun(torchrun, deep):
    """It sends the signal on to all ranks."""
    run = torchrun("run", "deep.toml", "-s", "train.epochs=100000", "-s", "train.pause=0.02")
    run.until("] step 10").child.send_signal(signal.SIGTERM)
    run.end()
    assert run.of(0, "step")[-1] == run.of(1, "step")[-1]
    info = CheckpointStore(the_run(deep).path / "checkpoints").latest()
    assert (info.kind, info.world_size) == ("signal", 2)
    assert [len(run.of(rank, "cleanup")) for rank in range(2)] == [1, 1]


@needs_gloo
@pytest.mark.timeout(300)
def test_a_signal_that_torchrun_does_not_handle_leaves_no_rank_behind(torchrun, deep):
    """It ends torchrun alone; the ranks notice that their parent is gone."""
    run = torchrun("run", "deep.toml", "-s", "train.epochs=100000", "-s", "train.pause=0.02")
    run.until("] step 10").child.send_signal(signal.SIGUSR1)
    assert run.end() == -signal.SIGUSR1
    limit = time.monotonic() + 60
    while the_run(deep).status != "interrupted":
        assert time.monotonic() < limit, run.lines
        time.sleep(0.02)
    assert run.of(0, "step")[-1] == run.of(1, "step")[-1]
    info = CheckpointStore(the_run(deep).path / "checkpoints").latest()
    assert (info.kind, info.world_size) == ("signal", 2)
    assert [len(run.of(rank, "cleanup")) for rank in range(2)] == [1, 1]


@needs_gloo
@torture
def test_torchrun_blames_the_rank_that_failed_first(torchrun, deep):
    run = torchrun("run", "deep.toml", FAILS="1")
    assert run.end() == 1
    root = next(i for i, line in enumerate(run.lines) if line.startswith("Root Cause"))
    assert any("ValueError: no card here" in line for line in run.lines[root:]), run.lines


@needs_gloo
@torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("step", [0, 5, 6, 7, 12, 19])
def test_killed_at_any_step(step, rank, gloo, deep):
    alone = gloo("run", "deep.toml")
    assert alone.end() == [0, 0], alone.lines
    assert -9 in gloo("run", "deep.toml", KILL=f"{rank}:{step}").end()
    resumed = gloo("resume", "latest")
    assert resumed.end() == [0, 0], resumed.lines
    same_end(deep, resumed, alone)


def test_a_stop_names_its_signal():
    from ridgepole.pipeline.distributed.failure import signal_of, stop_of

    assert signal_of(stop_of("SIGINT")) == "SIGINT"
    assert not isinstance(stop_of("SIGINT"), StopRequested)
    assert stop_of("SIGUSR1").exit_code == 75
