"""Last, min, max and best with their steps."""

import math

import pytest

from ridgepole.metrics.summary import Summary, goal_of


def summarized(values, name="m"):
    summary = Summary()
    for step, value in enumerate(values):
        summary.update({name: value}, step)
    return summary.as_dict()[name]


def test_extremes_with_their_steps():
    assert summarized([3, 1.0, 5, 1.0, 2], "validation/loss") == {
        "last": 2, "last_step": 4, "min": 1.0, "min_step": 1, "max": 5, "max_step": 2, "count": 5, "nonfinite": 0,
        "best": 1.0, "best_step": 1,
    }  # fmt: skip


@pytest.mark.parametrize("values", [[math.nan, 2.0], [math.inf, 2.0], [2.0, math.nan], [2.0, -math.inf]])
def test_what_is_not_finite_is_never_best(values):
    got = summarized(values, "accuracy")
    assert (got["min"], got["max"], got["best"], got["count"], got["nonfinite"]) == (2.0, 2.0, 2.0, 2, 1)
    assert got["last"] == (2.0 if values[1] == 2.0 else None)


def test_strings_have_a_last_value_alone():
    got = summarized(["a", "b"])
    assert (got["last"], got["last_step"], got["min"], got["min_step"], got["best"]) == ("b", 1, None, None, None)


def test_names_in_order_of_first_appearance():
    summary = Summary()
    summary.update({"z": 1, "a": 2}, 0)
    summary.update({"m": 1, "a": 2}, 1)
    assert list(summary.as_dict()) == ["z", "a", "m"]


@pytest.mark.parametrize(
    ("name", "goal"),
    [("loss", "min"), ("train/batch_loss", "min"), ("val_acc", "max"), ("validation/Accuracy", "max"), ("lr", None),
     ("glossy", None), ("accuracy_loss", None), ("mean_iou", "max")],
)  # fmt: skip
def test_the_name_says_which_way_is_better(name, goal):
    assert goal_of(name) == goal
