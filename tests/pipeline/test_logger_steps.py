"""The step of a logger in a run: metrics that are new in a step of the run do not move it."""

import pytest

from ridgepole import Controller, Pipeline, PipelineProcess, process, track
from ridgepole.metrics import MetricPattern, batch_loss, load_metrics, validation_accuracy
from ridgepole.permanences import BaseLoggerManager, TensorBoardLogger

DICE = MetricPattern("dice", "validation/dice", "validation", "validation", "reuse_last")
LOSSES = {"dict": lambda: {"loss": 0.5}, "record": lambda: batch_loss(0.5)}
VALIDATIONS = {
    "dict": lambda: {"validation/accuracy": 0.75, "validation/dice": 0.5},
    "records": lambda: [validation_accuracy(0.75), DICE(0.5)],
}


@process
def every_22_steps(logger: BaseLoggerManager, loss: str = "dict", validation: str = "dict"):
    for step in track(range(220), tick=True):
        logger.log_metrics(LOSSES[loss]())
        if step % 22 == 21:
            logger.log_metrics(VALIDATIONS[validation]())


@process
def after_each_epoch(logger: BaseLoggerManager, loss: str = "dict", validation: str = "dict"):
    for _ in track(range(10), "epochs", tick=True):
        for _ in track(range(22), "batches", tick=True):
            logger.log_metrics(LOSSES[loss]())
        logger.log_metrics(VALIDATIONS[validation]())


@process
def final_test(logger: BaseLoggerManager):
    logger.log_metrics({"test/accuracy": 0.7})


def steps_of(pipeline, root):
    path = pipeline.run(root).path
    found = {}
    for record in load_metrics(path).frame.iter_rows(named=True):
        found.setdefault(record["name"], []).append(record["step"])
    return found


@pytest.mark.parametrize("tensorboard", [False, True], ids=["alone", "tensorboard"])
@pytest.mark.parametrize("validation", VALIDATIONS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("train", [every_22_steps, after_each_epoch], ids=["in_the_loop", "after_each_epoch"])
def test_220_steps_end_at_220_with_any_form_of_validation(tmp_path, train, loss, validation, tensorboard):
    pipeline = Pipeline("steps", progress=False)
    if tensorboard:
        pipeline.permanence("board", TensorBoardLogger)
    pipeline.process("train", train, loss=loss, validation=validation).process("test", final_test)

    found = steps_of(pipeline, tmp_path)

    assert found.pop("train/batch_loss" if loss == "record" else "loss") == list(range(220))
    assert found == {
        "validation/accuracy": list(range(21, 220, 22)),
        "validation/dice": list(range(21, 220, 22)),
        "test/accuracy": [220],  # the next process is a step of its own
    }


def test_an_evaluation_without_ticks_moves_where_a_metric_repeats(tmp_path):
    @process
    def evaluate(logger: BaseLoggerManager):
        for _ in range(3):
            logger.log_metrics({"accuracy": 0.5})
            logger.log_metrics({"loss": 0.5, "nested": {"f1": 0.5}})

    found = steps_of(Pipeline("steps", progress=False).process("evaluate", evaluate), tmp_path)

    assert found == {"accuracy": [0, 1, 2], "loss": [0, 1, 2], "nested/f1": [0, 1, 2]}


def test_each_tick_is_a_step_also_with_other_names(tmp_path):
    @process
    def adversarial(logger: BaseLoggerManager, controller: Controller):
        for _ in range(3):
            logger.log_metrics({"generator": 0.5})
            controller.tick()
            logger.log_metrics({"discriminator": 0.5})
            controller.tick()
        for step in track(range(2), tick=True):
            logger.log_metrics({f"loop/{step}": 0.5})

    found = steps_of(Pipeline("steps", progress=False).process("adversarial", adversarial), tmp_path)

    assert found == {"generator": [0, 2, 4], "discriminator": [1, 3, 5], "loop/0": [6], "loop/1": [7]}


def test_a_window_of_items_is_one_step_of_the_run(tmp_path):
    @process
    def accumulate(logger: BaseLoggerManager):
        for item in track(range(8), tick=4):
            if item % 4 == 0:
                logger.log_metrics({"first": 0.5})
            if item % 4 == 3:
                logger.log_metrics({"last": 0.5})

    found = steps_of(Pipeline("steps", progress=False).process("accumulate", accumulate), tmp_path)

    assert found == {"first": [0, 1], "last": [0, 1]}


def test_explicit_steps_are_kept_and_a_lower_one_takes_nothing_along(tmp_path):
    @process
    def explicit(logger: BaseLoggerManager):
        logger.log_metrics({"a": 0.5}, step=10)
        logger.log_metrics({"b": 0.5})
        logger.log_metrics({"late": 0.5}, step=3)
        logger.log_metrics({"c": 0.5})

    found = steps_of(Pipeline("steps", progress=False).process("explicit", explicit), tmp_path)

    assert found == {"a": [10], "b": [10], "late": [3], "c": [11]}


class Stateful(PipelineProcess):
    """Stops once, between its loop and its validation."""

    stops = True

    def __init__(self, logger: BaseLoggerManager):
        self.logger = logger
        self.done = 0

    def execute(self):
        for step in track(range(self.done, 3), tick=True):
            self.logger.log_metrics({"loss": 0.5})
            self.done = step + 1
        if type(self).stops:
            raise KeyboardInterrupt
        self.logger.log_metrics({"validation/accuracy": 0.75})

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


def test_a_resume_behind_the_last_item_of_a_loop_gives_the_same_steps(tmp_path, monkeypatch):
    pipeline = Pipeline("steps", progress=False, checkpoint={"every_steps": 1}).process("train", Stateful)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(tmp_path)
    monkeypatch.setattr(Stateful, "stops", False)
    pipeline.resume(root=tmp_path)

    (run,) = (path.parent for path in tmp_path.glob("*/run.json") if not path.parent.is_symlink())
    frame = load_metrics(run).frame
    assert frame.select("name", "step").rows() == [*(("loss", step) for step in range(3)), ("validation/accuracy", 2)]
    assert "resumes from 000004-step-3" in (run / "run.log").read_text()
