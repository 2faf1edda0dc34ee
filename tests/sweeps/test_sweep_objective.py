"""The objective of a run: the best value of the metric, whatever else was logged."""

import math

import pytest

from ridgepole.sweeps import Metric, Tally, impute

LOSS = Metric("loss", target=0.1)
ACCURACY = Metric("accuracy", "maximize", target=0.9)
BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize(("metric", "best"), [(LOSS, 0.2), (ACCURACY, 0.7)])
def test_the_best_value_counts_and_not_the_last(metric, best):
    tally = Tally(metric)
    said = [tally.add(value) for value in (0.5, math.nan, 0.2, math.inf, 0.7, 0.3)]
    assert said == [True, False, True, False, True, True]
    assert (tally.best, tally.count, tally.latest) == (best, 4, 0.3)
    assert tally.values == [0.5, 0.2, 0.7, 0.3]


def test_a_run_without_a_finite_value_has_no_objective():
    tally = Tally(LOSS, BAD)
    assert (tally.best, tally.count, tally.latest) == (None, 0, None)
    assert LOSS.best(BAD) is None


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
    ("kind", "goal", "own", "others", "value"),
    [
        ("worst", "minimize", [0.1], [0.3, 0.5, math.nan], 0.5),
        ("worst", "maximize", [0.1], [0.3, 0.5], 0.3),
        ("best", "minimize", [0.1], [0.3, 0.5], 0.3),
        ("best", "maximize", [], [0.3, 0.5], 0.5),
        ("latest", "minimize", [0.1, 0.4], [0.3, 0.5], 0.4),
        ("latest", "minimize", [], [0.3, 0.5], 0.5),
        ("latest", "minimize", [0.1], [], 0.1),
        ("worst", "minimize", [0.1], [], None),
        ("best", "minimize", [], [], None),
    ],
)
def test_what_a_failed_run_counts_as(kind, goal, own, others, value):
    metric = Metric("loss", goal, impute=kind)
    assert impute(metric, Tally(metric, own), others) == value


def test_a_run_that_never_began_counts_as_the_worst():
    assert impute(Metric("loss", impute="latest"), None, [1.0, 2.0]) == 2.0
