"""What users hand in as data, as named columns of one length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Columns = dict[str, "NDArray[Any]"]


@dataclass(slots=True)
class Table:
    """Columns to draw.

    Attributes:
        columns: Names and one-dimensional arrays of one length.
        x: Which column is x; None where the whole table is drawn.
        y: Which column is y.
    """

    columns: Columns
    x: str | None = None
    y: str | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.columns.values())))

    def take(self, rows: NDArray[np.intp]) -> Table:
        """The same table with those rows alone."""
        return Table({name: column[rows] for name, column in self.columns.items()}, self.x, self.y)

    def copy(self) -> Table:
        """The same table, in memory of its own."""
        return Table({name: column.copy() for name, column in self.columns.items()}, self.x, self.y)

    def write(self, path: Path) -> None:
        """Writes the columns to a parquet file; needs polars."""
        try:
            import polars as pl
        except ImportError as error:
            raise MissingExtraError("polars", "plots", "keeping a graph's data") from error
        pl.DataFrame([_series(name, column) for name, column in self.columns.items()]).write_parquet(path)


def make_table(data: Any, x: Any = None, y: Any = None) -> Table:
    """Brings pandas, polars, mappings, sequences and arrays into one form.

    Args:
        data: A pandas or polars frame or series, a mapping of columns, a sequence of numbers, or an array of one or
            two dimensions; None where `x` and `y` are the data themselves.
        x: Name of a column, or the values themselves.
        y: Name of a column, or the values themselves.

    Returns:
        The table: with the chosen columns alone where `x` or `y` is given, else with all.

    Raises:
        TypeError: If the data is of another kind.
        ValueError: If a named column is missing, columns differ in length, or there is nothing to draw.
        MissingExtraError: If numpy is not installed.
    """
    try:
        import numpy  # noqa: F401, ICN001 - asked for here, so that the error names the extra
    except ImportError as error:
        raise MissingExtraError("numpy", "plots", "log_seaborn_graph") from error
    columns = {} if data is None else _columns(data)
    chosen: Columns = {}
    names: dict[str, str | None] = {"x": None, "y": None}
    for argument, wanted in (("x", x), ("y", y)):
        if wanted is None:
            continue
        if isinstance(wanted, str | int) and not isinstance(wanted, bool):
            name = str(wanted)
            if name not in columns:
                raise ValueError(_no_column(argument, name, list(columns)))
            chosen[name] = columns[name]
        else:
            name = str(getattr(wanted, "name", None) or argument)
            chosen[name] = _column(wanted, argument)
        names[argument] = name
    table = Table(chosen or columns, names["x"], names["y"])
    lengths = {name: len(column) for name, column in table.columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns differ in length: {', '.join(f'{k!r} has {n}' for k, n in lengths.items())}")
    if not lengths or not table.rows:
        raise ValueError("data is empty: there is nothing to draw")
    return table


def _no_column(argument: str, name: str, known: list[str]) -> str:
    shown = ", ".join(repr(each) for each in known[:20]) + (", …" if len(known) > 20 else "")
    hint = did_you_mean(name, known)
    return f"{argument}={name!r}: data has no such column; it has {shown or 'none'}{'; ' + hint if hint else ''}"


def _columns(data: Any) -> Columns:
    import numpy as np

    if isinstance(data, Mapping):
        return {str(name): _column(values, repr(name)) for name, values in data.items()}
    if hasattr(data, "columns") and hasattr(data, "shape"):  # a pandas or polars frame
        return {str(name): _column(data[name], repr(name)) for name in data.columns}
    if isinstance(data, str | bytes) or not (hasattr(data, "__len__") or hasattr(data, "__array__")):
        raise TypeError(
            f"data is a {type(data).__name__}; give a pandas or polars frame, a mapping of columns, or an array"
        )
    array = _array(data)
    if array.ndim == 1:
        return {str(getattr(data, "name", None) or "value"): array}
    if array.ndim == 2:
        return {str(number): array[:, number] for number in range(array.shape[1])}
    raise ValueError(f"data is an array of shape {np.shape(array)}; give one of one or two dimensions")


def _column(values: Any, what: str) -> NDArray[Any]:
    array = _array(values)
    if array.ndim != 1:
        raise ValueError(f"the column {what} must be one-dimensional, not of shape {array.shape}")
    return array


def _array(values: Any) -> NDArray[Any]:
    import numpy as np

    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
        return np.asarray(values)
    if hasattr(values, "to_numpy"):
        return np.asarray(values.to_numpy())
    try:
        return np.asarray(values if hasattr(values, "__array__") else list(values))
    except ValueError as error:
        raise ValueError(f"the rows of the data differ in length: {error}") from error


def _series(name: str, column: NDArray[Any]) -> Any:
    import polars as pl

    if column.dtype.kind == "O":  # mixed values have no type of their own in a file of columns
        return pl.Series(name, [None if item is None else str(item) for item in column], dtype=pl.String)
    return pl.Series(name, column)
