"""Losses that turn to NaN, or jump: what is told, and what happens then."""

import json
import random
from collections import deque

import pytest

from ridgepole import GuardError, Permanence, Pipeline, process, read_metrics, rundir, track
from ridgepole.checkpoint import CheckpointStore
from ridgepole.permanences import BaseLoggerManager
from ridgepole.pipeline.lifecycle import guarding
from ridgepole.watch.guard import MetricGuard
from ridgepole.watch.policy import Nan, Spike

DRAWN: dict[int, list[float]] = {}


class Batches:
    """Batches that can be resumed, as a `ResumableLoader` does."""

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
    def __init__(self):
        self.value = 1.0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]

    def cleanup(self):
        pass


@process
def descend(weight: Weight, logger: BaseLoggerManager, lr: float = 0.1, steps: int = 30):
    """Descend on a quartic: with a high rate it overflows to infinity, and then to NaN."""
    for _ in track(range(steps), "train", tick=True):
        logger.log_metrics({"loss": weight.value * weight.value, "lr": lr})
        try:
            weight.value -= lr * 4 * weight.value**3
        except OverflowError:
            weight.value = float("nan")


@process
def learn(weight: Weight, logger: BaseLoggerManager, bad: tuple[int, ...] = (), forgets: bool = False):
    """Turn to NaN at bad batches, and stay so; `forgets` only the first time."""
    for batch in track(Batches(30), "train", tick=True):
        DRAWN.setdefault(batch, []).append(random.random())
        if batch in bad and not (forgets and len(DRAWN[batch]) > 1):
            weight.value = float("nan")
        logger.log_metrics({"loss": weight.value, "batch": batch})


@pytest.fixture(autouse=True)
def _look_at_each_step(monkeypatch):
    monkeypatch.setattr(guarding, "PERIOD", 0.0)
    DRAWN.clear()


def pipeline(target, guard, checkpoint=None, **params):
    made = Pipeline(
        "guarded",
        progress=False,
        seed=1,
        guard=guard,
        checkpoint={"every_steps": 4} if checkpoint is None else checkpoint,
    )
    return made.permanence("weight", Weight).process("train", target, **params)


def only_run(root):
    (run,) = [path for path in root.iterdir() if not path.name.startswith(".")]
    return run


def alerts(run):
    path = run / rundir.ALERTS
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def test_a_too_high_learning_rate_is_told_with_its_first_step(tmp_path):
    run = pipeline(descend, True, lr=2.0).run(tmp_path).path
    (alert,) = alerts(run)
    losses = read_metrics(run).filter(name="loss").sort("step")["value"].to_list()
    first = next(step for step, loss in enumerate(losses) if loss is None or loss - loss != 0.0)
    assert (alert["kind"], alert["level"]) == ("nan", "warning")
    assert alert["title"] == f"loss is not finite since step {first}"
    assert "lr = 2.0" in alert["text"]
    assert alert["title"] in (run / rundir.RUN_LOG).read_text("utf-8")


def test_a_sound_run_is_not_told_of(tmp_path):
    assert alerts(pipeline(descend, True, lr=0.1).run(tmp_path).path) == []


def test_off_is_off(tmp_path):
    assert alerts(pipeline(descend, {"nan": False, "spike": False}, lr=2.0).run(tmp_path / "a").path) == []
    assert alerts(pipeline(descend, False, lr=2.0).run(tmp_path / "b").path) == []


def test_stop_ends_the_run_as_failed(tmp_path):
    with pytest.raises(GuardError, match="loss is not finite since step"):
        pipeline(descend, {"nan": {"action": "stop", "count": 2}}, lr=2.0).run(tmp_path)
    run = rundir.read_run(only_run(tmp_path))
    assert run.status == "failed"
    assert run.fields["error"]["type"] == "GuardError"
    assert [alert["level"] for alert in alerts(run.path)] == ["error"]


def test_checkpoint_takes_one(tmp_path):
    keeps = {"keep_last": 5}
    run = pipeline(descend, {"nan": {"action": "checkpoint"}}, keeps, lr=2.0).run(tmp_path).path
    assert "guard" in [info.kind for info in CheckpointStore(run / rundir.CHECKPOINTS).list()]


class NoCheckpoint(Weight):
    def checkpoint(self):
        if self.value != self.value:
            raise OSError("no room for this permanence")


@pytest.mark.parametrize("ended", [False, True])
def test_a_checkpoint_of_the_guard_that_fails_is_said_and_the_run_goes_on(tmp_path, ended):
    made = Pipeline(
        "guarded",
        progress=False,
        guard={"nan": {"action": "checkpoint", "count": 1}},
        checkpoint={"after_process": False},
    )
    run = made.permanence("weight", NoCheckpoint).process("train", learn, bad=[29 if ended else 10]).run(tmp_path)
    assert rundir.read_run(run.path).status == "finished"
    said = "the checkpoint of the guard was not taken: OSError: no room for this permanence"
    assert said in (run.path / rundir.RUN_LOG).read_text("utf-8")
    assert len(alerts(run.path)) == 1


def test_rollback_leaves_out_the_bad_batches(tmp_path):
    guard = {"nan": {"action": "rollback", "count": 2}}
    run = pipeline(learn, guard, bad=[10], checkpoint={"every_steps": 4, "keep_last": 5}).run(tmp_path).path
    assert rundir.read_run(run).status == "finished"
    (alert,) = alerts(run)
    assert alert["title"] == "loss is not finite since step 10"
    frame = read_metrics(run)
    batches = [int(value) for value in frame.filter(name="batch").sort("step")["value"]]
    assert batches == [*range(8), *range(12, 30)], "back to the checkpoint of step 8, and behind the batches since"
    assert all(value == 1.0 for value in frame.filter(name="loss")["value"])
    log = (run / rundir.RUN_LOG).read_text("utf-8")
    assert "train goes back to" in log
    assert "step 8, and leaves out 4 batches" in log


def test_rollback_draws_other_numbers(tmp_path):
    guard = {"nan": {"action": "rollback", "count": 2, "then": "reseed"}}
    run = pipeline(learn, guard, bad=[10], forgets=True).run(tmp_path).path
    assert rundir.read_run(run).status == "finished"
    batches = [int(value) for value in read_metrics(run).filter(name="batch").sort("step")["value"]]
    assert batches == list(range(30)), "no batch is left out"
    again = {batch: numbers for batch, numbers in DRAWN.items() if len(numbers) > 1}
    assert set(again) == {8, 9, 10, 11}
    assert all(first != second for first, second in again.values())


def test_rollback_ends_after_some_attempts(tmp_path):
    guard = {"nan": {"action": "rollback", "count": 1, "rollbacks": 2, "then": "reseed"}}
    with pytest.raises(GuardError, match="rolled back 2 times already"):
        pipeline(learn, guard, bad=[10]).run(tmp_path)
    run = only_run(tmp_path)
    steps = [info.step for info in CheckpointStore(run / rundir.CHECKPOINTS).list()]
    assert max(steps) <= 10, "no checkpoint after the fault is left, from which a resume would continue"


def test_rollback_without_a_checkpoint_stops(tmp_path):
    with pytest.raises(GuardError, match="no checkpoint before it can be resumed from"):
        pipeline(learn, {"nan": {"action": "rollback"}}, bad=[10], checkpoint=False).run(tmp_path)


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        ({"stall": {"action": "rollback"}}, "guard.stall.action should be 'warn' or 'stop', not 'rollback'"),
        ({"nan": {"action": "panic"}}, "guard.nan.action should be 'warn', 'checkpoint', 'stop' or 'rollback'"),
        ({"nan": {"cuont": 2}}, "guard.nan has no key 'cuont'"),
        ({"spikes": True}, "guard has no key 'spikes'"),
        ({"nan": 3}, "guard.nan must be a table, true or false, not 3"),
        ({"stall": {"seconds": 0}}, "guard.stall.seconds should be greater than 0"),
        ("on", "guard must be a table, true or false, not 'on'"),
    ],
)
def test_what_a_guard_cannot_be_is_located(guard, words):
    problems = pipeline(descend, guard).check()
    assert any(words in problem.message for problem in problems), [problem.message for problem in problems]


class Logged:
    """Metrics of a run, as a guard sees them."""

    def __init__(self):
        self.entries = {}

    def metric_names(self):
        return list(self.entries)

    def tally(self, name):
        values = self.entries[name]
        return len(values), sum(value - value != 0 for value in values), values[-1]

    def add(self, guard, step, **values):
        for name, value in values.items():
            self.entries.setdefault(name, deque()).append(value)
        return guard.look(self, step)


def test_only_values_in_a_row_count(tmp_path):
    guard, logged = MetricGuard(Nan(count=3), None, "score", tmp_path), Logged()
    nan = float("nan")
    found = [logged.add(guard, step, loss=value) for step, value in enumerate([1, nan, nan, 1, nan, nan, nan, nan])]
    assert [each is not None for each in found] == [False] * 6 + [True, False]
    assert found[6].clean == 3
    assert [logged.add(guard, 8 + step, auc=nan) for step in range(4)] == [None] * 4, "not a loss"
    assert [logged.add(guard, 12 + step, score=nan) is None for step in range(3)] == [True, True, False], "it ranks"


def test_a_jump_is_told_once_and_noise_is_not(tmp_path):
    guard, logged, draw = MetricGuard(None, Spike(), None, tmp_path), Logged(), random.Random(3)
    told = [logged.add(guard, step, loss=2 + draw.gauss(0, 0.1)) for step in range(500)]
    assert told == [None] * 500
    found = logged.add(guard, 500, loss=50.0)
    assert found.title == "loss jumps to 50 at step 500"
    assert [logged.add(guard, 501 + step, loss=50.0) for step in range(50)] == [None] * 50
    constant, same = MetricGuard(None, Spike(), None, tmp_path), Logged()
    assert [same.add(constant, step, loss=1.0 + step * 1e-9) for step in range(100)] == [None] * 100
