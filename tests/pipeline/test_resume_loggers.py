"""What loggers make of a resume: steps and numbers go on, what was abandoned is hidden everywhere."""

import json

import numpy as np
import pytest

from ridgepole import Pipeline, PipelineProcess, read_metrics
from ridgepole.export import export_run
from ridgepole.permanences import BaseLoggerManager, BasicLogger, TensorBoardLogger
from ridgepole.rundir import list_runs

VALUES = [5.0, 4.0, 3.0, 2.0, 1.0, 0.5]


class Train(PipelineProcess):
    """Checkpoints itself after three values, and dies after five the first time."""

    def __init__(self, logger: BaseLoggerManager):
        self.logger, self.done = logger, 0

    def execute(self):
        while self.done < len(VALUES):
            if self.done == 3 and self.controller.attempt == 1:
                self.controller.checkpoint()
            if self.done == 5 and self.controller.attempt == 1:
                self.logger.log_metrics({"only here": -1.0})
                self.logger.log_figure("only here", np.eye(4))
                raise RuntimeError("the first attempt ends here")
            self.logger.log_metrics({"loss": VALUES[self.done] + 10 * self.controller.attempt})
            self.done += 1

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


def two_attempts(tmp_path, *loggers, **settings):
    pipeline = Pipeline("two", seed=1, progress=False, **settings)
    for number, (cls, keys) in enumerate(loggers):
        pipeline.permanence(f"logger{number}", cls, **keys)
    pipeline.process("train", Train)
    with pytest.raises(RuntimeError, match="the first attempt ends here"):
        pipeline.run(tmp_path / "runs")
    return pipeline.resume(root=tmp_path / "runs")


SEEN = [15.0, 14.0, 13.0, 22.0, 21.0, 20.5]
"""Three values of the first attempt, then those of the second."""


def test_the_local_record(tmp_path):
    result = two_attempts(tmp_path)
    frame = read_metrics(result.path)
    assert frame["value"].to_list() == SEEN
    assert frame["step"].to_list() == [0, 1, 2, 3, 4, 5], "the second attempt takes the steps up where they were"
    raw = read_metrics(result.path, raw=True)
    assert raw["value"].to_list() == [15.0, 14.0, 13.0, 12.0, 11.0, -1.0, 22.0, 21.0, 20.5], "nothing is deleted"
    assert raw["seq"].is_sorted()
    assert raw["seq"].n_unique() == raw.height, "no number twice"
    assert result.metrics["loss"]["count"] == 6
    assert result.metrics["loss"]["min"] == 13.0
    assert "only here" not in result.metrics
    summary = json.loads((result.path / "summary.json").read_text())
    assert summary["metrics"]["loss"]["last"] == 20.5
    assert summary["steps"] == 6


@pytest.mark.parametrize("target", ["csv", "parquet"])
def test_tables_leave_it_out(target, tmp_path):
    import polars as pl

    done = export_run(two_attempts(tmp_path).path, target, tmp_path / "out")
    read = pl.read_csv if target == "csv" else pl.read_parquet
    frame = read(done.path / f"metrics.{target}")
    column = frame["loss"] if target == "csv" else frame["value"]
    assert column.to_list() == SEEN
    assert frame["step"].to_list() == [0, 1, 2, 3, 4, 5]
    assert done.hidden == 3, "no figures in a table"


def points(directory, tag="loss"):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(directory), {"scalars": 0})
    found.Reload()
    assert "only here" not in found.Tags()["scalars"] or not found.Scalars("only here")
    return [(event.step, event.value) for event in found.Scalars(tag)]


def test_tensorboard_shows_the_second_attempt_alone(tmp_path):
    result = two_attempts(tmp_path, (TensorBoardLogger, {}))
    assert points(result.path) == list(enumerate(SEEN))


def test_a_replay_to_tensorboard_too(tmp_path):
    done = export_run(two_attempts(tmp_path).path, "tensorboard", tmp_path / "board")
    assert points(tmp_path / "board") == list(enumerate(SEEN))
    assert (done.hidden, done.media) == (4, 0)


def test_two_loggers_with_steps_of_their_own(tmp_path):
    """A record in a directory of its own has its own mask; both tell the same."""
    other = tmp_path / "other"
    result = two_attempts(tmp_path, (BasicLogger, {"log_dir": str(other)}))
    assert read_metrics(other)["value"].to_list() == SEEN
    assert read_metrics(result.path)["value"].to_list() == SEEN


def test_step_numbers_that_were_given(tmp_path):
    """`last_step` goes back too: a figure without a step belongs to that of the checkpoint."""
    seen = []

    class Steps(Train):
        def execute(self):
            seen.append((self.logger.global_step, self.logger.last_step))
            if self.controller.attempt == 1:
                self.logger.log_metrics({"a": 1.0}, step=40)
                self.controller.checkpoint()
                self.logger.log_metrics({"a": 1.0}, step=70)
                raise RuntimeError("the first attempt ends here")

    pipeline = Pipeline("steps", seed=1, progress=False).process("steps", Steps)
    with pytest.raises(RuntimeError):
        pipeline.run(tmp_path)
    pipeline.resume(root=tmp_path)
    assert seen == [(0, 0), (41, 40)]


def test_abandoned_more_than_once(tmp_path):
    """Each attempt takes back what the one before logged after the checkpoint, earlier masks stay."""

    class Falls(Train):
        def execute(self):
            while self.done < 4:
                self.logger.log_metrics({"loss": self.done + 10.0 * self.controller.attempt})
                if self.controller.attempt < 4:
                    raise RuntimeError("falls")
                self.done += 1

    pipeline = Pipeline("falls", seed=1, progress=False).process("falls", Falls)
    for attempt in range(3):
        with pytest.raises(RuntimeError):
            pipeline.resume(root=tmp_path) if attempt else pipeline.run(tmp_path)
    pipeline.resume(root=tmp_path)
    (run,) = list_runs(tmp_path)
    assert read_metrics(run.path)["value"].to_list() == [40.0, 41.0, 42.0, 43.0]
    assert read_metrics(run.path, raw=True)["value"].to_list() == [10.0, 20.0, 30.0, 40.0, 41.0, 42.0, 43.0]
