"""The step policy, as a table: what is logged, where the counter stood, which steps come out."""

import numpy as np
import pytest

from ridgepole.metrics import MetricRecord, Resolved, batch_loss, test_accuracy, validation_loss
from ridgepole.metrics.steps import StepCounter, plan

A, B = {"a": 1}, {"b": 2}

TABLE = [
    # calls as (metrics, step), steps of each call's records, global_step and last_step at the end
    ("a plain mapping advances", [(A, None), (A, None)], [[0], [1]], 2, 1),
    ("a list advances once for the whole call", [([A, B], None), (A, None)], [[0, 0], [1]], 2, 1),
    ("a record advances", [(batch_loss(1.0), None), (A, None)], [[0], [1]], 2, 1),
    ("validation before anything is at 0", [(validation_loss(1.0), None), (A, None)], [[0], [0]], 1, 0),
    ("validation reuses the last step", [(A, None), (A, None), (validation_loss(1.0), None)], [[0], [1], [1]], 2, 1),
    ("and does not move it", [(A, None), (validation_loss(1.0), None), (A, None)], [[0], [0], [1]], 2, 1),
    ("a mixed call is one step", [(A, None), ([batch_loss(1.0), test_accuracy(1.0)], None)], [[0], [1, 1]], 2, 1),
    ("whatever its order", [(A, None), ([test_accuracy(1.0), batch_loss(1.0)], None)], [[0], [1, 1]], 2, 1),
    ("an explicit step is stored as given", [(A, 10), (A, None)], [[10], [11]], 12, 11),
    ("a lower one, too, and moves nothing back", [(A, 10), (B, 3), (A, None)], [[10], [3], [11]], 12, 11),
    ("validation follows an explicit step", [(A, 10), (validation_loss(1.0), None)], [[10], [10]], 11, 10),
    ("an explicit step for validation", [(A, None), (validation_loss(1.0), 7), (A, None)], [[0], [7], [8]], 9, 8),
    ("and is not what others reuse", [(A, None), (validation_loss(1.0), 7), (test_accuracy(1.0), None)],
     [[0], [7], [0]], 8, 0),
    ("a record's own step before the call's", [([MetricRecord("a", 1, step=4), A | B], 9)], [[4, 9, 9]], 10, 9),
    ("one of many with a step", [([MetricRecord("a", 1, step=4), B], None), (A, None)], [[4, 0], [5]], 6, 5),
    ("a numpy step", [(A, np.int64(3))], [[3]], 4, 3),
    ("a record of the same name is the next step", [([batch_loss(1.3), batch_loss(1.1)], None), (A, None)],
     [[0, 1], [2]], 3, 2),
    ("and so is a mapping", [([A, B, A, A], None), (validation_loss(1.0), None)], [[0, 0, 1, 2], [2]], 3, 2),
    ("which validation follows", [([A, A, validation_loss(1.0), B], None)], [[0, 1, 1, 1]], 2, 1),
    ("also behind an explicit step", [([MetricRecord("a", 1, step=7), A, A], None)], [[7, 0, 8]], 9, 8),
    ("an empty mapping is a step", [({}, None), (A, None)], [[], [1]], 2, 1),
    ("an empty list is nothing", [([], None), (A, None)], [[], [0]], 1, 0),
]  # fmt: skip


@pytest.mark.parametrize(("calls", "steps", "global_step", "last_step"), [row[1:] for row in TABLE],
                         ids=[row[0] for row in TABLE])  # fmt: skip
def test_step_policy(calls, steps, global_step, last_step):
    counter = StepCounter()
    got = []
    for metrics, step in calls:
        made = plan(metrics, step, counter)
        counter.adopt(made)
        got.append([record.step for record in Resolved(made)])
    assert got == steps
    assert (counter.global_step, counter.last_step) == (global_step, last_step)


@pytest.mark.parametrize("step", [-1, 2**63, -(10**30)])
def test_a_step_out_of_range(step):
    with pytest.raises(ValueError, match="step must be between"):
        plan(A, step, StepCounter())


@pytest.mark.parametrize("step", [1.0, "1", True, [1]])
def test_a_step_is_an_integer(step):
    with pytest.raises(TypeError, match="step must be an integer"):
        plan(A, step, StepCounter())


@pytest.mark.parametrize("metrics", [3, "loss", None, {1, 2}, ["a"], [1.0], iter([A])])
def test_something_else_is_refused(metrics):
    with pytest.raises(TypeError, match="log_metrics"):
        plan(metrics, None, StepCounter())


def test_a_name_twice_in_one_call():
    for repeated in ([A, MetricRecord("a", 2)], [validation_loss(1.0), validation_loss(2.0)]):
        with pytest.raises(ValueError, match="is given twice"):
            plan(repeated, 5, StepCounter())
    assert len(plan([MetricRecord("a", 1, step=1), MetricRecord("a", 2, step=2)], None, StepCounter()).rows) == 2


def test_a_wrong_policy_is_said():
    with pytest.raises(ValueError, match="'a': step_policy must be"):
        plan(MetricRecord("a", 1, step_policy="sometimes"), None, StepCounter())


def test_records_keep_what_they_say_of_themselves():
    resolved = Resolved(plan([validation_loss({"x": 1, "y": 2}), A], None, StepCounter()))
    assert resolved[0] == MetricRecord(
        "validation/loss/x", 1, "validation_loss", "validation", "validation", 0, "reuse_last"
    )
    assert resolved[2] == MetricRecord("a", 1, step=0)


def test_resolved_records_stay_as_they_are():
    first = Resolved(plan([A, validation_loss(1.0)], None, StepCounter(5, 4)))
    assert plan(first, None, StepCounter()) is first.plan
