"""The last line of a run, `runs ls`, `summary.json` and `checkpoints` call the same values best and last."""

import json
import re

import pytest

from ridgepole import Pipeline, process
from ridgepole.metrics.summary import goal_of
from ridgepole.permanences import BaseLoggerManager, ProgressManager
from ridgepole.rundir import list_runs

TOML = """
[pipeline]
package = "shapes"
progress = false
checkpoint = {policy}

[processes.train]
type = "train"
"""

SHAPES = """
from ridgepole import process
from ridgepole.permanences import BaseLoggerManager, ProgressManager

@process
def train(logger: BaseLoggerManager, controller):
    for step, (noisy, valid, odd) in enumerate([(0.4, 0.5, 3), (0.1, 0.9, 1), (0.3, 0.8, 2)]):
        logger.log_metrics({"validation/accuracy": valid, "odd": odd, "train/loss": noisy})
        controller.tick()
"""


@pytest.mark.parametrize(
    ("policy", "name", "last", "best"),
    [
        ("true", "validation/accuracy", 0.8, 0.9),
        ("{ keep_best = { metric = 'validation/accuracy', mode = 'max' } }", "validation/accuracy", 0.8, 0.9),
        ("{ keep_best = { metric = 'train/loss' } }", "train/loss", 0.3, 0.1),
        ("{ keep_best = { metric = 'odd', mode = 'max' } }", "odd", 2, 3),
        ("{ keep_best = { metric = 'validation/accuracy', mode = 'min' } }", "validation/accuracy", 0.8, 0.5),
    ],
)
def test_all_places_agree_on_best_and_last(policy, name, last, best, tmp_path, ridgepole):
    (tmp_path / "shapes.py").write_text(SHAPES)
    (tmp_path / "shapes.toml").write_text(TOML.format(policy=policy))
    done = ridgepole("run", "shapes.toml")
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1]
    assert f" · {name} {last} (best {best}) · " in line
    (run,) = list_runs(tmp_path / "runs")
    entry = json.loads((run.path / "summary.json").read_text())["metrics"][name]
    assert (entry["last"], entry["best"]) == (last, best)
    assert json.loads(ridgepole("runs", "ls", "--json").stdout)[0]["best"] == {"metric": name, "value": best}
    if policy == "true":
        return
    shown = ridgepole("checkpoints", "show", "best")
    assert re.search(rf"^score       {name} {best} ", shown.stdout, re.MULTILINE), shown.stderr
    number = json.loads(ridgepole("checkpoints", "show", "best", "--json").stdout)["name"]
    assert json.loads(ridgepole("checkpoints", "show", number, "--json").stdout)["name"] == number
    assert ridgepole("checkpoints", "verify", "best").returncode == 0


def test_without_held_out_data_the_last_metric_with_a_goal_counts(tmp_path, ridgepole):
    @process
    def train(logger: BaseLoggerManager) -> None:
        for loss in (0.5, 0.2, 0.3):
            logger.log_metrics({"accuracy": 1 - loss, "loss": loss, "other": 1})

    Pipeline("plain", progress=False).process("train", train).run(tmp_path / "runs")
    assert json.loads(ridgepole("runs", "ls", "--json").stdout)[0]["best"] == {"metric": "loss", "value": 0.2}
    assert goal_of("other") is None


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        (
            "validation/acc",
            "no metric called 'validation/acc' was logged so far; logged are validation/accuracy, loss; ",
        ),
        ("nothing", "no metric called 'nothing' was logged so far; logged are validation/accuracy, loss"),
        ("loss", None),
    ],
)
def test_a_metric_of_keep_best_that_is_not_logged_is_a_warning_once(metric, told, tmp_path):
    @process
    def train(logger: BaseLoggerManager, controller) -> None:
        for _ in range(3):
            logger.log_metrics({"validation/accuracy": 0.5, "loss": 0.1})
            controller.tick()

    policy = {"every_steps": 1, "keep_best": {"metric": metric}}
    result = Pipeline("best", progress=False, checkpoint=policy).process("train", train).run(tmp_path)
    lines = [line for line in (result.path / "run.log").read_text().splitlines() if "keep_best" in line]
    assert len(lines) == (told is not None)
    if told is not None:
        assert told in lines[0]
        assert ("did you mean 'validation/accuracy'?" in lines[0]) == (metric == "validation/acc")


def test_the_estimate_of_a_run_knows_how_long_its_processes_took_last_time(tmp_path):
    seen, broken = [], []

    @process
    def first(progress_manager: ProgressManager) -> None:
        (task,) = progress_manager.progress_dict["overall"].tasks
        seen.append(task.fields["expected_seconds"])

    @process
    def second(progress_manager: ProgressManager) -> None:
        (task,) = progress_manager.progress_dict["overall"].tasks
        seen.append(task.fields["expected_seconds"])
        if broken:
            raise broken.pop()

    def pipeline(*names, project="estimated"):
        built = Pipeline(project, checkpoint=True)
        for name in names:
            built.process(name, first if name == "first" else second)
        return built

    def times(result):
        return [each.seconds for each in result.processes]

    before = pipeline("first", "second").run(tmp_path)
    pipeline("first", "third", project="another").run(tmp_path)
    broken.append(ValueError("stops it"))
    with pytest.raises(ValueError, match="stops it"):
        pipeline("first", "second").run(tmp_path)
    (failed, *_) = list_runs(tmp_path)
    pipeline("first", "second").resume(failed.path)
    pipeline("first", "second").run(tmp_path)
    pipeline("first", "third").run(tmp_path)
    assert seen[:2] == [None, None]
    assert seen[2:4] == [None, None], "of another pipeline nothing is known"
    assert seen[4:7] == [times(before)] * 3, "of the whole run, also for a resumed one"
    assert seen[7:9] == [times(before)] * 2, "a resumed run says too little"
    assert seen[9:] == [None, None], "one of its processes was not there"
