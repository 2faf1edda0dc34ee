"""A run's metrics as a file that pandas, R, a spreadsheet or DuckDB reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ridgepole.errors import RunDirError
from ridgepole.metrics.reader import MetricsTable, load_metrics

if TYPE_CHECKING:
    import polars as pl

_KEYS = ("step", "time")
_WHOLE = 2**53  # up to here a float holds every whole number


def read_values(directory: Path) -> MetricsTable:
    """The values of a run in the long form of `read_metrics`.

    Raises:
        RunDirError: If there are none.
        MissingExtraError: If polars is not installed.
    """
    table = load_metrics(directory)
    if table.frame.is_empty():
        raise RunDirError(f"{directory} holds no metrics yet: there is nothing to make a table of")
    return table


def widened(frame: pl.DataFrame) -> pl.DataFrame:
    """A row a step and a column a metric.

    A metric that was logged more than once at a step gets further rows of that step, so that no value is lost. A
    metric of numbers alone is a column of floats; one that holds bools, strings, sequences or whole numbers too large
    for a float is a column of text, as in the `text` column of `read_metrics`.

    Args:
        frame: What `read_metrics` gives.

    Returns:
        `step`, `time` (seconds since the epoch, when the row's first value was logged) and the metrics in the order of
        their appearance; a metric that is itself called `step` or `time` stands in `metrics/step`, `metrics/time`.
        Rows are in the order of steps.
    """
    import polars as pl

    names = frame["name"].unique(maintain_order=True).to_list()
    texts = set(frame.filter(pl.col("text").is_not_null())["name"].unique().to_list())
    # Steps and numbers as keys, names as columns of their own: a metric may be called whatever the keys are called.
    nth = pl.int_range(pl.len()).over("step", "name").alias("nth")
    cells = frame.select("step", "time", "name", "value", "text", nth)
    keys = ["step", "nth"]
    wide = cells.group_by(keys).agg(pl.col("time").min()).sort(keys)
    columns = [wide["step"], wide["time"]]
    position = wide.select(*keys).with_row_index("row")
    placed = cells.join(position, on=keys, how="left")
    labels = _labels(names)
    for (name,), part in placed.partition_by("name", as_dict=True, maintain_order=True).items():
        values = part["value"]
        if name in texts:
            values = part.select(pl.coalesce("text", _digits()))["text"]
        column = pl.repeat(None, wide.height, dtype=values.dtype, eager=True)
        columns.append(column.scatter(part["row"], values).rename(labels[str(name)]))
    return pl.DataFrame(columns)


def _digits() -> pl.Expr:
    """Numbers as text; whole ones without a fraction, as among whole numbers that are too large for a float."""
    import polars as pl

    value = pl.col("value")
    is_whole = value.abs().lt(_WHOLE) & value.eq(value.round())
    whole = pl.when(is_whole).then(value).cast(pl.Int64)
    return pl.coalesce(whole.cast(pl.String), value.cast(pl.String))


def _labels(names: list[str]) -> dict[str, str]:
    """Names of columns, all different."""
    taken = {*names, *_KEYS}
    labels = {}
    for name in names:
        label = name
        if name in _KEYS:
            label = f"metrics/{name}"
            while label in taken:
                label = f"metrics/{label}"
            taken.add(label)
        labels[name] = label
    return labels
