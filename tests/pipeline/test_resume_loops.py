"""Loops over what has no position: what is said about them, and where a resume goes back to."""

import random
import signal
from pathlib import Path

import pytest
import torch
from steps_project import STEPS, TOML, Place, store
from torch.utils.data import DataLoader, Sampler

from ridgepole import Permanence, Pipeline, PipelineProcess, ResumableLoader, process, track
from ridgepole.checkpoint import CheckpointStore
from ridgepole.pipeline.spec.lint import resume_notes
from ridgepole.rundir import list_runs


class DeathError(Exception):
    """In the place of whatever ends an attempt."""


class Weights(Permanence):
    """Each item is learnt exactly once; `dies_at` is the number of items after which an attempt dies."""

    seen: list = []  # noqa: RUF012
    dies_at = -1

    def __init__(self):
        self.learnt = []

    def learn(self, *what):
        if len(self.learnt) == Weights.dies_at:
            Weights.dies_at = -1
            raise DeathError
        self.learnt.append([*what, torch.rand(()).item(), random.random()])
        Weights.seen.append(what)

    def state_dict(self):
        return {"learnt": [list(row) for row in self.learnt]}

    def load_state_dict(self, state):
        self.learnt = [list(row) for row in state["learnt"]]

    def cleanup(self):
        pass


class Descending(Sampler):
    """A sampler of which nobody knows whether it draws the same again."""


def loader():
    return DataLoader(torch.arange(8), batch_size=2, shuffle=True)


class Epochs(PipelineProcess):
    def __init__(self, weights: Weights, epochs: int = 3):
        self.weights, self.epochs = weights, epochs


class TicksInside(Epochs):
    def execute(self):
        batches = loader()
        for epoch in track(range(self.epochs), "epochs", tick=True):
            for batch in track(batches, "train", tick=True):
                self.weights.learn(epoch, *batch.tolist())


class TicksPerEpoch(Epochs):
    def execute(self):
        weights, batches = self.weights, loader()
        for epoch in track(range(self.epochs), "epochs", tick=True):
            for batch in batches:
                weights.learn(epoch, *batch.tolist())


class Resumables(Epochs):
    """A loader for each epoch: inside one there is no way back, between two there is."""

    def execute(self):
        for epoch in track(range(self.epochs), "epochs", tick=True):
            for batch in track(ResumableLoader(list(range(8)), 2, seed=epoch), "train", tick=True):
                self.weights.learn(epoch, *batch.tolist())


class Carries(Epochs):
    """An epoch leaves something to the next one, which a resume between them would lose."""

    def execute(self):
        total = 0
        for epoch in track(range(self.epochs), "epochs", tick=True):
            for batch in track(loader(), "train", tick=True):
                total += 1
                self.weights.learn(epoch, total, *batch.tolist())


class OwnOptimiser(Epochs):
    """The process keeps an optimiser in a local variable; its state carries over between epochs."""

    def execute(self):
        parameter = torch.nn.Parameter(torch.ones(1))
        optimiser = torch.optim.Adam([parameter])
        for epoch in track(range(self.epochs), "epochs", tick=True):
            for batch in track(loader(), "train"):
                parameter.grad = torch.ones(1)
                optimiser.step()
                self.weights.learn(epoch, *batch.tolist())


class OnlyReads(Epochs):
    """Texts, paths and containers that are only read leave nothing to the next epoch."""

    def execute(self):
        names, text, place, epochs = ["a"], "{}", Path("x"), range(self.epochs)
        for epoch in track(epochs, "epochs", tick=True):
            for batch in track(loader(), "train"):
                assert names.index("a") == 0
                assert text.format(1) == "1"
                assert not place.exists()
                self.weights.learn(epoch, *batch.tolist())


class Sorts(Epochs):
    def execute(self):
        names = ["b", "a"]
        for epoch in track(range(self.epochs), "epochs", tick=True):
            for batch in track(loader(), "train"):
                names.sort()
                self.weights.learn(epoch, *batch.tolist())


class Counts(Epochs):
    def execute(self):
        for epoch in track(range(self.epochs), "epochs", tick=True):
            self.weights.learn(epoch)


class Flat(Epochs):
    def execute(self):
        for batch in track(list(loader()), "train", tick=True):
            self.weights.learn(0, *batch.tolist())


def pipeline(cls, **checkpoint):
    policy = {"every_steps": 1} | checkpoint
    made = Pipeline("loops", progress=False, seed=3, checkpoint=policy).permanence("weights", Weights)
    return made.process("train", cls)


def learnt(root):
    (run,) = list_runs(root)
    return CheckpointStore(run.path / "checkpoints").load().state["permanences"]["weights"]["learnt"]


def killed(cls, tmp_path, at, **checkpoint):
    Weights.seen, Weights.dies_at = [], at
    with pytest.raises(DeathError):
        pipeline(cls, **checkpoint).run(tmp_path)
    Weights.seen = []


BACK_TO = {
    OnlyReads: [0, 0, 4, 4, 8],
    TicksInside: [0, 0, 4, 4, 8],
    TicksPerEpoch: [0, 0, 4, 4, 8],
    Resumables: [0, 0, 4, 4, 8],
    Carries: [0] * 5,
}
"""How many items are kept of a run that died after 1, 3, 4, 6 and 11 of 12; an epoch has 4."""


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("cls", BACK_TO)
def test_the_end_of_an_epoch_is_a_place_to_return_to(cls, number, tmp_path):
    pipeline(cls).run(tmp_path / "whole")
    killed(cls, tmp_path / "cut", at=(1, 3, 4, 6, 11)[number])
    pipeline(cls).resume(root=tmp_path / "cut")
    assert len(Weights.seen) == 12 - BACK_TO[cls][number]
    assert learnt(tmp_path / "cut") == learnt(tmp_path / "whole"), "the same batches and the same random numbers"


def test_an_epoch_in_which_a_checkpoint_was_due_ends_with_one(tmp_path):
    """A policy by steps that never hits an end of an epoch still has one to return to."""
    killed(TicksInside, tmp_path, at=10, every_steps=3)
    (run,) = list_runs(tmp_path)
    kinds = [info.kind for info in store(run.path).list()]
    assert "epoch" in kinds
    pipeline(TicksInside, every_steps=3).resume(root=tmp_path)
    assert len(Weights.seen) == 4


def test_more_epochs_can_be_added(tmp_path):
    killed(TicksInside, tmp_path, at=6)
    made = Pipeline("loops", progress=False, seed=3, checkpoint={"every_steps": 1}).permanence("weights", Weights)
    made.process("train", TicksInside, epochs=4).resume(root=tmp_path, allow_change=["processes.train.params.epochs"])
    assert [what[0] for what in Weights.seen] == [1] * 4 + [2] * 4 + [3] * 4


@pytest.mark.parametrize(
    ("cls", "goal", "reason"),
    [
        (Flat, "its beginning", "it loops over a list, which has no position to store"),
        (OwnOptimiser, "its beginning", "its loop uses optimiser, which no checkpoint holds"),
        (TicksInside, "the end of its last epoch", "it is in the middle of an item of its outer loop"),
        (Resumables, "the end of its last epoch", "it is in the middle of an item of its outer loop"),
    ],
)
def test_the_first_checkpoint_that_cannot_be_resumed_from_says_so(cls, goal, reason, tmp_path):
    pipeline(cls).run(tmp_path)
    (run,) = list_runs(tmp_path)
    warnings = [line for line in (run.path / "run.log").read_text().splitlines() if "WARNING" in line]
    (warning,) = warnings
    assert f"a resume can't continue train from this checkpoint, but goes back to {goal}: {reason}" in warning


LISTS = STEPS.replace("while self.done < self.steps:", "for _ in track(list(range(self.steps)), tick=True):").replace(
    "            self.controller.tick()\n", ""
)
LISTS = LISTS[: LISTS.index('    def state_dict(self):\n        return {"done"')].replace(
    "from ridgepole import", "from ridgepole import track,"
)
LISTS = LISTS.replace("SIGKILL", "SIGTERM")


def test_a_stop_and_a_resume_say_what_is_done_again(command_server, tmp_path):
    made = Place(command_server, tmp_path)
    made.write(steps__toml=TOML, steps__py=LISTS)
    stopped = made.call("run", "steps.toml", KILL_AT="5")
    assert stopped.returncode == 143, stopped.stderr
    reason = "because of train: it loops over a list, which has no position to store"
    assert "a resume goes back to step 0: not from step " in stopped.stderr
    assert reason in stopped.stderr
    done = made.call("resume")
    assert done.returncode == 0, done.stderr
    assert "step 0\n" in done.stdout
    assert "attempt 2 resumes from 000002-step-0, step 0 (not from step " in done.stderr
    assert reason in done.stderr


def test_a_job_that_is_requeued_without_progress_is_stopped(command_server, tmp_path):
    made = Place(command_server, tmp_path)
    made.write(steps__toml=TOML, steps__py=LISTS)
    line = ("run", "steps.toml", "--resume")
    for at in (4, 5, 6):  # the first one has prepared
        assert made.call(*line, KILL_AT=str(at)).returncode == 143
    run = made.run
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "owner.lock"}
    done = made.call(*line, KILL_AT="5")
    assert done.returncode == 2
    assert f"runs/{run.name} makes no progress: its last two attempts began at step 0, came to step 6, 7" in done.stderr
    assert "stopped by SIGTERM with nothing to resume from; not from step " in done.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert made.call("resume", run.name).returncode == 0, "the user may insist"


def test_progress_ctrl_c_and_kills_are_no_reason_to_stop_a_job(command_server, tmp_path):
    for name, code, text in (
        ("progress", 143, STEPS.replace("SIGKILL", "SIGTERM")),
        ("interrupts", 130, LISTS.replace("SIGTERM", "SIGINT")),
        ("kills", -signal.SIGKILL, LISTS.replace("SIGTERM", "SIGKILL")),
    ):
        (tmp_path / name).mkdir()
        made = Place(command_server, tmp_path / name)
        made.write(steps__toml=TOML, steps__py=text)
        for at in (3, 5):
            assert made.call("run", "steps.toml", "--resume", KILL_AT=str(at)).returncode == code, name
        done = made.call("run", "steps.toml", "--resume")
        assert done.returncode == 0, done.stderr
        assert len(list(list_runs(made.path / "runs"))) == 1


def notes(cls):
    return [note.message for note in resume_notes(pipeline(cls).plan())]


@process
def without_a_loop(weights: Weights) -> None:
    weights.learn(1)


@process
def history(weights: Weights) -> None:
    losses, best = [], 9.0
    fresh = 0
    for batch in track(ResumableLoader([1, 2, 3]), "train", tick=True):
        fresh = batch.item()
        losses.append(fresh)
        if fresh < best:
            best = fresh


def test_check_names_the_line_of_the_loop():
    (note,) = notes(Flat)
    assert note.startswith("resume: train resumes inside the loop over list(loader()) in ")
    assert f"test_resume_loops.py:{Flat.execute.__code__.co_firstlineno + 1}:9 only if that is a Resumable" in note
    assert "or an iterable with state_dict and load_state_dict; otherwise it starts from its beginning" in note
    (note,) = notes(TicksInside)
    assert "resumes between two items of the loop over range(self.epochs) in " in note
    (note,) = notes(OnlyReads)
    assert "resumes between two items of the loop over epochs in " in note
    (note,) = notes(Sorts)
    assert "uses names, which no checkpoint holds" in note
    (note,) = notes(Counts)
    assert note.startswith("resume: train starts from its beginning: the loop over range(self.epochs) in ")
    assert "has no position to store; loop over batches inside it" in note

    class Known(Epochs):
        def execute(self):
            batches = DataLoader([1, 2])
            for batch in track(batches, tick=True):
                self.weights.learn(batch)

    (note,) = notes(Known)
    assert "resume: train resumes inside the loop over batches in " in note
    assert note.endswith(", a DataLoader, if its data set is map-style")

    class OfItsOwn(Epochs):
        def execute(self):
            batches = DataLoader([1, 2], sampler=Descending([1, 2]))
            for batch in track(batches, tick=True):
                self.weights.learn(batch)

    (note,) = notes(OfItsOwn)
    assert "can't resume inside the loop over batches in " in note
    assert "a DataLoader with Descending([1, 2])" in note
    assert notes(without_a_loop) == [], "a process without a loop has nothing to resume inside"


def test_check_names_what_a_resume_resets():
    (note,) = notes(Carries)
    assert "resume: train starts from its beginning: the loop over range(self.epochs) in " in note
    assert "uses total, which no checkpoint holds; keep it in a permanence" in note
    (note,) = notes(OwnOptimiser)
    assert "uses optimiser, which no checkpoint holds; keep it in a permanence" in note
    (_, note) = notes(history)
    assert "train keeps best, losses from one item" in note, "not what every item sets before it reads it"
