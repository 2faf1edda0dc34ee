"""`fork`: a new run with the states of another one; and a resume from a chosen checkpoint."""

import json
import random
import shutil

import pytest

from ridgepole import (
    CheckpointError,
    ConfigError,
    Permanence,
    Pipeline,
    PipelineProcess,
    ResumableLoader,
    process,
    read_metrics,
    track,
)
from ridgepole.checkpoint import CheckpointStore
from ridgepole.errors import RunDirError
from ridgepole.permanences import BaseLoggerManager, BasicLogger
from ridgepole.rundir import list_runs, read_run
from ridgepole.runs.compare import compare
from ridgepole.runs.row import read_row


class Net(Permanence):
    """Learns a number; its state brings back the rate, as an optimiser's does."""

    def __init__(self, lr: float = 0.5, width: int = 2) -> None:
        self.lr, self.weights = lr, [0.0] * width

    def state_dict(self):
        return {"lr": self.lr, "weights": list(self.weights)}

    def load_state_dict(self, state):
        if len(state["weights"]) != len(self.weights):
            raise ValueError("another number of weights")
        self.lr, self.weights = state["lr"], list(state["weights"])

    def on_change(self, old, new):
        self.lr = new.get("lr", self.lr)

    def cleanup(self):
        self.weights = []

    def step(self):
        self.weights = [weight + self.lr * random.random() for weight in self.weights]
        return sum(self.weights)


@process
def prepare(size: int = 1) -> None:
    pass


@process
def by_epoch(net: Net, logger: BaseLoggerManager, epochs: int = 2) -> None:
    for _ in track(range(epochs), tick=True):
        for _ in range(3):
            logger.log_metrics({"loss": net.step()})


@process
def by_loader(net: Net, logger: BaseLoggerManager, epochs: int = 2) -> None:
    for _ in track(ResumableLoader(list(range(6)), batch_size=2, epochs=epochs), tick=True):
        logger.log_metrics({"loss": net.step()})


class ByItself(PipelineProcess):
    """Keeps its own position."""

    def __init__(self, net: Net, logger: BaseLoggerManager, epochs: int = 2) -> None:
        self.net, self.logger, self.epochs, self.epoch = net, logger, epochs, 0

    def execute(self):
        while self.epoch < self.epochs:
            for _ in range(3):
                self.logger.log_metrics({"loss": self.net.step()})
            self.epoch += 1
            self.controller.tick()

    def state_dict(self):
        return {"epoch": self.epoch}

    def load_state_dict(self, state):
        self.epoch = state["epoch"]


def pipeline(train=by_epoch, *, net=None, checkpoint=None, size=1, **parameters):
    settings = {"seed": 3, "progress": False, "checkpoint": {"every_steps": 1, "keep_last": 9} | (checkpoint or {})}
    built = Pipeline("forked", **settings).permanence("net", Net, **(net or {}))
    return built.process("prepare", prepare, size=size).process("train", train, **parameters)


def losses(result):
    frame = read_metrics(result.path)
    return list(zip(frame["step"].to_list(), frame["value"].to_list(), strict=True))


def files(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "owner.lock"}


@pytest.mark.parametrize("train", [by_epoch, by_loader, ByItself])
def test_more_epochs_of_a_finished_run_equal_a_run_of_as_many(train, tmp_path):
    whole = pipeline(train, epochs=4).run(tmp_path / "whole")
    short = pipeline(train, epochs=2).run(tmp_path / "runs")
    before = files(short.path)
    longer = pipeline(train, epochs=4).fork(root=tmp_path / "runs", name="longer")
    assert losses(longer) == losses(whole), "one line, with the steps of the parent before its own"
    assert len(losses(longer)) == 12
    assert files(short.path) == before, "the parent is as it was"
    fields = read_run(longer.path).fields
    assert fields["parent"]["run"] == short.id
    assert read_run(longer.path).labels.name == "longer"
    assert fields["attempt"] == 1
    (attempt,) = map(json.loads, (longer.path / "attempts.jsonl").read_text().splitlines()[:1])
    assert attempt["changes"] == {"processes.train.params.epochs": [[2], [4]]}
    assert longer.metrics["loss"]["count"] == 12


def test_another_rate_from_a_checkpoint_in_the_middle(tmp_path):
    parent = pipeline(epochs=4).run(tmp_path)
    at = next(path.name for path in sorted((parent.path / "checkpoints").iterdir()) if path.name.endswith("-step-2"))
    forked = pipeline(epochs=4, net={"lr": 0.0}).fork(parent.id, at, tmp_path)
    old, new = losses(parent), losses(forked)
    assert new[:6] == old[:6]
    assert {value for _, value in new[6:]} == {old[5][1]}, "nothing is learned with a rate of 0"
    assert [step for step, _ in new] == [step for step, _ in old]
    assert read_run(forked.path).fields["parent"] == {"run": parent.id, "checkpoint": at, "step": 2}


def test_a_record_outside_of_the_run_directory_keeps_all_of_the_parent(tmp_path):
    def logging(**parameters):
        return pipeline(**parameters).permanence("record", BasicLogger, log_dir=str(tmp_path / "logs"))

    parent = logging(epochs=4).run(tmp_path / "runs")
    before = read_metrics(tmp_path / "logs")
    logging(epochs=4, net={"lr": 0.25}).fork(parent.id, "4", tmp_path / "runs")
    after = read_metrics(tmp_path / "logs")
    assert after.filter(after["seq"] < len(before)).to_dicts() == before.to_dicts()
    assert len(after) == len(before) + 6, "the fork adds to it"


def test_a_fork_that_fails_at_once_resumes_where_it_began(tmp_path):
    broken = []

    @process
    def train(net: Net, logger: BaseLoggerManager, epochs: int = 2) -> None:
        for _ in track(range(epochs), tick=True):
            if broken:
                raise broken.pop()
            for _ in range(1):
                logger.log_metrics({"loss": net.step()})

    whole = pipeline(train, epochs=4).run(tmp_path / "whole")
    pipeline(train, epochs=2).run(tmp_path / "runs")
    broken.append(ValueError("at once"))
    with pytest.raises(ValueError, match="at once"):
        pipeline(train, epochs=4).fork(root=tmp_path / "runs")
    (forked, parent) = list_runs(tmp_path / "runs")
    assert (forked.status, parent.status) == ("failed", "finished")
    resumed = pipeline(train, epochs=4).resume(forked.path)
    assert losses(resumed) == losses(whole)
    assert read_run(resumed.path).fields["parent"]["run"] == parent.id, "it stays a fork"
    again = pipeline(train, epochs=5).fork(resumed.path, root=tmp_path / "runs")
    assert losses(again)[:4] == losses(whole)
    assert len(losses(again)) == 5, "a fork can be forked"


@process
def report(net: Net, text: str = "") -> None:
    pass


def test_a_process_that_others_followed_gets_more_epochs(tmp_path):
    """The checkpoint at its end is kept, however many processes follow, and the fork finds it."""

    def make(text="", **train):
        built = pipeline(checkpoint={"keep_last": 2}, **train)
        return built.process("first", report).process("second", report, text=text).process("third", report)

    whole = make(epochs=4).run(tmp_path / "whole")
    parent = make(epochs=2).run(tmp_path)
    with pytest.raises(ConfigError, match="nothing is left to run") as caught:
        make(epochs=2).fork(parent.id, root=tmp_path)
    assert "-s train.epochs=4" in str(caught.value)
    assert f"ridgepole fork {parent.id}@NAME" in str(caught.value)
    longer = make(epochs=4).fork(parent.id, root=tmp_path)
    assert losses(longer) == losses(whole)
    assert read_run(longer.path).fields["parent"]["step"] == 2
    again = make("new", epochs=4).fork(longer.id, root=tmp_path)
    assert read_run(again.path).fields["parent"]["checkpoint"].endswith("-step-4")
    lines = map(json.loads, (again.path / "processes.jsonl").read_text().splitlines())
    assert [line["name"] for line in lines if line["status"] == "running"] == ["first", "second", "third"]


class Rated(Net):
    """Its state brings the rate back, and nothing applies a new one."""

    on_change = None


@process
def by_two(net: Rated, other: Rated, epochs: int = 1) -> None:
    for _ in track(range(epochs), tick=True):
        for each in (net, other):
            each.step()


def test_a_value_that_a_state_brought_back_is_the_one_in_tables_also_of_forks_of_forks(tmp_path):
    def make(epochs, **rates):
        built = Pipeline("rates", seed=3, progress=False, checkpoint={"every_steps": 1})
        for name in ("net", "other"):
            built.permanence(name, Rated, lr=rates.get(name, 0.5))
        return built.process("train", by_two, epochs=epochs)

    def rates(result):
        row = read_row(read_run(result.path))
        return [row.config[f"permanences.{name}.params.lr"] for name in ("net", "other")]

    first = make(1).run(tmp_path)
    second = make(2, net=0.1, other=0.2).fork(first.id, root=tmp_path)
    assert rates(second) == [0.5, 0.5]
    third = make(3, net=0.1, other=0.2).fork(second.id, root=tmp_path)
    assert rates(third) == [0.5, 0.5]
    fourth = make(4, net=0.1, other=0.9).fork(third.id, root=tmp_path)
    assert rates(fourth) == [0.5, 0.5]
    assert "permanences.other.lr: 0.5 is in use, not 0.9" in (fourth.path / "run.log").read_text()
    compared = compare([read_run(second.path), read_run(first.path)], everything=True)["config"]
    (value,) = (each for each in compared if each.key == "permanences.net.params.lr")
    assert list(value.values) == [0.5, 0.5]
    (fourth.path / "attempts.jsonl").write_text('{"attempt": 1, "changes": 7, "restored": "x"}\n')
    assert rates(fourth) == [0.1, 0.9], "a damaged line is left out"


@process
def bare() -> None:
    pass


@process
def other_type() -> None:
    pass


def test_a_process_that_changed_otherwise_begins_anew(tmp_path):
    """Another type, or a process that is new, counts as a change."""

    def make(*rest):
        built = pipeline(checkpoint={"keep_last": 9})
        for name, target in rest:
            built.process(name, target)
        return built

    def ran(result):
        lines = map(json.loads, (result.path / "processes.jsonl").read_text().splitlines())
        return [line["name"] for line in lines if line["status"] == "running"]

    parent = make(("b", bare)).run(tmp_path)
    assert ran(make(("b", other_type)).fork(parent.id, root=tmp_path)) == ["b"]
    extensible = pipeline(checkpoint={"keep_last": 9}).run(tmp_path)
    anew = pipeline(by_loader, checkpoint={"keep_last": 9}).fork(extensible.id, root=tmp_path)
    assert ran(anew) == ["train"]
    assert "no loop took up" not in (anew.path / "run.log").read_text(), "it begins before the loop of the other type"
    assert ran(make(("c", bare), ("b", bare)).fork(parent.id, root=tmp_path)) == ["c", "b"]
    assert ran(make(("c", bare)).fork(parent.id, root=tmp_path)) == ["c"]


@process
def by_extra(net: Net, epochs: int = 2, extra: int = 1) -> None:
    for _ in track(range(epochs), tick=True):
        for _ in range(extra):
            net.step()


def test_a_fork_that_adds_nothing_says_so(tmp_path):
    def make(**parameters):
        built = Pipeline("same", seed=3, progress=False, checkpoint=True).permanence("net", Net)
        return built.process("train", by_extra, **parameters)

    parent = make().run(tmp_path)
    told = "the process had ended, and what has changed gave it nothing more to do"
    same = make(extra=2).fork(parent.id, root=tmp_path)
    assert told in (same.path / "run.log").read_text()
    more = make(epochs=3).fork(parent.id, root=tmp_path)
    assert told not in (more.path / "run.log").read_text()
    with pytest.raises(ValueError, match=r"2 items of the loop were done already, and range\(0, 1\) has only 1"):
        make(epochs=1).fork(parent.id, root=tmp_path)


def test_forks_between_processes_and_runs_of_older_versions_can_be_extended(tmp_path):
    def make(text="", **train):
        return pipeline(checkpoint={"keep_last": 2}, **train).process("report", report, text=text)

    parent = make(epochs=2).run(tmp_path)
    between = make("new", epochs=2).fork(parent.id, root=tmp_path)
    assert len(losses(make("new", epochs=3).fork(between.id, root=tmp_path))) == 9
    store = CheckpointStore(parent.path / "checkpoints", keep_last=9)
    for info in store.list():  # as version 0.2.0 stored them
        meta = {key: value for key, value in info.meta.items() if key != "ended"}
        state = store.load(info.name).state
        shutil.rmtree(info.path)
        store.save(state, step=info.step, kind=info.kind, meta=meta)
    assert len(losses(make(epochs=4).fork(parent.id, root=tmp_path))) == 12


def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path):
    parent = pipeline(epochs=2).run(tmp_path)
    names = [path.name for path in sorted((parent.path / "checkpoints").iterdir()) if path.is_dir()]

    def refused(error, match, pipe=None, which="latest", run=parent.id):
        with pytest.raises(error, match=match):
            (pipe or pipeline(epochs=4)).fork(run, which, tmp_path)

    refused(CheckpointError, "no checkpoint '000099'.*there are", which="000099")
    refused(RunDirError, "no run 'nope'", run="nope")
    refused(ConfigError, "nothing is left to run", pipeline(epochs=2))
    refused(ConfigError, "prepare.params.size does not fit.*was done by then", pipeline(epochs=4, size=2))
    refused(ConfigError, "'prepare' was done", Pipeline("x", progress=False).process("other", prepare))
    damaged = parent.path / "checkpoints" / names[-1] / "state.json"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    refused(CheckpointError, "damaged|size|bytes|hash")
    assert len(list(list_runs(tmp_path))) == 1, "no directory is left"


def test_a_state_that_does_not_fit_the_change_names_the_permanence_and_the_change(tmp_path):
    pipeline(epochs=2).run(tmp_path)
    with pytest.raises(ValueError, match="another number of weights") as caught:
        pipeline(epochs=4, net={"width": 3}).fork(root=tmp_path)
    notes = " ".join(caught.value.__notes__)
    assert "permanence 'net'" in notes
    assert "width: 2 -> 3" in notes


def test_a_run_that_is_running_is_not_forked(tmp_path):
    @process
    def train(controller, epochs: int = 1) -> None:
        if epochs == 1:
            with pytest.raises(RunDirError, match=r"is running .*fork it when it has ended"):
                pipeline(train, epochs=2).fork(controller.run_dir, root=tmp_path)

    pipeline(train).run(tmp_path)
    assert len(list(list_runs(tmp_path))) == 1


def test_resume_from_a_checkpoint_hides_what_follows(tmp_path):
    broken = []

    @process
    def train(net: Net, logger: BaseLoggerManager, epochs: int = 4) -> None:
        for epoch in track(range(epochs), tick=True):
            if broken and epoch == 3:
                raise broken.pop()
            for _ in range(1):
                logger.log_metrics({"loss": net.step()})

    whole = pipeline(train).run(tmp_path / "whole")
    broken += [ValueError("second"), ValueError("first")]
    with pytest.raises(ValueError, match="first"):
        pipeline(train).run(tmp_path)
    (run,) = list_runs(tmp_path)
    kept = sorted(path.name for path in (run.path / "checkpoints").iterdir() if path.is_dir())
    at = next(name for name in kept if name.endswith("-step-1"))
    with pytest.raises(ValueError, match="second"), pytest.warns(UserWarning, match="put aside"):
        pipeline(train).resume(run.path, checkpoint=at)
    assert losses(run)[:3] == losses(whole)[:3]
    assert len(losses(run)) == 3, "what the first attempt had logged after it is hidden"
    undone = {path.name for path in (run.path / "checkpoints").glob(".undone-*")}
    assert undone == {f".undone-{name}" for name in kept if name > at}
    assert losses(pipeline(train).resume(run.path)) == losses(whole), "the newest is one of the second attempt"
    with pytest.raises(RunDirError, match=r"has finished.*ridgepole fork"):
        pipeline(train).resume(run.path, checkpoint=at)


TOML = """
[pipeline]
package = "forked"
progress = false

[processes.train]
type = "train"
"""
FORKED = """
from ridgepole import process, track
from ridgepole.permanences import BaseLoggerManager

@process
def train(logger: BaseLoggerManager, epochs: int = 2) -> None:
    for epoch in track(range(epochs), tick=True):
        for batch in range(1):
            logger.log_metrics({"loss": 1 / (epoch + 1)})
"""


def test_the_command_line_forks_and_shows_where_a_run_comes_from(tmp_path, ridgepole):
    (tmp_path / "forked.py").write_text(FORKED)
    (tmp_path / "forked.toml").write_text(TOML)
    assert ridgepole("run", "forked.toml").returncode == 0
    (parent,) = list_runs(tmp_path / "runs")
    again = ridgepole("resume", parent.id)
    assert f"ridgepole fork {parent.id} -s KEY=VALUE" in again.stderr
    listed = ridgepole("checkpoints", "ls", parent.id).stdout
    assert "before train" in listed
    assert "after train" in listed
    done = ridgepole("fork", f"{parent.id}@latest", "epochs=5", "--tag", "more")
    assert done.returncode == 0, done.stderr
    assert f"forks run {parent.id} at 0000" in done.stderr
    assert "processes.train.params.epochs: 2 -> 5" in done.stderr
    shown = ridgepole("runs", "show", "latest").stdout
    assert f"parent    {parent.id} at 0000" in shown
    assert "processes.train.params.epochs: 2 -> 5" in shown
    assert "more" in shown
    (forked, _) = list_runs(tmp_path / "runs")
    assert len(losses(forked)) == 5
    for arguments, code, told in [
        (("fork", parent.id), 2, "nothing is left to run"),
        (("fork", f"{parent.id}@7"), 1, "no checkpoint '7'"),
        (("fork", "nope"), 2, "no run 'nope'"),
        (("resume", parent.id, "--from", "7"), 2, "ridgepole fork"),
    ]:
        refused = ridgepole(*arguments)
        assert told in refused.stderr
        assert refused.returncode == code, refused.stderr
