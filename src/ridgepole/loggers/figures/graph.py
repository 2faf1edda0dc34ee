"""`log_seaborn_graph`: draw the columns of `frame` with seaborn, on a figure of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError, did_you_mean
from ridgepole.loggers.figures.frame import Table, flat_index, make_table
from ridgepole.metrics.curves import MAX_DRAWN, thin_line

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_MANY_POINTS = 20_000  # more marks than this hide each other
_FEW_POINTS = 2_000  # seaborn places each mark of a swarm by a search
_PAGE: dict[str, Any] = {"figsize": (7, 4.5), "layout": "constrained"}
_WITHOUT_HUE = ("heatmap", "reg")
_SEED = 0  # the same data gives the same picture


@dataclass(frozen=True, slots=True)
class Kind:
    """The way a kind of graph is drawn.

    Attributes:
        function: The seaborn function; it takes `ax`.
        thin: How to thin long data: `"line"` keeps the extremes, `"sample"` and `"few"` draw rows
            at random, `""` keeps all rows, because the function bins or counts by itself.
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
    """A built graph."""

    figure: Figure
    table: Table
    drawn: int


def prepare_graph(
    name: str, data: Any, x: Any = None, y: Any = None, kind: str = "line", *, hue: Any = None
) -> Callable[[], Graph]:
    """Check the data of a graph; see `BaseLoggerManager.log_seaborn_graph` for the arguments."""
    if kind not in KINDS:
        hint = did_you_mean(str(kind), KINDS)
        raise ValueError(f"kind={kind!r} is unknown{'; ' + hint if hint else ''}; the kinds are {', '.join(KINDS)}")
    if hue is not None and (kind in _WITHOUT_HUE or (x is None and y is None)):
        raise ValueError(f"hue colours the values of x and y, and kind={kind!r} has no such colours; leave hue out")
    try:
        import seaborn as sns
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(error.name or "seaborn", "plots", "log_seaborn_graph") from error
    table = make_table(data, x, y, hue)
    if kind == "reg" and (table.x is None or table.y is None):
        raise ValueError("kind='reg' needs both x and y")
    return lambda: _build(name, table, kind, getattr(sns, KINDS[kind].function), Figure(**_PAGE))


def _build(name: str, table: Table, kind: str, draw: Callable[..., Any], figure: Figure) -> Graph:
    if not table.frame.size:
        raise ValueError("data is empty: there is nothing to draw")
    how = KINDS[kind]
    options = dict(how.options)
    if how.thin == "line" and table.rows > 2 * MAX_DRAWN:
        rows = _line_rows(table)
        options |= {"errorbar": None, "estimator": None}
    else:
        rows = _sampled(table.rows, {"": table.rows, "few": _FEW_POINTS}.get(how.thin, _MANY_POINTS))
    shown = table if len(rows) == table.rows else table.take(rows)
    axes = figure.add_subplot()
    _draw(draw, kind, shown, axes, options)
    title = "".join(letter if letter.isprintable() else " " for letter in name)
    axes.set_title(title if len(title) <= 60 else title[:59] + "…", parse_math=False)
    # A copy: the user's arrays may change before the figure is drawn and the data is written.
    return Graph(figure, table.copy(), shown.rows)


def _draw(draw: Callable[..., Any], kind: str, table: Table, axes: Any, options: dict[str, Any]) -> None:
    import pandas as pd

    frame = table.frame
    if kind == "heatmap":
        if table.x is not None and table.y is not None:
            frame = pd.crosstab(frame[table.y], frame[table.x])  # how often each pair occurs
        draw(frame, ax=axes, **options)
        return
    chosen = (("x", table.x), ("y", table.y), ("hue", table.hue))
    names: dict[str, Any] = {axis: name for axis, name in chosen if name is not None}
    if not names and len(frame.columns) == 1 and kind in ("count", "point", "bar"):
        names = {"x": frame.columns[0]}
    frame = frame.set_axis(flat_index(frame.index))
    if kind in ("line", "scatter") and "y" in names and "x" not in names:
        names["x"] = frame.index
    draw(data=frame, ax=axes, **names, **options)


def _line_rows(table: Table) -> NDArray[np.intp]:
    """Return the rows that a line needs, sorted by x: each column's extremes of each interval."""
    import numpy as np

    if table.hue is not None:
        codes, groups = table.frame[table.hue].factorize()
        parts = [np.flatnonzero(codes == group) for group in range(len(groups))]
        limit = max(4, MAX_DRAWN // max(1, len(parts)))
        kept = [part[_extremes(table.take(part), limit)] for part in parts if part.size]
        return np.unique(np.concatenate(kept)) if kept else np.arange(0)
    return _extremes(table, MAX_DRAWN)


def _extremes(table: Table, limit: int) -> NDArray[np.intp]:
    import numpy as np

    names = [table.y] if table.y else [name for name in table.frame.columns if name != table.x]
    heights = [column for name in names if (column := table.numbers(name)) is not None]
    if not heights:
        return _sampled(table.rows, _MANY_POINTS)
    order = np.arange(table.rows)
    along = table.positions()
    if along is not None:
        order = np.argsort(along, kind="stable")
    share = max(4, limit // len(heights))
    kept = [thin_line(column[order], share) for column in heights]
    chosen: NDArray[np.intp] = order[np.unique(np.concatenate(kept))]
    return chosen


def _sampled(count: int, limit: int) -> NDArray[np.intp]:
    import numpy as np

    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(_SEED).choice(count, limit, replace=False))
