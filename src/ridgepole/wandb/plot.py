"""W&B's charts: each is a table, and a figure that matplotlib draws from it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.metrics.confusion import build_confusion_matrix_figure
from ridgepole.wandb.media import Media, Table


class Chart(Media):
    """A table and its drawing, as `NAME_table` and `NAME`.

    Args:
        table: The table.
        draw: Draws it on the axes of an empty figure.
        title: The title of the figure.
    """

    def __init__(self, table: Table, draw: Callable[[Any], object], title: str = "") -> None:
        self.table, self._draw, self._title = table, draw, title

    def _log(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        from matplotlib.figure import Figure

        self.table.log_to(logger, f"{name}_table", step)
        figure = Figure()
        axes = figure.add_subplot()
        self._draw(axes)
        if self._title:
            axes.set_title(self._title)
        logger.log_figure(name, figure, step=step)


class _Matrix(Chart):
    """A confusion matrix."""

    def __init__(self, table: Table, figure: Any) -> None:
        super().__init__(table, lambda axes: axes)
        self._figure = figure

    def _log(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        self.table.log_to(logger, f"{name}_table", step)
        logger.log_figure(name, self._figure, step=step)


def _labelled(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def line(table: Table, x: str, y: str, stroke: str | None = None, title: str = "", split_table: bool = False) -> Chart:
    """Draw a line of two columns; `stroke` names a column that tells lines apart."""
    del split_table

    def draw(axes: Any) -> None:
        xs, ys = table.get_column(x), table.get_column(y)
        kinds = table.get_column(stroke) if stroke else [""] * len(xs)
        for kind in dict.fromkeys(kinds):
            points = [at for at, each in enumerate(kinds) if each == kind]
            axes.plot([xs[at] for at in points], [ys[at] for at in points], label=str(kind))
        _labelled(axes, x, y)
        if stroke:
            axes.legend()

    return Chart(table, draw, title)


def line_series(
    xs: Iterable[Any],
    ys: Iterable[Iterable[Any]],
    keys: Iterable[str] | None = None,
    title: str = "",
    xname: str = "x",
    split_table: bool = False,
) -> Chart:
    """Draw several lines; `xs` are common to all, or one sequence a line."""
    lines, first = [list(each) for each in ys], list(xs)
    many = bool(first) and isinstance(first[0], Iterable) and not isinstance(first[0], str)
    along = [list(each) for each in first] if many else [first] * len(lines)
    names = [str(key) for key in keys] if keys is not None else [f"line_{at}" for at in range(len(lines))]
    rows = [
        [x, name, y]
        for name, points, values in zip(names, along, lines, strict=True)
        for x, y in zip(points, values, strict=True)
    ]
    return line(Table(["step", "lineKey", "lineVal"], rows), "step", "lineVal", "lineKey", title or xname, split_table)


def plot_table(
    vega_spec_name: str,
    data_table: Table,
    fields: Mapping[str, str],
    string_fields: Mapping[str, str] | None = None,
    split_table: bool = False,
) -> Chart | Table:
    """Draw a table as one of W&B's own presets, such as `"wandb/line/v0"`.

    Other specifications are at W&B's server. With these, the table is kept, and a warning says
    that it is not drawn.

    Args:
        vega_spec_name: The name of the preset.
        data_table: The table.
        fields: The parts of the preset, such as `x`, and the columns that they show.
        string_fields: Texts of the preset; `title` counts.
        split_table: Taken for W&B's sake; has no effect.
    """
    del split_table
    draw, names = _PRESETS.get(vega_spec_name.rpartition("/")[0], (None, ()))
    if draw is None or not {*names[:2]} <= fields.keys():
        warnings.warn(
            f"the chart {vega_spec_name!r} is described at W&B's server: its table is kept, and not drawn",
            UserWarning,
            stacklevel=2,
        )
        return data_table
    columns = [fields[name] for name in names if name in fields]
    return draw(data_table, *columns, title=(string_fields or {}).get("title", ""))


def visualize(id: str, value: Table) -> Chart | Table:  # noqa: A002 - W&B's word
    """Keep the table of a chart by the name of its preset, as W&B's early versions have it."""
    return plot_table(id, value, {})


def scatter(table: Table, x: str, y: str, title: str = "", split_table: bool = False) -> Chart:
    """Draw points of two columns."""
    del split_table

    def draw(axes: Any) -> None:
        axes.scatter(table.get_column(x), table.get_column(y))
        _labelled(axes, x, y)

    return Chart(table, draw, title)


def bar(table: Table, label: str, value: str, title: str = "", split_table: bool = False) -> Chart:
    """Draw a bar for each row."""
    del split_table

    def draw(axes: Any) -> None:
        axes.barh([str(each) for each in table.get_column(label)], table.get_column(value))
        _labelled(axes, value, label)

    return Chart(table, draw, title)


def histogram(table: Table, value: str, title: str = "", split_table: bool = False) -> Chart:
    """Draw the distribution of a column."""
    del split_table

    def draw(axes: Any) -> None:
        axes.hist(table.get_column(value), bins=32)
        _labelled(axes, value, "count")

    return Chart(table, draw, title)


def confusion_matrix(
    probs: Sequence[Sequence[float]] | None = None,
    y_true: Sequence[Any] | None = None,
    preds: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    title: str = "",
    split_table: bool = False,
) -> Chart:
    """Draw how often each class was taken for which; classes are numbers from 0, or names.

    Raises:
        ValueError: Unless `y_true` and one of `probs` and `preds` are given, and are as long.
    """
    del split_table, title
    if y_true is None or (probs is None) == (preds is None):
        raise ValueError("confusion_matrix takes y_true, and either probs or preds")
    found = list(preds or ()) if probs is None else [max(range(len(row)), key=row.__getitem__) for row in probs]
    truth = list(y_true)
    if len(found) != len(truth):
        raise ValueError(f"y_true has {len(truth)} values, but there are {len(found)} predictions")
    classes: list[Any] = list(range(len(class_names))) if class_names else _in_order({*truth, *found})
    names = [str(name) for name in class_names or classes]
    counts = {(a, p): 0 for a in classes for p in classes}
    for a, p in zip(truth, found, strict=True):
        counts[a, p] += 1
    shown = dict(zip(classes, names, strict=True))
    rows = [[shown[a], shown[p], count] for (a, p), count in counts.items()]
    figure = build_confusion_matrix_figure([shown[each] for each in truth], [shown[each] for each in found])
    return _Matrix(Table(["Actual", "Predicted", "nPredictions"], rows), figure)


def _in_order(classes: set[Any]) -> list[Any]:
    try:
        return sorted(classes)
    except TypeError:  # of several types
        return sorted(classes, key=str)


def roc_curve(
    y_true: Sequence[Any],
    y_probas: Sequence[Sequence[float]],
    labels: Sequence[str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    title: str = "ROC Curve",
    split_table: bool = False,
) -> Chart:
    """Draw the true positives over the false ones, a line a class."""
    del split_table

    def points(hits: Any, _: int) -> tuple[Any, Any]:
        import numpy as np

        positives, negatives = np.cumsum(hits), np.cumsum(~hits)
        return negatives / max(negatives[-1], 1), positives / max(positives[-1], 1)

    return _curve(points, ("fpr", "tpr"), y_true, y_probas, labels, classes_to_plot, title)


def pr_curve(
    y_true: Sequence[Any],
    y_probas: Sequence[Sequence[float]],
    labels: Sequence[str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    interp_size: int = 21,
    title: str = "Precision-Recall Curve",
    split_table: bool = False,
) -> Chart:
    """Draw the precision over the recall, a line a class."""
    del split_table, interp_size

    def points(hits: Any, total: int) -> tuple[Any, Any]:
        import numpy as np

        positives = np.cumsum(hits)
        return positives / max(total, 1), positives / np.arange(1, len(hits) + 1)

    return _curve(points, ("recall", "precision"), y_true, y_probas, labels, classes_to_plot, title)


def _curve(
    points: Callable[[Any, int], tuple[Any, Any]],
    axes: tuple[str, str],
    y_true: Sequence[Any],
    y_probas: Sequence[Sequence[float]],
    labels: Sequence[str] | None,
    chosen: Sequence[Any] | None,
    title: str,
) -> Chart:
    import numpy as np

    truth, scores = np.asarray(y_true), np.asarray(y_probas, dtype=float)
    classes = np.unique(truth)
    rows: list[list[Any]] = []
    for at, each in enumerate(classes.tolist()):
        if chosen is not None and each not in chosen:
            continue
        column = scores[:, at] if scores.ndim == 2 else scores
        hits = (truth == each)[np.argsort(-column, kind="stable")]
        xs, ys = points(hits, int(hits.sum()))
        name = labels[at] if labels is not None else str(each)
        rows += [[name, float(x), float(y)] for x, y in zip(xs, ys, strict=True)]
    return line(Table(["class", *axes], rows), *axes, "class", title)


_PRESETS: Mapping[str, tuple[Callable[..., Chart], tuple[str, ...]]] = {
    "wandb/line": (line, ("x", "y", "stroke")),
    "wandb/lineseries": (line, ("step", "lineVal", "lineKey")),
    "wandb/area-under-curve": (line, ("x", "y", "class")),
    "wandb/scatter": (scatter, ("x", "y")),
    "wandb/bar": (bar, ("label", "value")),
    "wandb/histogram": (histogram, ("value",)),
}
