"""`log_seaborn_graph`: one table of kinds, drawn by seaborn on a figure of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError, did_you_mean
from ridgepole.metrics.thin import MAX_DRAWN, thin_line
from ridgepole.permanences.loggers.figures.table import Table, make_table

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_MANY_POINTS = 20_000  # more marks than this hide each other
_FEW_POINTS = 2_000  # seaborn places each mark of a swarm by a search
_PAGE: dict[str, Any] = {"figsize": (7, 4.5), "layout": "constrained"}
_SEED = 0  # the same data gives the same picture


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of graph is drawn.

    Attributes:
        function: The seaborn function; it takes `ax`.
        thin: What to leave out of very long data for the drawing: `"line"` keeps the extremes, `"sample"` draws at
            random, `""` nothing, because the function bins or counts by itself.
        options: Arguments for the function.
    """

    function: str
    thin: str = ""
    options: tuple[tuple[str, Any], ...] = ()


KINDS: dict[str, Kind] = {
    "line": Kind("lineplot", "line"),
    "scatter": Kind("scatterplot", "sample"),
    "reg": Kind("regplot", "sample"),
    "bar": Kind("barplot"),
    "count": Kind("countplot"),
    "point": Kind("pointplot"),
    "hist": Kind("histplot"),
    "kde": Kind("kdeplot", "sample"),
    "ecdf": Kind("ecdfplot", "sample"),
    "rug": Kind("rugplot", "sample"),
    "box": Kind("boxplot"),
    "boxen": Kind("boxenplot"),
    "violin": Kind("violinplot", "sample"),
    "strip": Kind("stripplot", "sample"),
    "swarm": Kind("swarmplot", "few"),
    "heatmap": Kind("heatmap", "", (("cmap", "viridis"),)),
}


@dataclass(slots=True)
class Graph:
    """A built graph.

    Attributes:
        figure: The figure, which pyplot knows nothing of.
        table: The data, whole.
        drawn: How many rows of it were drawn.
    """

    figure: Figure
    table: Table
    drawn: int


def prepare_graph(name: str, data: Any, x: Any = None, y: Any = None, kind: str = "line") -> Callable[[], Graph]:
    """Checks what a graph is to be drawn from; see `BaseLoggerManager.log_seaborn_graph` for the arguments.

    Returns:
        A function that draws. It raises whatever seaborn raises.

    Raises:
        ValueError: If the kind is unknown, or as in `make_table`.
        TypeError: As in `make_table`.
        MissingExtraError: If seaborn is not installed.
    """
    if kind not in KINDS:
        hint = did_you_mean(str(kind), KINDS)
        raise ValueError(f"kind={kind!r} is unknown{'; ' + hint if hint else ''}; the kinds are {', '.join(KINDS)}")
    table = make_table(data, x, y)
    try:
        import seaborn as sns
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(error.name or "seaborn", "plots", "log_seaborn_graph") from error
    if kind == "reg" and (table.x is None or table.y is None):
        raise ValueError("kind='reg' needs both x and y")
    return lambda: _build(name, table, kind, getattr(sns, KINDS[kind].function), Figure(**_PAGE))


def _build(name: str, table: Table, kind: str, draw: Callable[..., Any], figure: Figure) -> Graph:
    how = KINDS[kind]
    options = dict(how.options)
    if how.thin == "line" and table.rows > 2 * MAX_DRAWN:
        rows = _line_rows(table)
        options |= {"errorbar": None, "estimator": None}
    else:
        rows = _sampled(table.rows, {"": table.rows, "few": _FEW_POINTS}.get(how.thin, _MANY_POINTS))
    shown = table if len(rows) == table.rows else table.take(rows)
    axes = figure.add_subplot()
    _draw(draw, kind, shown, rows, axes, options)
    title = "".join(letter if letter.isprintable() else " " for letter in name)
    axes.set_title(title if len(title) <= 60 else title[:59] + "…", parse_math=False)
    # A copy, as the figure may be drawn, and the data written, when the user's arrays have changed.
    return Graph(figure, table.copy(), shown.rows)


def _draw(
    draw: Callable[..., Any], kind: str, table: Table, rows: NDArray[np.intp], axes: Any, options: dict[str, Any]
) -> None:
    import pandas as pd

    # Rows keep their numbers: where no x is given they are the horizontal axis, also of a thinned line.
    frame = pd.DataFrame(table.columns, index=rows)
    if kind == "heatmap":
        if table.x is not None and table.y is not None:
            frame = pd.crosstab(frame[table.y], frame[table.x])  # how often each pair occurs
        draw(frame, ax=axes, **options)
        return
    names: dict[str, Any] = {axis: name for axis, name in (("x", table.x), ("y", table.y)) if name is not None}
    if not names and len(table.columns) == 1 and kind in ("count", "point", "bar"):
        names = {"x": next(iter(table.columns))}
    if kind in ("line", "scatter") and "y" in names and "x" not in names:
        names["x"] = rows
    draw(data=frame, ax=axes, **names, **options)


def _line_rows(table: Table) -> NDArray[np.intp]:
    """The rows that a line's drawing needs, along x: the extremes of each stretch, of each column that is drawn."""
    import numpy as np

    heights = [table.columns[table.y]] if table.y else [c for name, c in table.columns.items() if name != table.x]
    heights = [column for column in heights if column.dtype.kind in "fiub"]
    if not heights:
        return _sampled(table.rows, _MANY_POINTS)
    order = np.arange(table.rows)
    if table.x is not None and table.columns[table.x].dtype.kind in "fiubM":
        order = np.argsort(table.columns[table.x], kind="stable")
    limit = max(4, MAX_DRAWN // len(heights))
    kept = [thin_line(column[order].astype(np.float64), limit) for column in heights]
    chosen: NDArray[np.intp] = order[np.unique(np.concatenate(kept))]
    return chosen


def _sampled(count: int, limit: int) -> NDArray[np.intp]:
    import numpy as np

    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(_SEED).choice(count, limit, replace=False))
