"""The data of a graph as a pandas frame: labels, order and categories as they were given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError, did_you_mean
from ridgepole.metrics.convert import column_label, index_columns, shape_of, to_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame


@dataclass(slots=True)
class Table:
    """Columns to draw.

    Attributes:
        frame: The columns, all with different names, and the index of the data.
        x: Name of the x column; None if the whole table is drawn.
        y: Name of the y column.
        hue: Name of the column that colours.
    """

    frame: DataFrame
    x: str | None = None
    y: str | None = None
    hue: str | None = None

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.frame)

    def take(self, rows: NDArray[np.intp]) -> Table:
        """Return the table with only the given rows."""
        return Table(self.frame.iloc[rows], self.x, self.y, self.hue)

    def copy(self) -> Table:
        """Return a copy of the table."""
        return Table(self.frame.copy(), self.x, self.y, self.hue)

    def numbers(self, name: str) -> NDArray[np.float64] | None:
        """Return a column of numbers; None if it holds something else."""
        column = self.frame[name]
        return column.to_numpy("float64") if getattr(column.dtype, "kind", "O") in "fiub" else None

    def positions(self) -> NDArray[Any] | None:
        """Return what lies along the x axis, if that has an order other than that of the rows."""
        along = self.frame.index if self.x is None else self.frame[self.x]
        return along.to_numpy() if getattr(along.dtype, "kind", "O") in "fiubM" else None

    def write(self, path: Path) -> None:
        """Write the columns, the index first, to a parquet file; needs polars."""
        try:
            import polars as pl
        except ImportError as error:
            raise MissingExtraError("polars", "plots", "keeping a graph's data") from error
        columns = index_columns(self.frame) | {name: self.frame[name] for name in self.frame.columns}
        pl.DataFrame([_series(name, column) for name, column in columns.items()]).write_parquet(path)


def make_table(data: Any, x: Any = None, y: Any = None, hue: Any = None) -> Table:
    """Convert pandas, polars, mappings, sequences and arrays to a table.

    Args:
        data: A pandas or polars frame or series, a mapping of columns, a sequence of numbers, or an
            array of one or two dimensions; None if `x` and `y` are the data themselves.
        x: Name of a column or of a level of the index, or the values themselves.
        y: As `x`.
        hue: As `x`.

    Returns:
        A table with the chosen columns if `x`, `y` or `hue` is given, else with all columns.
    """
    whole = None if data is None else _frame(data)
    known = {} if whole is None else {name: whole[name] for name in whole.columns}
    index = {} if whole is None else index_columns(whole)
    chosen: dict[str, Any] = {}
    names: dict[str, str] = {}
    for argument, wanted in (("x", x), ("y", y), ("hue", hue)):
        if wanted is None:
            continue
        name = _name_of(wanted, data)
        if name is None:
            given = column_label(own) if (own := getattr(wanted, "name", None)) is not None else argument
            # Two series of one name are two columns
            name = given if given not in {**known, **chosen} else f"{given} ({argument})"
            column = _column(wanted, argument)
        else:
            if name not in known and name not in index:
                raise ValueError(_no_column(argument, name, [*known, *index]))
            column = known[name] if name in known else index[name]
        chosen[name] = column
        names[argument] = name
    if names:
        whole = _assembled(chosen, y if whole is None else whole)
    return Table(_frame({}) if whole is None else whole, **names)


def _assembled(columns: Mapping[str, Any], indexed: Any) -> DataFrame:
    """Make a frame of columns by position, with the index of the data, or of y if it has one."""
    import pandas as pd

    _check_lengths({name: len(column) for name, column in columns.items()})
    length = len(next(iter(columns.values())))
    has_index = isinstance(indexed, pd.DataFrame | pd.Series) and len(indexed) == length
    along = indexed.index if has_index else None
    plain = {name: getattr(column, "array", column) for name, column in columns.items()}
    return pd.DataFrame(plain, index=along)


def _check_lengths(lengths: Mapping[str, int]) -> None:
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns differ in length: {', '.join(f'{k!r} has {n}' for k, n in lengths.items())}")


def _name_of(wanted: Any, data: Any) -> str | None:
    """Return the name of a column; None for values."""
    if isinstance(wanted, str | int) and not isinstance(wanted, bool):
        return str(wanted)
    if isinstance(wanted, tuple) and getattr(getattr(data, "columns", None), "nlevels", 1) == len(wanted):
        return column_label(wanted)  # of a MultiIndex
    return None


def _no_column(argument: str, name: str, known: list[str]) -> str:
    shown = ", ".join(repr(each) for each in known[:20]) + (", …" if len(known) > 20 else "")
    hint = did_you_mean(name, known)
    return f"{argument}={name!r}: data has no such column; it has {shown or 'none'}{'; ' + hint if hint else ''}"


def _frame(data: Any) -> DataFrame:
    import pandas as pd

    if isinstance(data, pd.Series):
        data = data.to_frame("value" if data.name is None else data.name)
    if isinstance(data, Mapping):
        series = [values for values in data.values() if isinstance(values, pd.Series)]
        shared = len(series) == len(data) and all(each.index.equals(series[0].index) for each in series)
        index, parts = series[0].index if series and shared else None, list(data.items())
    elif hasattr(data, "columns") and hasattr(data, "shape"):  # a pandas or polars frame
        index = data.index if isinstance(data, pd.DataFrame) else None
        by_place = data.iloc if isinstance(data, pd.DataFrame) else None
        parts = [(name, data[name] if by_place is None else by_place[:, n]) for n, name in enumerate(data.columns)]
    else:
        index, parts = None, _of_array(data)
    columns: dict[str, Any] = {}
    for given, values in parts:
        name = column_label(given)
        if name in columns:
            raise ValueError(f"data has two columns named {name!r}, so the name is ambiguous; rename one")
        columns[name] = _column(values, repr(name))
    _check_lengths({name: len(column) for name, column in columns.items()})
    frame = pd.DataFrame(columns, index=index)
    if index is not None:
        for name in index.names:
            if name is not None and column_label(name) in columns:
                label = column_label(name)
                raise ValueError(f"{label!r} is both a column and the index of data, which is ambiguous; rename one")
    return frame


def _of_array(data: Any) -> list[tuple[Any, Any]]:
    import numpy as np

    if isinstance(data, str | bytes) or not (hasattr(data, "__len__") or hasattr(data, "__array__")):
        raise TypeError(
            f"data is a {type(data).__name__}; give a pandas or polars frame, a mapping of columns, or an array"
        )
    array = to_array(data)
    if array is None:
        try:
            array = np.asarray(data if hasattr(data, "__array__") else list(data))
        except ValueError as error:
            raise ValueError(f"the rows of the data differ in length: {error}") from error
    if array.ndim == 1:
        name = getattr(data, "name", None)
        return [("value" if name in (None, "") else name, array)]
    if array.ndim == 2:
        return [(number, array[:, number]) for number in range(array.shape[1])]
    raise ValueError(f"data is an array of shape {array.shape}; give one of one or two dimensions")


def _column(values: Any, what: str) -> Any:
    """Return one column as an array that pandas takes; categories keep their order."""
    import numpy as np
    import pandas as pd

    if isinstance(values, pd.Series | pd.Index):
        if isinstance(values.dtype, pd.CategoricalDtype | pd.DatetimeTZDtype) or values.dtype.kind == "M":
            return values.array
    elif (ordered := _polars_categories(values)) is not None:
        return pd.Categorical(values.to_list(), categories=ordered, ordered=True)
    array = to_array(values) if shape_of(values) is not None or isinstance(values, list | tuple) else None
    if array is None:
        if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
            raise TypeError(f"the column {what} is a {type(values).__name__}; give a sequence or an array")
        items = list(values)
        if any(isinstance(item, list | tuple | np.ndarray) for item in items):
            raise ValueError(f"the column {what} must be one-dimensional; it holds sequences")
        return pd.Series(items).array
    if array.ndim != 1:
        raise ValueError(f"the column {what} must be one-dimensional, not of shape {array.shape}")
    return array


def _polars_categories(values: Any) -> list[str] | None:
    kind = type(getattr(values, "dtype", None)).__name__
    if kind not in ("Enum", "Categorical") or not hasattr(values, "cat"):
        return None
    found: list[str] = (values.dtype.categories if kind == "Enum" else values.unique(maintain_order=True)).to_list()
    return list(filter(None, found))


def flat_index(index: Any) -> Any:
    """Return an index of one level: the levels of a row joined with `/`."""
    import pandas as pd

    if index.nlevels == 1:
        return index
    names = None if None in index.names else "/".join(map(str, index.names))
    return pd.Index([column_label(row) for row in index], name=names)


def _series(name: str, column: Any) -> Any:
    import pandas as pd
    import polars as pl

    missing = column.isna()
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = [str(each) for each in column.dtype.categories]
        texts = [None if gone else str(item) for item, gone in zip(column, missing, strict=True)]
        kind = pl.Enum(categories) if len(set(categories)) == len(categories) else pl.String
        return pl.Series(name, texts, dtype=kind)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return pl.Series(
            name, [None if gone else item.to_pydatetime() for item, gone in zip(column, missing, strict=True)]
        )
    if getattr(column.dtype, "kind", "O") in "fiubmM":
        return pl.Series(name, column.to_numpy())
    # parquet has no type for mixed values
    texts = [None if gone else str(item) for item, gone in zip(column, missing, strict=True)]
    return pl.Series(name, texts, dtype=pl.String)
