"""Figures of metrics over steps, and the choice of the points that a line needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ridgepole.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MAX_DRAWN = 2_000
"""Points of a line; more are invisible in a figure of some hundred pixels."""


def build_curve_figure(
    history: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str = "",
    x_label: str = "step",
    y_label: str = "",
) -> Figure:
    """Draw one line for each metric.

    Args:
        history: Steps and values of each metric; long lines are thinned and keep every spike.
        title: Title of the figure.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.

    Returns:
        A matplotlib figure that pyplot does not manage.

    Raises:
        ValueError: If the history is empty.
        MissingExtraError: If matplotlib is not installed.
    """
    if not history:
        raise ValueError("history is empty: there is no metric to draw")
    try:
        import numpy as np
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "a curve figure") from error

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, (steps, values) in history.items():
        x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
        order = np.argsort(x, kind="stable")  # records may come in any order
        x, y = x[order], y[order]
        kept = thin_line(y)
        axes.plot(x[kept], y[kept], label=name, marker="o" if len(x) <= 30 else None, markersize=4, linewidth=1.4)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def thin_line(values: NDArray[np.floating], limit: int = MAX_DRAWN) -> NDArray[np.intp]:
    """Return the rising indexes of at most `limit` points (4 or more) that keep a line's look.

    They are the first, the last, and the extremes of equal stretches (min-max downsampling),
    which keep every spike.
    """
    import numpy as np

    count = len(values)
    if count <= limit:
        return np.arange(count)
    stretches = (limit - 2) // 2
    width = count // stretches
    whole = values[: stretches * width].reshape(stretches, width)
    starts = np.arange(stretches) * width
    low = starts + np.where(np.isnan(whole), np.inf, whole).argmin(1)
    high = starts + np.where(np.isnan(whole), -np.inf, whole).argmax(1)
    chosen = [low, high, [0, count - 1]]
    rest = values[stretches * width :]
    if len(rest) and not np.isnan(rest).all():
        chosen.append([stretches * width + int(np.nanargmin(rest)), stretches * width + int(np.nanargmax(rest))])
    return np.unique(np.concatenate(chosen)).astype(np.intp)
