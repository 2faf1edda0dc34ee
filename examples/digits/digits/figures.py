"""Draw the pictures. Colours are Okabe and Ito's, which everyone can tell apart."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor

from digits.data import Part

BLUE, ORANGE = "#0072B2", "#D55E00"


def draw_learning_curves(metrics: pl.DataFrame) -> Figure:
    """Draw the loss of every step, and below it the validation accuracy of every epoch."""
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    above.set(title="Learning curves", ylabel="training loss", yscale="log")
    steps, loss = _curve(metrics, "loss")
    above.plot(steps, loss, color=BLUE, alpha=0.3, linewidth=1, label="each step")
    above.plot(steps, _smooth(loss), color=BLUE, linewidth=2, label="smoothed")
    above.legend(frameon=False)
    below.set(xlabel="step", ylabel="validation accuracy")
    steps, accuracy = _curve(metrics, "validation/accuracy")
    below.plot(steps, accuracy, color=ORANGE, marker="o", markersize=4)
    below.annotate(f"{accuracy[-1]:.1%}", (steps[-1], accuracy[-1]), (8, 0), textcoords="offset points", va="center")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    below.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    below.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _curve(metrics: pl.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    rows = metrics.filter(pl.col("name") == name).sort("step")
    return rows["step"].to_numpy(), rows["value"].cast(pl.Float64).to_numpy()


def _smooth(values: np.ndarray, most: int = 10) -> np.ndarray:
    """Return the mean of each value and up to `most` neighbours on either side, equally many."""
    ends = np.minimum(np.arange(len(values)), np.arange(len(values))[::-1])
    return np.array([values[i - reach : i + reach + 1].mean() for i, reach in enumerate(ends.clip(max=most))])


def draw_misread_digits(part: Part, likelihoods: Tensor, most: int = 24) -> Figure:
    """Draw the images that were misread, the surest mistakes first."""
    sureness, read = likelihoods.max(dim=1)
    misread = (read != part.labels).nonzero().flatten()
    worst = misread[sureness[misread].argsort(descending=True)][:most]
    columns = min(max(len(worst), 3), 6)
    rows = max(1, -(-len(worst) // columns))
    figure = Figure(figsize=(1.6 * columns, 2 * rows + 0.5), layout="constrained")
    figure.suptitle(_headline(len(misread), len(part.labels), len(worst)))
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, index in zip(grid, worst.tolist(), strict=False):
        _draw_digit(axes, part.images[index, 0], part.labels[index].item(), read[index].item(), sureness[index].item())
    for axes in grid[len(worst) :]:
        axes.set_axis_off()
    return figure


def _headline(misread: int, of: int, shown: int) -> str:
    if not misread:
        return f"All {of} test digits were read rightly"
    return f"{misread} of {of} test digits misread" + (f", the {shown} surest mistakes" if shown < misread else "")


def _draw_digit(axes: Axes, image: Tensor, true: int, read: int, sureness: float) -> None:
    axes.imshow(image.cpu().numpy(), cmap="gray_r", vmin=0, vmax=1)
    axes.set_title(f"is {true}, read as {read}\n{sureness:.0%} sure", fontsize=9)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("0.7")
