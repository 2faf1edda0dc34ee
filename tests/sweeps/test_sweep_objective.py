"""The objective of a run: the best value of the metric, whatever else was logged."""

import math

import pytest

from ridgepole.sweeps import Metric, run_sweep
from ridgepole.sweeps.spec.objective import imputed_value

LOSS = Metric("loss", target=0.1)
ACCURACY = Metric("accuracy", "maximize", target=0.9)
BAD = [math.nan, math.inf, -math.inf]


def reporting(values, goal="minimize"):
    """Run one trial that reports some values; give its result, and its best value, count and latest value."""
    seen = []

    def once(trial):
        for value in values:
            trial.report(value)
        seen.append((trial.best, trial.count, trial.latest))

    config = {"method": "grid", "metric": {"name": "loss", "goal": goal}, "parameters": {"x": {"value": 1}}}
    (result,) = run_sweep(once, config, progress=False).trials
    return result, seen[0]


@pytest.mark.parametrize(("goal", "best"), [("minimize", 0.2), ("maximize", 0.7)])
def test_the_best_value_counts_and_not_the_last(goal, best, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result, seen = reporting((0.5, math.nan, 0.2, math.inf, 0.7, 0.3), goal)
    assert seen == (best, 4, 0.3)
    assert (result.status, result.value, result.latest) == ("finished", best, 0.3)


def test_a_run_without_a_finite_value_has_no_objective(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result, seen = reporting(BAD)
    assert seen == (None, 0, None)
    assert (result.status, result.value) == ("failed", None)
    assert LOSS.best(BAD) is None
    assert LOSS.worst(BAD) is None


@pytest.mark.parametrize(
    ("metric", "value", "reached"),
    [
        (LOSS, 0.1, True),
        (LOSS, 0.09, True),
        (LOSS, 0.11, False),
        (ACCURACY, 0.9, True),
        (ACCURACY, 0.95, True),
        (ACCURACY, 0.85, False),
        (LOSS, None, False),
        (LOSS, -math.inf, False),
        (Metric("loss"), 0.0, False),
        (Metric("loss", target=0.0), 0.0, True),
    ],
)
def test_the_target(metric, value, reached):
    assert metric.reached(value) is reached


@pytest.mark.parametrize(
    ("impute", "goal", "latest", "others", "value"),
    [
        ("worst", "minimize", 0.1, [0.3, 0.5, math.nan], 0.5),
        ("worst", "maximize", 0.1, [0.3, 0.5], 0.3),
        ("best", "minimize", 0.1, [0.3, 0.5], 0.3),
        ("best", "maximize", None, [0.3, 0.5], 0.5),
        ("latest", "minimize", 0.4, [0.3, 0.5], 0.4),
        ("latest", "minimize", None, [0.3, 0.5], 0.5),
        ("latest", "minimize", 0.1, [], 0.1),
        ("worst", "minimize", 0.1, [], None),
        ("best", "minimize", None, [], None),
    ],
)
def test_the_value_that_a_failed_run_counts_as(impute, goal, latest, others, value):
    assert imputed_value(Metric("loss", goal, impute=impute), latest, others) == value
