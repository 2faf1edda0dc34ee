"""Reduce points to the columns of a chart, so that no spike is lost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ridgepole.view.container import Array

_LARGEST_GROWTH = 1e12
_LONGEST_BLOCK = 1024


@dataclass(slots=True, kw_only=True)
class Curve:
    """The entries of a curve, by ascending x.

    Attributes:
        x: The mean x of each entry.
        y: The mean value.
        raw: Whether each point is an entry by itself; then there are no `low`, `high` and `last`.
        more: Further arrays of the same length.
        special_x: x of values that are not finite.
        special_kind: Their kind: 1 is NaN, 2 infinity, 3 minus infinity.
    """

    x: Array
    y: Array
    raw: bool = True
    low: Array | None = None
    high: Array | None = None
    last: Array | None = None
    more: dict[str, Array] = field(default_factory=dict)
    special_x: Array = field(default_factory=lambda: np.empty(0))
    special_kind: Array = field(default_factory=lambda: np.empty(0, np.uint8))


def in_order(x: Array, *others: Array) -> tuple[Array, ...]:
    """Return points sorted by x, and without those whose x is not finite."""
    finite = np.isfinite(x)
    if not finite.all():
        x, others = x[finite], tuple(each[finite] for each in others)
    if len(x) > 1 and (x[1:] < x[:-1]).any():
        order = np.argsort(x, kind="stable")
        return (x[order], *(each[order] for each in others))
    return (x, *others)


def reduce(
    x: Array,
    y: Array,
    low: float,
    high: float,
    columns: int,
    *,
    log: bool = False,
    more: dict[str, Array] | None = None,
) -> Curve:
    """Reduce points to at most about `columns` entries.

    Args:
        x: Ascending.
        y: The values, which may be infinite or NaN.
        low: The smallest x that is shown; one point before it is kept.
        high: The largest x that is shown; one point after it is kept.
        columns: The number of columns of the chart.
        log: Whether columns are of equal width in log10(x); x is positive then.
        more: Further arrays, of which each entry has the mean.
    """
    more = more or {}
    first = max(0, int(np.searchsorted(x, low, "left")) - 1)
    end = min(len(x), int(np.searchsorted(x, high, "right")) + 1)
    x, y = x[first:end], y[first:end]
    more = {name: array[first:end] for name, array in more.items()}
    special_x: Array = np.empty(0)
    special_kind: Array = np.empty(0, np.uint8)
    finite = np.isfinite(y)
    if not finite.all():
        special_x, special_kind = _special(x[~finite], y[~finite], low, high, columns)
        x, y = x[finite], y[finite]
        more = {name: array[finite] for name, array in more.items()}
    curve = Curve(x=x, y=y, more=more, special_x=special_x, special_kind=special_kind)
    return curve if len(x) <= 2 * columns else _binned(curve, low, high, columns, log)


def _binned(curve: Curve, low: float, high: float, columns: int, log: bool) -> Curve:
    x, y = curve.x, curve.y
    edges = np.geomspace(low, high, columns + 1) if log else np.linspace(low, high, columns + 1)
    starts = np.unique(
        np.concatenate([[0], np.searchsorted(x, edges[:-1], "left"), np.searchsorted(x, [high], "right")])
    )
    starts = starts[starts < len(x)]
    counts = np.diff(np.append(starts, len(x)))

    def mean(array: Array) -> Array:
        return np.asarray(np.add.reduceat(array, starts) / counts)

    with np.errstate(over="ignore"):
        curve.y = np.clip(mean(y), low_y := np.minimum.reduceat(y, starts), high_y := np.maximum.reduceat(y, starts))
    curve.x, curve.low, curve.high = mean(x), low_y, high_y
    curve.last = y[starts + counts - 1]
    curve.more = {name: mean(array) for name, array in curve.more.items()}
    curve.raw = False
    return curve


def _special(x: Array, y: Array, low: float, high: float, columns: int) -> tuple[Array, Array]:
    """Return x and kind of values that are not finite, at most one of a kind a column."""
    kind = np.where(np.isnan(y), 1, np.where(y > 0, 2, 3)).astype(np.uint8)
    width = (high - low) / columns or 1.0
    slot = np.floor((x - low) / width) * 4 + kind
    _, first = np.unique(slot, return_index=True)
    first.sort()
    return x[first], kind[first]


def moving_average(y: Array, weight: float) -> Array:
    """Return the debiased exponential moving average of values; skip those that are not finite.

    `s = weight * s + (1 - weight) * y`, divided by `1 - weight ** n` after n values, as the bias
    correction of Adam does (Kingma and Ba 2015).
    """
    finite = np.isfinite(y)
    if weight <= 0 or not finite.any():
        return y
    values = y[finite]
    length = min(_LONGEST_BLOCK, max(1, int(np.log(_LARGEST_GROWTH) / -np.log(weight))))
    padded = np.zeros(-(-len(values) // length) * length)
    padded[: len(values)] = values
    blocks = padded.reshape(-1, length)
    powers = weight ** np.arange(length)
    inside = np.cumsum(blocks / powers, axis=1) * powers * (1 - weight)
    carried = np.empty(len(blocks))
    total, factor = 0.0, weight**length
    for index, end in enumerate(inside[:, -1]):
        carried[index] = total
        total = end + factor * total
    smooth = (inside + carried[:, None] * (powers * weight)).reshape(-1)[: len(values)]
    smooth /= 1 - weight ** np.arange(1, len(values) + 1)
    if finite.all():
        return np.asarray(smooth)
    result = np.full(len(y), np.nan)
    result[finite] = smooth
    return result
