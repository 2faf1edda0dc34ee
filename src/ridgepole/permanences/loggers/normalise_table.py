"""Tables as users hand them in, brought into columns of plain values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from ridgepole.errors import did_you_mean
from ridgepole.metrics.values import Scalar
from ridgepole.permanences.loggers.normalise import checked_text, plain_cell
from ridgepole.permanences.loggers.payloads import Table

_PLAIN = {bool, float, type(None)}  # what needs no look at each value; an int may be too large, a text no text
_TIMES = (dt.date, dt.time, dt.timedelta)

FORMS = "a pandas or polars frame, a mapping of columns, a list of mappings or rows, or an array of two dimensions"


def plain_table(data: Any, columns: Sequence[str] | None = None) -> Table:
    """Brings a table into one form; see `BaseLoggerManager.log_table` for the arguments.

    Returns:
        The table, which shares nothing with what was given.

    Raises:
        TypeError: If the data, or a value in it, is of another type.
        ValueError: If columns or rows differ in length, or two columns have one name.
    """
    names, parts = _columns(data, _names(columns))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"data has two columns named {twice!r}; rename one")
    lengths = {len(part) for part in parts}
    if len(lengths) > 1:
        shown = ", ".join(f"{name!r} has {len(part)}" for name, part in zip(names, parts, strict=True))
        raise ValueError(f"the columns of data differ in length: {shown}")
    plain = [_plain_column(name, part) for name, part in zip(names, parts, strict=True)]
    return Table(tuple(names), tuple(zip(*plain, strict=True)))


def _names(columns: object) -> list[str] | None:
    if columns is None:
        return None
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise TypeError(f"columns must be a list of names, not {type(columns).__name__}")
    return [_name(column) for column in columns]


def _name(column: object) -> str:
    return checked_text(column if isinstance(column, str) else str(column), "the name of a column of data")


def _columns(data: Any, chosen: list[str] | None) -> tuple[list[str], list[list[Any]]]:
    if isinstance(data, Mapping):
        return _choose({_name(key): _list(part, f"data[{key!r}]") for key, part in data.items()}, chosen)
    if hasattr(data, "columns") and hasattr(data, "shape"):  # a pandas or polars frame
        return _frame(data, chosen)
    if isinstance(getattr(data, "shape", None), tuple):
        if len(data.shape) != 2:
            raise ValueError(f"data is an array of shape {tuple(data.shape)}; a table has two dimensions")
        data, width = _list(data, "data"), data.shape[1]
        return _rows(data, chosen or [str(number) for number in range(width)])
    if not isinstance(data, list | tuple):
        raise TypeError(f"data is a {type(data).__name__}; give {FORMS}")
    if any(isinstance(row, Mapping) for row in data):
        return _mappings(data, chosen)
    width = len(data[0]) if data and hasattr(data[0], "__len__") else 0
    return _rows(data, chosen or [str(number) for number in range(width)])


def _frame(data: Any, chosen: list[str] | None) -> tuple[list[str], list[list[Any]]]:
    names = [_name(column) for column in data.columns]
    if hasattr(data, "iloc"):  # by place: names of pandas' columns may be no text, or stand twice
        parts = [_pandas_column(data.iloc[:, place]) for place in range(len(names))]
    else:
        parts = [data[column].to_list() for column in data.columns]
    if chosen is None:
        return names, parts
    return _choose(dict(zip(names, parts, strict=True)), chosen)


def _pandas_column(column: Any) -> list[Any]:
    """NaN stays the number that it is in a column of floats; elsewhere it and its kin stand for what is missing."""
    items: list[Any] = column.tolist()
    if getattr(column.dtype, "kind", "O") == "f" and isinstance(items[0] if items else 0.0, float):
        return items
    return [None if gone else item for item, gone in zip(items, column.isna().tolist(), strict=True)]


def _choose(known: dict[str, list[Any]], chosen: list[str] | None) -> tuple[list[str], list[list[Any]]]:
    for name in chosen or ():
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"columns: data has no column {name!r}; {hint or 'it has ' + ', '.join(map(repr, known))}")
    names = list(known) if chosen is None else chosen
    return names, [known[name] for name in names]


def _mappings(data: Sequence[Any], chosen: list[str] | None) -> tuple[list[str], list[list[Any]]]:
    names: dict[str, list[Any]] = {}
    for index, row in enumerate(data):
        if not isinstance(row, Mapping):
            raise TypeError(f"data[{index}] is a {type(row).__name__}, and other rows are mappings; give all as one")
        plain = {_name(key): value for key, value in row.items()}
        for name in plain:  # in order of appearance
            if name not in names:
                names[name] = [None] * index
        for name, part in names.items():
            part.append(plain.get(name))
    return _choose(names, chosen)


def _rows(data: Sequence[Any], names: list[str]) -> tuple[list[str], list[list[Any]]]:
    parts: list[list[Any]] = [[] for _ in names]
    for index, row in enumerate(data):
        if not isinstance(row, list | tuple):
            row = _list(row, f"data[{index}]")  # noqa: PLW2901 - the same row, as a list
        if len(row) != len(names):
            raise ValueError(f"data[{index}] has {len(row)} values; there are {len(names)} columns")
        for part, value in zip(parts, row, strict=True):
            part.append(value)
    return names, parts


def _list(values: Any, what: str) -> list[Any]:
    if isinstance(values, list):
        return values
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu()
    if hasattr(values, "tolist") and hasattr(values, "isna"):
        return _pandas_column(values)
    for method in ("tolist", "to_list"):
        if hasattr(values, method):
            values = getattr(values, method)()
            break
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise TypeError(f"{what} is a {type(values).__name__}; give a list or an array")
    return list(values)


def _plain_column(name: str, part: list[Any]) -> list[Scalar | None]:
    if _PLAIN.issuperset(map(type, part)):
        return part
    return [_cell(value, name, row) for row, value in enumerate(part)]


def _cell(value: Any, name: str, row: int) -> Scalar | None:
    kind = type(value)
    if kind is float or (kind is str and value.isascii()):
        return value  # type: ignore[no-any-return]
    if isinstance(value, _TIMES):
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
    return plain_cell(value, f"data: the value in column {name!r}, row {row},")
