"""Check what users log and bring it into the form that every backend takes.

Tables, histograms, texts and hyperparameters are here; images are in `validate_image`. Arguments
are those of the `log_*` methods of `BaseLoggerManager`. Errors name the argument, the column and
the row. Values that no plain type holds become text; `notes` receives their names and types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError, did_you_mean
from ridgepole.loggers.figures.render import is_instance, prepare
from ridgepole.loggers.media_types import PICTURE, Histogram, Table
from ridgepole.metrics.convert import (
    MAX_DEPTH,
    Described,
    JsonText,
    Scalar,
    as_mapping,
    column_label,
    dense,
    dtype_kind,
    index_columns,
    is_collection,
    key_text,
    number_of,
    shape_of,
    simple,
    to_array,
    type_name,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Notes = list[tuple[str, str]]
"""Names and types of values that are stored as text, or left out."""

MAX_BINS = 4096
TABLE_FORMS = (
    "a pandas or polars frame, a mapping of columns, a list of mappings or rows, or an array of two dimensions"
)

_PLAIN = {bool, float, type(None)}  # an int may be too large, a text may hold a lone surrogate


def real_array(values: Any, argument: str) -> NDArray[Any]:
    """Convert an array, tensor or sequence to an array of its own shape, without needless copies.

    Raises:
        TypeError: If it holds anything but real numbers.
        ValueError: If its rows differ in length.
        MissingExtraError: If numpy is not installed.
    """
    array = _numbers(values, argument)
    if array is not None:
        return array
    import numpy as np

    try:
        found = np.asarray(values).dtype
    except ValueError as error:
        raise ValueError(f"{argument} is not an array: its rows differ in length ({error})") from error
    raise TypeError(f"{argument} holds {found}; it must hold real numbers")


def _numbers(values: Any, argument: str) -> NDArray[Any] | None:
    if shape_of(values) is None and (not hasattr(values, "__iter__") or isinstance(values, Mapping | str | bytes)):
        raise TypeError(f"{argument} is a {type(values).__name__}; give an array, a tensor or a sequence of numbers")
    try:
        return to_array(values)
    except ImportError as error:
        raise MissingExtraError("numpy", "plots", argument) from error


def binned(values: Any, bins: int = 64) -> Histogram | Described:
    """Count values in bins of equal width, or in a single bin if all values are the same.

    A sequence of arrays of several shapes counts as one array. Without finite values there are no
    bins. What holds other values than real numbers is described.

    Raises:
        TypeError: If the values are not an array or a sequence, or `bins` is not an integer.
        ValueError: If `bins` is out of range.
    """
    if type(bins) is not int:
        raise TypeError(f"bins must be an integer, not {type(bins).__name__}")
    if not 1 <= bins <= MAX_BINS:
        raise ValueError(f"bins must be between 1 and {MAX_BINS}, not {bins}")
    array = _numbers(values, "values")
    import numpy as np

    if array is None and is_collection(values):
        parts = [to_array(part if is_collection(part) or shape_of(part) is not None else [part]) for part in values]
        if all(part is not None for part in parts):
            array = np.concatenate([part.ravel().astype(np.float64) for part in parts if part is not None])
    if array is None:
        found = simple(values)
        return found if isinstance(found, Described) else Described(type_name(values), str(found))
    with np.errstate(over="ignore"):
        flat = array.astype(np.float64, copy=False).ravel()
    finite = flat[np.isfinite(flat)]
    counts, edges = _count(finite, bins) if finite.size else (np.zeros(0, np.int64), np.zeros(0))
    # Sums of huge numbers may overflow to infinity, which is what they are
    with np.errstate(all="ignore"):
        total, squares = float(finite.sum()), float(np.dot(finite, finite))
    return Histogram(
        counts=tuple(counts.tolist()),
        edges=tuple(edges.tolist()),
        total=total,
        squares=squares,
        nonfinite=flat.size - finite.size,
        nan=int(np.isnan(flat).sum()),
    )


def _count(finite: NDArray[np.float64], bins: int) -> tuple[NDArray[Any], NDArray[Any]]:
    import numpy as np

    low, high = finite.min(), finite.max()
    if low == high:
        half = max(abs(low) * 1e-6, 0.5)
        return np.array([finite.size]), np.array([low - half, high + half])
    try:
        with np.errstate(all="raise"):
            counts, edges = np.histogram(finite, bins=bins)
            if (np.diff(edges) > 0).all():
                return counts, edges
    except (ValueError, FloatingPointError):  # too wide a range, or too narrow for the bins
        pass  # before numpy 2, a range that is too narrow gives the same edge twice
    return np.array([finite.size]), np.array([low, high])


def checked_text(text: object, argument: str = "text") -> str:
    """Return a text that UTF-8 can hold; raise a `TypeError` for anything else."""
    if not isinstance(text, str):
        raise TypeError(f"{argument} must be a string, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TypeError(f"{argument} has a lone surrogate at {error.start} and can't be stored as text") from error
    return str.__str__(text)


# -- hyperparameters -------------------------------------------------------------------------------


def plain_params(params: object, notes: Notes | None = None) -> dict[str, Scalar | None]:
    """Flatten hyperparameters: nested names are joined with `/`, sequences become `JsonText`.

    Raises:
        TypeError: If they are not a mapping or a configuration object.
        ValueError: If a name is empty, or two names are the same once joined.
    """
    notes = [] if notes is None else notes
    plain: dict[str, Scalar | None] = {}
    for name, value in _flat(params, "params", notes).items():
        found = simple(value)
        if isinstance(found, Described):
            if not found.documented:
                notes.append((name, found.kind))
            text = found.text if found.documented or found.text == found.kind else str(found)
            found = JsonText(text) if found.is_json else text
        plain[name] = found
    return plain


def plain_metrics(metrics: object, notes: Notes | None = None) -> dict[str, float]:
    """Flatten the numbers that a run is compared by; leave out what is not a number.

    Errors are as in `plain_params`.
    """
    notes = [] if notes is None else notes
    numeric: dict[str, float] = {}
    for name, value in _flat(metrics, "metrics", notes).items():
        try:
            number = value if isinstance(value, int) else number_of(value)
            numeric[name] = float(number)  # type: ignore[arg-type]  # None is noted
        except Exception:  # noqa: BLE001 - foreign numbers may raise anything
            notes.append((name, type_name(value)))
    return numeric


def _flat(values: object, argument: str, notes: Notes) -> dict[str, Any]:
    mapping = as_mapping(values)
    if mapping is None:
        raise TypeError(f"{argument} must be a mapping of names to values, not {type(values).__name__}")
    flat: dict[str, Any] = {}
    _flatten(mapping, "", flat, argument, notes)
    return flat


def _flatten(
    values: Mapping[Any, Any], prefix: str, out: dict[str, Any], argument: str, notes: Notes, depth: int = 0
) -> None:
    for key, value in values.items():
        name = checked_text(key, f"{argument}: the name {key!r}") if isinstance(key, str) else key_text(key)
        if not name:
            raise ValueError(f"{argument}: the name of a value in {prefix or 'it'!r} is empty; give it one")
        name = prefix + name
        inner = None if type(value) in (str, int, float, bool) else as_mapping(value)
        if inner and depth < MAX_DEPTH:
            _flatten(inner, name + "/", out, argument, notes, depth + 1)
        elif name in out:
            raise ValueError(f"{argument}: {name!r} is given twice (nested names are joined with '/')")
        elif inner and depth >= MAX_DEPTH:
            notes.append((prefix[:60] + "…", "mapping that contains itself"))
        else:
            out[name] = value


# -- tables ----------------------------------------------------------------------------------------


def plain_table(data: Any, columns: Sequence[str] | None = None, notes: Notes | None = None) -> Table:
    """Convert a table of any supported form; the result shares nothing with `data`.

    The index of a pandas frame becomes columns, unless it only counts the rows.

    Raises:
        TypeError: If the data is of an unsupported type.
        ValueError: If columns or rows differ in length, or two columns have the same name.
    """
    notes = [] if notes is None else notes
    names, parts = _columns(data, _names(columns))
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"data has two columns named {duplicate!r}; rename one")
    lengths = {len(part) for part in parts}
    if len(lengths) > 1:
        shown = ", ".join(f"{name!r} has {len(part)}" for name, part in zip(names, parts, strict=True))
        raise ValueError(f"the columns of data differ in length: {shown}")
    types: dict[str, str] = {}
    plain = [_plain_column(name, part, types, notes) for name, part in zip(names, parts, strict=True)]
    return Table(tuple(names), tuple(zip(*plain, strict=True)), types)


def _names(columns: object) -> list[str] | None:
    if columns is None:
        return None
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise TypeError(f"columns must be a list of names, not {type(columns).__name__}")
    return [_name(column) for column in columns]


def _name(column: object) -> str:
    return checked_text(column if isinstance(column, str) else column_label(column), "the name of a column of data")


def _columns(data: Any, chosen: list[str] | None) -> tuple[list[str], list[list[Any]]]:
    if isinstance(data, Mapping):
        return _choose({_name(key): _list(part, f"data[{key!r}]") for key, part in data.items()}, chosen)
    if hasattr(data, "to_frame") and len(getattr(data, "shape", ())) == 1:  # a pandas or polars series
        data = data.to_frame("value") if data.name in (None, "") else data.to_frame()
    if hasattr(data, "columns") and hasattr(data, "shape"):  # a pandas or polars frame
        return _frame(data, chosen)
    if isinstance(getattr(data, "shape", None), tuple):
        if len(data.shape) != 2:
            raise ValueError(f"data is an array of shape {tuple(data.shape)}; a table has two dimensions")
        data, width = _list(data, "data"), data.shape[1]
        return _rows(data, chosen or [str(number) for number in range(width)])
    if not isinstance(data, list | tuple):
        raise TypeError(f"data is a {type(data).__name__}; give {TABLE_FORMS}")
    if any(isinstance(row, Mapping) for row in data):
        return _mappings(data, chosen)
    width = len(data[0]) if data and hasattr(data[0], "__len__") else 0
    return _rows(data, chosen or [str(number) for number in range(width)])


def _frame(data: Any, chosen: list[str] | None) -> tuple[list[str], list[list[Any]]]:
    names = [_name(column) for column in data.columns]
    if hasattr(data, "iloc"):  # pandas allows duplicate names and names that are not text
        parts = [_pandas_column(data.iloc[:, place]) for place in range(len(names))]
    else:
        parts = [data[column].to_list() for column in data.columns]
    index = index_columns(data)
    names = [*index, *names]
    parts = [*map(_pandas_column, index.values()), *parts]
    if chosen is None:
        return names, parts
    return _choose(dict(zip(names, parts, strict=True)), chosen)


def _pandas_column(column: Any) -> list[Any]:
    """Keep NaN in a column of floats; elsewhere it means a missing value."""
    items: list[Any] = column.tolist()
    if getattr(column.dtype, "kind", "O") == "f" and isinstance(items[0] if items else 0.0, float):
        return items
    return [None if missing else item for item, missing in zip(items, column.isna().tolist(), strict=True)]


def _choose(known: dict[str, list[Any]], chosen: list[str] | None) -> tuple[list[str], list[list[Any]]]:
    for name in chosen or ():
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"columns: data has no column {name!r}; {hint or 'it has ' + ', '.join(map(repr, known))}")
    names = list(known) if chosen is None else chosen
    return names, [known[name] for name in names]


def _mappings(data: Sequence[Any], chosen: list[str] | None) -> tuple[list[str], list[list[Any]]]:
    rows = []
    for index, row in enumerate(data):
        if not isinstance(row, Mapping):
            raise TypeError(f"data[{index}] is a {type(row).__name__}, and other rows are mappings; give all as one")
        rows.append({_name(key): value for key, value in row.items()})
    names = dict.fromkeys(name for row in rows for name in row)  # in order of appearance
    return _choose({name: [row.get(name) for row in rows] for name in names}, chosen)


def _rows(data: Sequence[Any], names: list[str]) -> tuple[list[str], list[list[Any]]]:
    rows = [row if isinstance(row, list | tuple) else _list(row, f"data[{index}]") for index, row in enumerate(data)]
    for index, row in enumerate(rows):
        if len(row) != len(names):
            raise ValueError(f"data[{index}] has {len(row)} values; there are {len(names)} columns")
    return names, [[row[place] for row in rows] for place in range(len(names))]


def _list(values: Any, what: str) -> list[Any]:
    if isinstance(values, list):
        return values
    values = dense(values)
    if hasattr(values, "tolist") and hasattr(values, "isna"):
        return _pandas_column(values)
    shape = shape_of(values)
    if shape is not None and (len(shape) > 2 or (dtype_kind(values) in ("m", "M") and len(shape) == 1)):
        return list(values)  # cells that are arrays, or times, which `tolist` turns into numbers
    for method in ("tolist", "to_list"):
        if hasattr(values, method):
            values = getattr(values, method)()
            break
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise TypeError(f"{what} is a {type(values).__name__}; give a list or an array")
    return list(values)


def _plain_column(name: str, part: list[Any], types: dict[str, str], notes: Notes) -> list[Any]:
    if _PLAIN.issuperset(map(type, part)):
        return part
    kinds: dict[str, None] = {}
    cells = [_cell(value, name, kinds, notes) for value in part]
    if kinds:
        types[name] = ", ".join(kinds)
    return cells


def _cell(value: Any, name: str, kinds: dict[str, None], notes: Notes) -> Any:
    kind = type(value)
    if kind is float or (kind is str and value.isascii()):
        return value
    if _is_picture(value):
        kinds[PICTURE] = None
        return prepare(value)()
    found = simple(value)
    if not isinstance(found, Described):
        return found
    kinds[found.kind] = None
    if not found.documented:
        notes.append((f"column {name}", found.kind))
    return found.text


def _is_picture(value: Any) -> bool:
    """Tell whether a cell is an image: one of Pillow, or 8-bit pixels with their channels last."""
    if is_instance(value, "PIL.Image", "Image"):
        return True
    shape = shape_of(value)
    return shape is not None and len(shape) == 3 and shape[2] in (3, 4) and str(value.dtype).endswith("uint8")
