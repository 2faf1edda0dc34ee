"""All runs of a directory as one frame, for a notebook or a script."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError, RunDirError
from ridgepole.runs.row import FIELDS, TIMES, shown
from ridgepole.runs.table import RunTable

if TYPE_CHECKING:
    import polars as pl

_WHOLE = ("attempt", "seed", "trial")


def load_runs(
    root: str | Path = "runs",
    *,
    filter: str | None = None,  # noqa: A002 - the word of the command line
    sort: str | None = None,
    archived: bool = False,
) -> pl.DataFrame:
    """Load all runs of a directory into a frame, one row a run, the newest first.

    Args:
        root: The directory that holds runs.
        filter: An expression that runs must pass, such as `'lr > 1e-3 and status == "finished"'`.
        sort: Names of columns to sort by, separated by commas; `-` before a name sorts downwards.
        archived: Whether to include archived runs.

    Returns:
        A polars frame; `.to_pandas()` converts it if pyarrow is installed. It has the columns `id`,
        `name`, `tags`, `note`, `archived`, `status`, `pipeline`, `started` and `ended` (UTC),
        `seconds`, `attempt`, `seed`, `host`, `sweep`, `trial`, `error` and `path`. Then come the
        values of the config by their shortest names, such as `lr`, and the last value of each
        metric by its name, with `.best` where the name tells whether small or large is best.
        Values that are not all of one type are JSON texts.

    Raises:
        RunDirError: If the directory does not exist.
        ConfigError: If the filter or a name is wrong.
        MissingExtraError: If polars is not installed.

    Example:
        ```python
        runs = load_runs("runs", filter='status == "finished"', sort="-val/accuracy")
        ```
    """
    try:
        import polars as pl
    except ImportError as error:
        raise MissingExtraError("polars", "plots", "load_runs") from error
    folder = Path(root)
    if not folder.is_dir():
        raise RunDirError(f"{folder} is not a directory of runs; give the directory that holds them")
    table = RunTable.read(folder).archived("yes" if archived else "no").filtered(filter, "filter").sorted(sort, "sort")
    rows = table.rows
    series = [_field(name, [row.fields[name] for row in rows]) for name in FIELDS]
    series.append(pl.Series("path", [row.path for row in rows], pl.String))
    for column in table.columns():
        series.append(_values(column.label, column.values))
        if column.kind == "metric":
            best = [row.metrics.get(column.key, {}).get("best") for row in rows]
            if any(value is not None for value in best):
                series.append(_values(f"{column.label}.best", best))
    return pl.DataFrame({each.name: each for each in series})


def _field(name: str, values: Sequence[Any]) -> pl.Series:
    import polars as pl

    if name in TIMES:
        stamps = [None if value is None else round(value * 1_000_000) for value in values]
        return pl.Series(name, stamps, pl.Int64).cast(pl.Datetime("us", "UTC"))
    kinds: dict[str, pl.DataType | type[pl.DataType]] = {
        "tags": pl.List(pl.String),
        "archived": pl.Boolean,
        "seconds": pl.Float64,
    }
    kinds |= dict.fromkeys(_WHOLE, pl.Int64)
    return pl.Series(name, values, kinds.get(name, pl.String), strict=False)


def _values(name: str, values: Sequence[Any]) -> pl.Series:
    """Return values as the narrowest type that all of them have."""
    import polars as pl

    cells = [shown(value) for value in values]
    kinds = {type(value) for value in cells if value is not None}
    if kinds <= {bool}:
        return pl.Series(name, cells, pl.Boolean if kinds else pl.Null)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in cells if value is not None):
        return pl.Series(name, cells, pl.Int64)
    if kinds <= {int, float}:
        return pl.Series(name, [None if value is None else float(value) for value in cells], pl.Float64)
    if kinds == {str}:
        return pl.Series(name, cells, pl.String)
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in cells]
    return pl.Series(name, texts, pl.String)
