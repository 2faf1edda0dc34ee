"""When a checkpoint is due."""

import math

import pytest

from ridgepole import process, track
from ridgepole.checkpoint import CheckpointStore, KeepBest
from ridgepole.checkpoint.policy import OFF, CheckpointPolicy
from ridgepole.checkpoint.triggers import CheckpointTrigger, Triggers
from ridgepole.errors import ConfigError
from ridgepole.pipeline.api import Pipeline

PLUGIN = """
from pathlib import Path
from ridgepole.checkpoint import CheckpointTrigger

class FileExists(CheckpointTrigger):
    kind = "file"

    def __init__(self, path):
        self.path = Path(path)

    def is_due(self):
        return self.path.exists()
"""


@pytest.fixture
def plugin(monkeypatch, tmp_path):
    """Installs a package with one checkpoint trigger, `file_exists`."""
    packages = tmp_path / "packages"
    (packages / "triggers-1.0.dist-info").mkdir(parents=True)
    (packages / "ridgepole_triggers.py").write_text(PLUGIN)
    (packages / "triggers-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: triggers\nVersion: 1\n")
    points = "[ridgepole.checkpoint_triggers]\nfile_exists = ridgepole_triggers:FileExists\n"
    (packages / "triggers-1.0.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(packages)
    return tmp_path


def made(is_new_best=lambda: False, **policy):
    triggers = CheckpointPolicy(**policy).make_triggers(is_new_best)
    triggers.restart(10, 1000.0)
    return triggers


@pytest.mark.parametrize(
    ("policy", "count", "now", "expected"),
    [
        ({"every_minutes": None}, 10**9, 1e9, None),
        ({"every_minutes": None, "every_steps": 5}, 14, 1e9, None),
        ({"every_minutes": None, "every_steps": 5}, 15, 0.0, "step"),
        ({"every_minutes": 0.5}, 10**9, 1029.9, None),
        ({"every_minutes": 0.5}, 0, 1030.0, "time"),
        ({"every_minutes": 0.5, "every_steps": 5}, 15, 1030.0, "step"),
    ],
)
def test_steps_and_minutes_count_from_the_last_checkpoint(policy, count, now, expected):
    assert made(**policy).due(count, now) == expected


def test_the_earliest_deadlines_are_known_before_anything_is_asked():
    triggers = made(every_steps=5, every_minutes=2)
    assert (triggers.count, triggers.time, triggers.polled) == (15, 1120.0, False)
    triggers.restart(40, 2000.0)
    assert (triggers.count, triggers.time) == (45, 2120.0)
    off = OFF.make_triggers(lambda: True)
    off.restart(0, 0.0)
    assert (off.count, off.time, off.polled) == (math.inf, math.inf, False)


def test_a_new_best_is_asked_at_every_step_even_where_another_reason_comes_first():
    asked = []

    def is_new_best():
        asked.append(1)
        return True

    triggers = made(is_new_best, every_steps=5, keep_best=KeepBest("loss"))
    assert triggers.polled
    assert triggers.due(11, 1000.0) == "best"
    assert triggers.due(15, 1000.0) == "step"
    assert len(asked) == 2


def test_a_trigger_without_methods_is_never_due():
    triggers = Triggers([CheckpointTrigger()])
    triggers.restart(0, 0.0)
    assert triggers.due(10**9, 1e9) is None


def test_a_trigger_of_an_installed_package_is_due_when_it_says_so(plugin):
    triggers = made(every_minutes=None, triggers={"file_exists": {"path": str(plugin / "now")}})
    assert triggers.due(11, 1000.0) is None
    (plugin / "now").touch()
    assert triggers.due(12, 1000.0) == "file"


@pytest.mark.parametrize(
    ("triggers", "says"),
    [
        ({"file_exist": {"path": "x"}}, "no installed package has a checkpoint trigger 'file_exist'.*'file_exists'"),
        ({"file_exists": {"pth": "x"}}, "the checkpoint trigger 'file_exists' can't be used.*'path'"),
    ],
)
def test_a_pipeline_that_names_a_wrong_trigger_is_refused(plugin, triggers, says):
    pipeline = Pipeline("x", checkpoint={"triggers": triggers})
    with pytest.raises(ConfigError, match=f"checkpoint: (.|\n)*{says}"):
        pipeline.plan()


def test_a_run_takes_a_checkpoint_when_a_trigger_of_a_package_asks(plugin):
    now = plugin / "now"

    @process
    def work() -> None:
        for step in track(range(8), "work", tick=True):
            now.unlink(missing_ok=True)
            if step == 4:
                now.touch()

    checkpoint = {"every_minutes": 1000.0, "keep_last": 9, "triggers": {"file_exists": {"path": str(now)}}}
    result = Pipeline("asked", checkpoint=checkpoint).process("work", work).run(plugin / "runs")
    kinds = [info.kind for info in CheckpointStore(result.path / "checkpoints").list()]
    assert kinds == ["boundary", "file", "boundary"]
