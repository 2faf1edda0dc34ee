"""Confusion matrices, counted with numpy and drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ridgepole.errors import MissingExtraError
from ridgepole.metrics.convert import to_array

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

Normalize = Literal["true", "pred", "all"]

_MAX_WRITTEN = 30  # with more classes the numbers in the cells are illegible
_MAX_TICK_LETTERS = 40  # more do not fit side by side below the axis
_MAX_TABLE = 1 << 20  # integers up to this range are looked up in a table instead of being searched


def count_confusions(
    targets: Any, predictions: Any, labels: Sequence[Any] | None = None, *, ignore_index: int | None = None
) -> tuple[NDArray[np.int64], list[Any]]:
    """Count each pair of a true and a predicted label.

    Args:
        targets: The true labels: integers, bools or strings in a sequence, array or tensor.
        predictions: The predicted labels, as many as targets.
        labels: The classes in the order of the axes; by default the sorted labels of the data.
        ignore_index: Leave out the pairs whose true label is this one, as losses of torch do.

    Returns:
        A matrix with a row for each true and a column for each predicted label, and the labels.

    Raises:
        ValueError: If the lengths differ, there are no labels, `labels` has a duplicate, or a
            label is not among `labels`.
        MissingExtraError: If numpy is not installed.
    """
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtraError("numpy", "plots", "a confusion matrix") from error
    true, predicted = _flat(targets), _flat(predictions)
    if true.size != predicted.size:
        raise ValueError(f"targets has {true.size} labels, predictions {predicted.size}; they must be of one length")
    if ignore_index is not None:
        counted = true != (str(ignore_index) if true.dtype.kind in "US" else ignore_index)
        true, predicted = true[counted], predicted[counted]
    if true.dtype.kind in "US" or predicted.dtype.kind in "US":
        true, predicted = true.astype(str), predicted.astype(str)
    if labels is None:
        if not true.size:
            raise ValueError("targets and predictions are empty, and labels are not given")
        classes = np.union1d(_unique(true), _unique(predicted))
    else:
        classes = np.asarray(labels)
        if classes.ndim != 1 or not classes.size or len(set(classes.tolist())) != classes.size:
            raise ValueError("labels must be a sequence of different classes")
    count = classes.size
    cells = _positions(true, classes, "targets") * count + _positions(predicted, classes, "predictions")
    matrix = np.bincount(cells, minlength=count * count).reshape(count, count)
    return matrix.astype(np.int64, copy=False), classes.tolist()


def _flat(labels: Any) -> NDArray[Any]:
    import numpy as np

    numbers = to_array(labels)
    array = (np.asarray(labels) if numbers is None else numbers).ravel()
    if array.dtype.kind == "f":  # whole numbers stored as floats
        if not np.isfinite(array).all():
            raise ValueError("labels are NaN or infinite; give class numbers or names")
        whole = array.astype(np.int64)
        if not np.array_equal(whole, array):
            raise ValueError("labels are fractions; give class numbers (an argmax of the scores) or names")
        return whole
    if array.dtype.kind == "O":
        return array.astype(str)
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def _unique(array: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    if array.size and array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if high - low < _MAX_TABLE:  # counting is linear where sorting is not
            seen = np.bincount((array - low).astype(np.int64, copy=False))
            return np.flatnonzero(seen) + low
    return np.unique(array)


def _positions(array: NDArray[Any], classes: NDArray[Any], argument: str) -> NDArray[np.int64]:
    """Return the index of each label among the classes."""
    import numpy as np

    order = np.argsort(classes, kind="stable")
    ordered = classes[order]
    if not array.size:
        return np.zeros(0, np.int64)
    if array.dtype.kind in "iu" and classes.dtype.kind in "iu" and int(ordered[-1]) - int(ordered[0]) < _MAX_TABLE:
        low, high = int(ordered[0]), int(ordered[-1])
        table = np.full(high - low + 1, -1, np.int64)
        table[classes - low] = np.arange(classes.size)
        inside = (array >= low) & (array <= high)
        found = np.where(inside, table[np.where(inside, array - low, 0)], -1)
    else:
        if (array.dtype.kind in "iu") != (classes.dtype.kind in "iu"):
            raise ValueError(f"{argument} and labels must both be integers or both be text")
        at = np.minimum(np.searchsorted(ordered, array), classes.size - 1)
        found = np.where(ordered[at] == array, order[at], -1)
    if (found < 0).any():
        strange = array[int(np.argmax(found < 0))].item()
        raise ValueError(f"{argument} has the label {strange!r}, which is not among labels")
    return found


def build_confusion_matrix_figure(
    targets: Any,
    predictions: Any,
    *,
    labels: Sequence[Any] | None = None,
    normalize: Normalize | None = None,
    title: str = "Confusion matrix",
    display_labels: Sequence[str] | None = None,
    ignore_index: int | None = None,
) -> Figure:
    """Draw a confusion matrix; the labels are as in `count_confusions`.

    Args:
        targets: The true labels.
        predictions: The predicted labels.
        labels: The classes in the order of the axes.
        normalize: `"true"` divides each row by its sum, `"pred"` each column, `"all"` everything;
            None shows counts.
        title: Title of the figure.
        display_labels: Text for the axes instead of the labels, one for each.
        ignore_index: As in `count_confusions`.

    Returns:
        A matplotlib figure that pyplot does not manage.

    Raises:
        ValueError: For wrong labels, an unknown `normalize`, or a wrong number of display labels.
        MissingExtraError: If numpy or matplotlib is not installed.
    """
    if normalize not in (None, "true", "pred", "all"):
        raise ValueError(f"normalize must be 'true', 'pred', 'all' or None, not {normalize!r}")
    matrix, classes = count_confusions(targets, predictions, labels, ignore_index=ignore_index)
    names = [str(name) for name in (classes if display_labels is None else display_labels)]
    if len(names) != len(classes):
        raise ValueError(f"display_labels has {len(names)} names for {len(classes)} labels")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "a confusion matrix figure") from error
    shown = _normalized(matrix, normalize)
    side = min(max(4.0, 0.5 * len(names) + 1.5), 16.0)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shown, cmap="Blues", vmin=0)
    figure.colorbar(image, ax=axes, fraction=0.046)
    _label(axes, names, title)
    if len(names) <= _MAX_WRITTEN:
        _write_numbers(axes, shown, "{:.2f}" if normalize else "{:d}")
    return figure


def _normalized(matrix: NDArray[np.int64], normalize: Normalize | None) -> NDArray[Any]:
    import numpy as np

    if normalize is None:
        return matrix
    total = {"true": matrix.sum(1, keepdims=True), "pred": matrix.sum(0, keepdims=True), "all": matrix.sum()}[normalize]
    shares: NDArray[np.float64] = matrix / np.maximum(total, 1)  # zeros, not NaN
    return shares


def _label(axes: Any, names: Sequence[str], title: str) -> None:
    step = max(1, len(names) // 40)
    ticks = range(0, len(names), step)
    shown = [names[i] for i in ticks]
    axes.set_xticks(ticks, shown, rotation=90 if sum(map(len, shown)) > _MAX_TICK_LETTERS else 0)
    axes.set_yticks(ticks, shown)
    axes.set(xlabel="predicted", ylabel="true", title=title)


def _write_numbers(axes: Any, shown: NDArray[Any], form: str) -> None:
    half = shown.max() / 2
    size = 9 if len(shown) <= 12 else 6
    for row, line in enumerate(shown):
        for column, value in enumerate(line):
            # Zeros are grey, so that the few mistakes of a good classifier stand out.
            colour = "0.75" if value == 0 else "white" if value > half else "black"
            axes.text(column, row, form.format(value.item()), ha="center", va="center", color=colour, fontsize=size)
