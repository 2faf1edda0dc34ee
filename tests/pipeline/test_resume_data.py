"""Loops over torchdata's loaders, torch's DataLoader and iterables with a state: resumed to the item."""

import os
import random
import signal
import socket

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader

from ridgepole import Permanence, Pipeline, PipelineProcess, ResumableLoader, track
from ridgepole.checkpoint import CheckpointStore
from ridgepole.errors import ConfigError
from ridgepole.rundir import list_runs, read_run

pytestmark = pytest.mark.filterwarnings("ignore:.set_vital. is deprecated")  # torchdata 0.11 calls it


class DeathError(Exception):
    """In the place of whatever ends an attempt."""


class Numbers:
    """A data set that counts what is loaded from it, and draws a random number with each item."""

    loaded: list = []  # noqa: RUF012

    def __init__(self, length=40):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        Numbers.loaded.append(index)
        return torch.tensor([index, torch.rand(()).item(), random.random()])


class Plain(Numbers):
    """The same without randomness, for workers."""

    def __getitem__(self, index):
        return torch.tensor([float(index)])


class Stream:
    """An iterable of the user's own."""

    def __init__(self, length=20):
        self.at, self.length = 0, length

    def __iter__(self):
        while self.at < self.length:
            self.at += 1
            yield torch.tensor([float(self.at)])

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class TorchStream(Stream, IterableDataset):
    pass


class Unstorable(Stream):
    def state_dict(self):
        return {"at": self.at, "nested": {"file": open}}


class Failing(Stream):
    def state_dict(self):
        raise NotImplementedError("not with these shards")


class Reverse(Sampler):
    def __init__(self, length):
        self.length = length

    def __iter__(self):
        return iter(range(self.length - 1, -1, -1))

    def __len__(self):
        return self.length


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


SOURCES = {
    "in turn": lambda: DataLoader(Numbers(), batch_size=2),
    "shuffled by the run's generator": lambda: DataLoader(Numbers(), batch_size=2, shuffle=True),
    "shuffled by its own generator": lambda: DataLoader(Numbers(), batch_size=2, shuffle=True, generator=seeded()),
    "not batched": lambda: DataLoader(Numbers(20), batch_size=None, shuffle=True),
    "with replacement": lambda: DataLoader(
        Numbers(), batch_size=2, sampler=RandomSampler(range(40), replacement=True, num_samples=40)
    ),
    "weighted": lambda: DataLoader(Numbers(), batch_size=2, sampler=WeightedRandomSampler([1.0, 2.0] * 20, 40)),
    "a subset": lambda: DataLoader(Numbers(), 2, sampler=SubsetRandomSampler(range(40), generator=seeded())),
    "a list as sampler": lambda: DataLoader(Numbers(), batch_size=2, sampler=list(range(39, -1, -1))),
    "a batch sampler": lambda: DataLoader(Numbers(), batch_sampler=BatchSampler(RandomSampler(range(40)), 2, False)),
    "lists as batch sampler": lambda: DataLoader(Numbers(), batch_sampler=[[n, n + 1] for n in range(0, 40, 2)]),
    "a share of a rank": lambda: DataLoader(
        Numbers(80), batch_size=2, sampler=DistributedSampler(range(80), num_replicas=2, rank=1, seed=3)
    ),
    "forked workers": lambda: DataLoader(Plain(), batch_size=2, shuffle=True, num_workers=2),
    "workers that persist": lambda: DataLoader(Plain(), 2, shuffle=True, num_workers=1, persistent_workers=True),
    "torchdata": lambda: StatefulDataLoader(Numbers(), batch_size=2, shuffle=True),
    "torchdata with workers": lambda: StatefulDataLoader(Plain(), batch_size=2, shuffle=True, num_workers=2),
    "torchdata over a stream": lambda: StatefulDataLoader(TorchStream(40), batch_size=2),
    "an iterable of one's own": Stream,
    "a stream in a DataLoader": lambda: DataLoader(TorchStream(40), batch_size=2),
    "resumable": lambda: ResumableLoader(Numbers(), 2),
}
"""Each has 20 batches."""


@pytest.fixture(autouse=True)
def _nothing_dies():
    Weights.dies_at = -1


class Weights(Permanence):
    """Each batch is learnt exactly once; `dies_at` is the number of batches after which an attempt dies."""

    dies_at = -1
    make = None

    def __init__(self):
        self.learnt = []

    def learn(self, batch):
        if len(self.learnt) == Weights.dies_at:
            Weights.dies_at = -1
            raise DeathError
        self.learnt.append([batch.tolist(), torch.rand(()).item(), random.random()])

    def state_dict(self):
        return {"learnt": list(self.learnt)}

    def load_state_dict(self, state):
        self.learnt = list(state["learnt"])

    def cleanup(self):
        pass


class Flat(PipelineProcess):
    def __init__(self, weights: Weights):
        self.weights = weights

    def execute(self):
        for batch in track(Weights.make(), "train", tick=True):
            self.weights.learn(batch)


class Epochs(Flat):
    """A loop over each epoch, inside of a loop of its own."""

    epoch = 0

    def state_dict(self):
        return {"epoch": self.epoch}

    def load_state_dict(self, state):
        self.epoch = state["epoch"]

    def execute(self):
        source = Weights.make()
        while self.epoch < 3:
            for batch in track(source, "train", tick=True):
                self.weights.learn(batch)
            self.epoch += 1


def pipeline(cls, **checkpoint):
    policy = {"every_steps": 3} | checkpoint
    made = Pipeline("data", progress=False, seed=3, checkpoint=policy).permanence("weights", Weights)
    return made.process("train", cls)


def learnt(root):
    (run,) = list_runs(root)
    return CheckpointStore(run.path / "checkpoints").load().state["permanences"]["weights"]["learnt"]


def killed(cls, root, at, **checkpoint):
    Weights.dies_at = at
    with pytest.raises(DeathError):
        pipeline(cls, **checkpoint).run(root)


def items(rows):
    return [row[0] for row in rows]


def firsts(rows):
    """The first number of each batch, without what was drawn."""
    return [batch[0][0] if isinstance(batch[0], list) else batch[0] for batch in items(rows)]


def log(root):
    (run,) = list_runs(root)
    return (run.path / "run.log").read_text()


@pytest.mark.parametrize("name", SOURCES)
def test_a_loop_is_resumed_with_the_next_batch_and_the_same_random_numbers(name, tmp_path):
    Weights.make = SOURCES[name]
    pipeline(Flat).run(tmp_path / "whole")
    whole = learnt(tmp_path / "whole")
    assert len(whole) == 20
    for at in (1, 7, 19) if name == "shuffled by the run's generator" else (7,):
        root = tmp_path / str(at)
        killed(Flat, root, at)
        Numbers.loaded = []
        pipeline(Flat).resume(root=root)
        assert learnt(root) == whole
        assert f"step {at - at % 3}" in log(root).split("attempt 2 resumes from ")[1]
        per_batch = 1 if name == "not batched" else 2
        if Numbers.loaded:
            assert len(Numbers.loaded) == (20 - (at - at % 3)) * per_batch, "nothing is loaded to be skipped"


@pytest.mark.parametrize(
    "name",
    [
        "shuffled by the run's generator",
        "shuffled by its own generator",
        "weighted",
        "workers that persist",
        "torchdata",
    ],
)
def test_a_later_epoch_is_resumed_in_its_middle(name, tmp_path):
    Weights.make = SOURCES[name]
    pipeline(Epochs, every_steps=9).run(tmp_path / "whole")
    whole = learnt(tmp_path / "whole")
    assert len(whole) == 60
    killed(Epochs, tmp_path / "cut", 29, every_steps=9)
    Weights.dies_at = 37
    with pytest.raises(DeathError):
        pipeline(Epochs, every_steps=9).resume(root=tmp_path / "cut")
    pipeline(Epochs, every_steps=9).resume(root=tmp_path / "cut")
    assert learnt(tmp_path / "cut") == whole


def test_an_iterable_that_is_exhausted_ends_at_once(tmp_path):
    for number, make in enumerate((Stream, SOURCES["torchdata"], SOURCES["in turn"])):
        Weights.make = make

        class Behind(Flat):
            def execute(self):
                super().execute()
                self.weights.learn(torch.zeros(1))

        root = tmp_path / str(number)
        killed(Behind, root, 20, every_steps=1)
        pipeline(Behind, every_steps=1).resume(root=root)
        assert len(learnt(root)) == 21


REFUSED = {
    "a sampler of one's own": (
        lambda: DataLoader(Plain(), batch_size=2, sampler=Reverse(40)),
        "it loops over a DataLoader with a Reverse, whose order can't be replayed",
    ),
    "a stream without a state": (
        lambda: DataLoader(type("Words", (IterableDataset,), {"__iter__": lambda _self: iter(range(8))})()),
        "it loops over a DataLoader over Words, an iterable-style data set without state_dict and load_state_dict",
    ),
    "a stream with workers": (
        lambda: DataLoader(TorchStream(8), num_workers=1),
        (
            "it loops over a DataLoader over TorchStream, an iterable-style data set whose position its workers keep: "
            "use num_workers=0 or torchdata's StatefulDataLoader"
        ),
    ),
    "a state that can't be stored": (
        Unstorable,
        (
            "its position can't be stored: Unstorable.state['nested']['file'] is a builtin_function_or_method, which a "
            "checkpoint can't store"
        ),
    ),
    "a state that fails": (Failing, "its position can't be stored: NotImplementedError: not with these shards"),
    "layers": (
        lambda: torch.nn.ModuleList([torch.nn.Linear(1, 1)] * 6),
        "it loops over a ModuleList, which has no position to store",
    ),
}


class Counts(Flat):
    def execute(self):
        for _ in track(Weights.make(), "train", tick=True):
            self.weights.learn(torch.zeros(1))


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_position_is_a_warning_that_says_why(name, tmp_path):
    Weights.make, reason = REFUSED[name]
    killed(Counts, tmp_path, 4)
    (warning,) = [line for line in log(tmp_path).splitlines() if "WARNING" in line and "a resume can't" in line]
    assert f"a resume can't continue train from this checkpoint, but goes back to its beginning: {reason}" in warning
    pipeline(Counts).resume(root=tmp_path)
    assert "attempt 2 resumes from 000001-step-0, step 0 (not from step 3" in log(tmp_path)


def test_an_unstorable_position_keeps_a_process_with_a_state_from_being_resumed_inside(tmp_path):
    Weights.make = Unstorable
    killed(Epochs, tmp_path, 4)
    assert "its position can't be stored" in log(tmp_path)
    pipeline(Epochs).resume(root=tmp_path)
    assert items(learnt(tmp_path))[:4] == [[1.0], [2.0], [3.0], [4.0]], "not the second half of the data alone"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DataLoader(Numbers(), batch_size=4), "batch_size was 2 and is 4"),
        (lambda: DataLoader(Numbers(30), batch_size=2), "dataset was 40 and is 30"),
        (lambda: DataLoader(Numbers(), batch_size=2, shuffle=True), "sampler was 'SequentialSampler' and is 'Random"),
    ],
)
def test_another_order_is_refused(make, words, tmp_path):
    Weights.make = SOURCES["in turn"]
    killed(Flat, tmp_path, 7)
    Weights.make = make
    with pytest.raises(ValueError, match="can't resume from the stored position, because the order would differ") as it:
        pipeline(Flat).resume(root=tmp_path)
    assert words in str(it.value)


def test_another_kind_of_source_is_told_of(tmp_path):
    Weights.make = SOURCES["in turn"]
    killed(Flat, tmp_path, 7)
    Weights.make = Stream
    pipeline(Flat).resume(root=tmp_path)
    assert "no loop took up the stored position" in log(tmp_path)


def test_the_number_of_workers_may_change(tmp_path):
    Weights.make = lambda: DataLoader(Plain(), batch_size=2, shuffle=True, num_workers=1)
    pipeline(Flat).run(tmp_path / "whole")
    killed(Flat, tmp_path / "cut", 7)
    Weights.make = lambda: DataLoader(Plain(), batch_size=2, shuffle=True)
    pipeline(Flat).resume(root=tmp_path / "cut")
    assert learnt(tmp_path / "cut") == learnt(tmp_path / "whole")


# --- bad batches


@pytest.mark.parametrize(
    "name", ["shuffled by its own generator", "not batched", "resumable", "torchdata", "an iterable of one's own"]
)
def test_batches_are_left_out_on_a_resume(name, tmp_path):
    Weights.make = SOURCES[name]
    pipeline(Flat).run(tmp_path / "whole")
    whole = learnt(tmp_path / "whole")
    killed(Flat, tmp_path / "cut", 7)
    Numbers.loaded = []
    pipeline(Flat).resume(root=tmp_path / "cut", skip_batches=["8:10, 13:14", "19:20"])
    kept = [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 14, 15, 16, 17, 18]
    every = firsts(whole)
    assert firsts(learnt(tmp_path / "cut")) == [every[number] for number in kept]
    if name not in ("torchdata", "not batched") and Numbers.loaded:
        assert len(Numbers.loaded) == 20, "bad batches are not even loaded"
    (run,) = list_runs(tmp_path / "cut")
    assert read_run(run.path).fields["skip_batches"] == [
        {"attempt": 2, "checkpoint": "000003-step-6", "ranges": ["8:10", "13:14", "19:20"]}
    ]
    assert "attempt 2 leaves out batches 8:10, 13:14, 19:20" in log(tmp_path / "cut")


@pytest.mark.parametrize("at", [8, 11])
def test_they_stay_left_out_after_another_kill(at, tmp_path):
    """Before the next checkpoint the run's record says so, after it the checkpoint does."""
    Weights.make = SOURCES["in turn"]
    pipeline(Flat).run(tmp_path / "whole")
    killed(Flat, tmp_path / "cut", 7)
    Weights.dies_at = at
    with pytest.raises(DeathError):
        pipeline(Flat).resume(root=tmp_path / "cut", skip_batches=["7:9", "15:17"])
    pipeline(Flat).resume(root=tmp_path / "cut")
    kept = [number for number in range(20) if number not in (7, 8, 15, 16)]
    assert firsts(learnt(tmp_path / "cut")) == [2.0 * number for number in kept]


def test_none_takes_them_back(tmp_path):
    Weights.make = SOURCES["in turn"]
    killed(Flat, tmp_path, 7)
    Weights.dies_at = 8
    with pytest.raises(DeathError):
        pipeline(Flat).resume(root=tmp_path, skip_batches=["7:9"])
    pipeline(Flat).resume(root=tmp_path, skip_batches=["none"])
    assert len(learnt(tmp_path)) == 20
    (run,) = list_runs(tmp_path)
    assert [each["ranges"] for each in read_run(run.path).fields["skip_batches"]] == [["7:9"], ["none"]]


def test_they_are_those_of_the_loop_that_continues_and_of_no_later_one(tmp_path):
    Weights.make = lambda: DataLoader(Plain(), batch_size=2)
    killed(Epochs, tmp_path, 25)
    pipeline(Epochs).resume(root=tmp_path, skip_batches=["10:15"])
    epoch = [2.0 * number for number in range(20)]
    assert firsts(learnt(tmp_path)) == [*epoch, *epoch[:10], *epoch[15:], *epoch]


def test_a_process_that_begins_again_leaves_them_out_of_its_first_loop(tmp_path):
    Weights.make = lambda: [torch.tensor([float(number)]) for number in range(6)]
    killed(Flat, tmp_path, 4)
    pipeline(Flat).resume(root=tmp_path, skip_batches=["0:1", "3:5"])
    assert items(learnt(tmp_path)) == [[1.0], [2.0], [5.0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("five", "'five' is not a range of batches: write FIRST:END, such as 120:130 for 120 to 129"),
        ("-1:4", "'-1:4' is not a range of batches"),
        ("8", "'8' is not a range of batches"),
        ("8:8", "the range 8:8 holds no batch: the end comes after the first; for batch 8 alone write 8:9"),
        ("9:7", "the range 9:7 holds no batch"),
        ("8:12,10:14", "the ranges 8:12 and 10:14 overlap: write them as one"),
        (
            "5:8",
            (
                "batches 5:8 can't be left out: the run continues with batch 6 of its loop; go back to a checkpoint "
                "before batch 5 with --from, or write 6:8"
            ),
        ),
        ("1:3", "batches 1:3 can't be left out"),
    ],
)
def test_wrong_ranges_are_refused_before_anything_runs(text, words, tmp_path):
    Weights.make = SOURCES["in turn"]
    killed(Flat, tmp_path, 7)
    (run,) = list_runs(tmp_path)
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(ConfigError) as it:
        pipeline(Flat).resume(root=tmp_path, skip_batches=[text])
    assert f"--skip-batches: {words}" in str(it.value)
    assert (run.path / "run.json").read_bytes() == before


def test_batches_that_the_loop_does_not_have_are_an_error_there(tmp_path):
    Weights.make = SOURCES["in turn"]
    killed(Flat, tmp_path, 7)
    with pytest.raises(ValueError, match="batches 18:30 can't be left out: the loop over a DataLoader has 20"):
        pipeline(Flat).resume(root=tmp_path, skip_batches=["18:30"])
    pipeline(Flat).resume(root=tmp_path, skip_batches=["18:20"])
    assert len(learnt(tmp_path)) == 18


# --- real kills

PROJECT = """
import os, signal
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader
from ridgepole import Permanence, process, track


class Seen(Permanence):
    state_ranks = "all"

    def __init__(self):
        self.batches = []

    def state_dict(self):
        return {"batches": list(self.batches)}

    def load_state_dict(self, state):
        self.batches = list(state["batches"])

    def cleanup(self):
        rank = os.environ.get("RANK", "0")
        with open(f"seen-{rank}.txt", "w") as file:
            print(*self.batches, sep="\\n", file=file)


@process
def train(seen: Seen) -> None:
    kind = {"torch": DataLoader, "torchdata": StatefulDataLoader}[os.environ["KIND"]]
    rank = int(os.environ.get("RANK", "0"))
    data = torch.arange(100 * rank, 100 * rank + 60)
    options = {"num_workers": 2, "multiprocessing_context": os.environ["START"]} if "START" in os.environ else {}
    loader = kind(data, batch_size=3, shuffle=True, **options)
    for number, batch in enumerate(track(loader, "train", tick=True)):
        if os.environ.get("KILL_AT") == f"{rank}:{number}":
            os.kill(os.getpid(), signal.SIGKILL)
        seen.batches.append([*batch.tolist(), torch.randint(9999, ()).item()])
"""

TOML = """
[pipeline]
package = "project"
seed = 3
progress = false
checkpoint = { every_steps = 4 }

[permanences.seen]
type = "Seen"

[processes.train]
type = "train"
"""


SLOW = [
    pytest.mark.torture,
    pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1"),
]


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("torch", None),
        ("torchdata", "fork"),
        pytest.param("torch", "fork", marks=SLOW),
        pytest.param("torch", "spawn", marks=SLOW),
        pytest.param("torchdata", None, marks=SLOW),
    ],
)
def test_a_killed_run_sees_every_batch_once_and_in_the_same_order(kind, start, command_server, tmp_path):
    given = {"KIND": kind, "PYTHONWARNINGS": "ignore"} | ({"START": start} if start else {})
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "project.py").write_text(PROJECT)
        (tmp_path / name / "project.toml").write_text(TOML)
    done = command_server.call("run", "project.toml", cwd=tmp_path / "whole", **given)
    assert done.returncode == 0, done.stderr
    here = tmp_path / "cut"
    done = command_server.call("run", "project.toml", cwd=here, KILL_AT="0:10", **given)
    assert done.returncode == -signal.SIGKILL, done.stderr
    done = command_server.call("resume", cwd=here, **given)
    assert done.returncode == 0, done.stderr
    assert "attempt 2 resumes from" in done.stderr
    assert "step 8" in done.stderr
    assert (here / "seen-0.txt").read_text() == (tmp_path / "whole" / "seen-0.txt").read_text()


def test_the_command_line_leaves_batches_out_and_names_what_is_wrong(command_server, tmp_path):
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "project.toml").write_text(TOML)
    assert command_server.call("run", "project.toml", cwd=tmp_path, KILL_AT="0:10", KIND="torch").returncode != 0
    for text, words in (("7:9", "the run continues with batch 8 of its loop"), ("x", "'x' is not a range of batches")):
        done = command_server.call("resume", "--skip-batches", text, cwd=tmp_path, KIND="torch")
        assert done.returncode == 2, done.stderr
        assert f"error: --skip-batches: {'batches 7:9 can' if text == '7:9' else ''}" in done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    done = command_server.call(
        "resume", "--skip-batches", "10:12", "--skip-batches", "15:16", cwd=tmp_path, KIND="torch"
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "seen-0.txt").read_text().splitlines()) == 17


def test_each_rank_resumes_with_its_own_position(command_server, tmp_path):
    """Two ranks, started by hand; each has data of its own, and one of them is killed."""
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "project.py").write_text(PROJECT)
        (tmp_path / name / "project.toml").write_text(TOML)

    def both(where, *arguments, **given):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        own = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RIDGEPOLE_JOIN_SECONDS": "60"}
        own |= {"KIND": "torchdata", "PYTHONWARNINGS": "ignore"}
        started = [
            command_server.start(*arguments, cwd=tmp_path / where, RANK=str(rank), **own, **given) for rank in range(2)
        ]
        return [each.wait(120) for each in started]

    assert both("whole", "run", "project.toml") == [0, 0]
    assert both("cut", "run", "project.toml", KILL_AT="1:10") != [0, 0]
    assert both("cut", "resume") == [0, 0]
    for rank in range(2):
        name = f"seen-{rank}.txt"
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()
