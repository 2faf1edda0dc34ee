"""Curves of metrics over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ridgepole.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def build_curve_figure(
    history: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str = "",
    x_label: str = "step",
    y_label: str = "",
) -> Figure:
    """Draws one line for each metric.

    Args:
        history: Steps and values of each metric; long ones are thinned for the drawing without losing a spike.
        title: Title of the figure.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.

    Returns:
        A matplotlib figure that pyplot knows nothing of.

    Raises:
        ValueError: If there is nothing to draw.
        MissingExtraError: If matplotlib is not installed.
    """
    if not history:
        raise ValueError("history is empty: there is no metric to draw")
    try:
        import numpy as np
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "a curve figure") from error
    from ridgepole.metrics.thin import thin_line

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, (steps, values) in history.items():
        x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
        order = np.argsort(x, kind="stable")  # the axis is data: records may come in any order
        x, y = x[order], y[order]
        kept = thin_line(y)
        axes.plot(x[kept], y[kept], label=name, marker="o" if len(x) <= 30 else None, markersize=4, linewidth=1.4)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure
