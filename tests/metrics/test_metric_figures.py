"""Confusion matrices are counted right, curves keep their spikes."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from ridgepole.metrics import (
    BINARY_CONFUSION_MATRIX,
    LOSS_CURVE,
    ConfusionMatrixFigurePattern,
    build_confusion_matrix_figure,
    count_confusions,
)
from ridgepole.metrics.curves import thin_line
from ridgepole.permanences import BasicLogger

labels = st.one_of(
    st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1),
    st.lists(st.tuples(st.integers(-(2**40), 2**40), st.integers(-5, 5)), min_size=1),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["a", "bb"])), min_size=1),
)


@pytest.mark.filterwarnings("ignore:A single label")
@given(labels)
def test_counts_as_scikit_learn_does(pairs):
    true, predicted = map(list, zip(*pairs, strict=True))
    matrix, classes = count_confusions(true, predicted)
    assert classes == sorted(set(true) | set(predicted))
    assert matrix.tolist() == confusion_matrix(true, predicted).tolist()


def test_given_labels_keep_their_order():
    matrix, classes = count_confusions(["b", "a", "b"], ["b", "b", "a"], labels=["c", "b", "a"])
    assert classes == ["c", "b", "a"]
    assert matrix.tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 0]]


def test_tensors_bools_and_whole_floats():
    import torch

    matrix, _ = count_confusions(torch.tensor([0, 1, 1]), np.array([0.0, 1.0, 0.0]))
    assert matrix.tolist() == [[1, 0], [1, 1]]
    assert count_confusions(np.array([True, False]), np.array([True, True]))[0].tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("true", "predicted", "labels", "says"),
    [
        ([1, 2], [1], None, "targets has 2 labels, predictions 1"),
        ([], [], None, "empty"),
        ([1], [7], [1, 2], "predictions has the label 7"),
        (["x"], ["a"], ["a"], "targets has the label 'x'"),
        ([1], [1], [1, 1], "different classes"),
        ([1], [1], ["1"], "both be integers"),
        ([0.5], [1], None, "fractions"),
    ],
)
def test_bad_labels(true, predicted, labels, says):
    with pytest.raises(ValueError, match=says):
        count_confusions(true, predicted, labels)


@pytest.mark.parametrize(
    ("normalize", "cells"),
    [
        (None, ["2", "0", "1", "1"]),
        ("true", ["1.00", "0.00", "0.50", "0.50"]),
        ("all", ["0.50", "0.00", "0.25", "0.25"]),
    ],
)
def test_the_numbers_in_the_cells(normalize, cells):
    figure = build_confusion_matrix_figure([0, 0, 1, 1], [0, 0, 0, 1], normalize=normalize)
    assert [text.get_text() for text in figure.axes[0].texts] == cells


def test_a_class_that_never_occurs_is_no_nan():
    figure = ConfusionMatrixFigurePattern(labels=(0, 1, 2), normalize="true").build([0, 1], [0, 1])
    assert np.isfinite(figure.axes[0].images[0].get_array()).all()


def test_display_labels_and_wrong_options():
    figure = BINARY_CONFUSION_MATRIX.build([0, 1], [0, 1])
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["negative", "positive"]
    with pytest.raises(ValueError, match="normalize"):
        build_confusion_matrix_figure([0], [0], normalize="rows")
    with pytest.raises(ValueError, match="display_labels has 1 names for 2"):
        build_confusion_matrix_figure([0, 1], [0, 1], display_labels=["a"])


@given(st.lists(st.floats(allow_infinity=False), min_size=1, max_size=300), st.integers(4, 40))
def test_thinning_keeps_ends_and_extremes(heights, limit):
    values = np.array(heights)
    kept = thin_line(values, limit)
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    assert len(kept) <= limit + 4
    if not np.isnan(values).all():
        assert np.nanmin(values[kept]) == np.nanmin(values)
        assert np.nanmax(values[kept]) == np.nanmax(values)


def test_a_curve_is_drawn_along_its_steps():
    figure = LOSS_CURVE.build({"loss": ([2, 0, 1], [5.0, 3.0, 4.0])})
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [0, 1, 2]
    assert list(line.get_ydata()) == [3.0, 4.0, 5.0]
    with pytest.raises(ValueError, match="no metric"):
        LOSS_CURVE.build({})


@pytest.mark.parametrize("make", [
    lambda x: torch.tensor(x, dtype=torch.bfloat16), lambda x: torch.tensor([x]), lambda x: np.array(x, float),
    lambda x: pd.Series(x, dtype="Int64"), list,
])  # fmt: skip
def test_labels_of_every_library_and_an_index_to_ignore(make):
    targets, predictions = make([0, 1, -100, 1]), make([0, 0, 1, 1])
    matrix, classes = count_confusions(targets, predictions, ignore_index=-100)
    assert (matrix.tolist(), classes) == ([[1, 0], [1, 1]], [0, 1])
    pattern = ConfusionMatrixFigurePattern(labels=(0, 1), ignore_index=-100)
    axes = pattern.build(targets, predictions).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "0", "1", "1"]


@pytest.mark.parametrize("labels", [[], [9], [0.5], [float("nan")]])
def test_labels_that_make_no_matrix_are_reported_and_not_fatal(tmp_path, capfd, labels):
    with BasicLogger(tmp_path) as logger:
        logger.log_metric_figure(ConfusionMatrixFigurePattern("m", labels=(0, 1) if labels else None), labels, labels)
        assert logger.get_state()["dropped"] == 1
    assert "the figure 'm' could not be drawn" in capfd.readouterr().err
