"""The one converter of all `log_*` calls: objects of any library to plain data, or to their text.

Nothing here imports numpy or torch at import time: foreign objects are recognised by their
attributes. The table in `docs/loggers.md` lists the forms.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import numbers
import os
import types
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scalar = float | int | bool | str

SMALLEST, LARGEST = -(2**63), 2**64 - 1  # the integers of JSON readers
MAX_DEPTH = 64
MAX_TEXT = 2000  # letters of an object's own text
MAX_JSON = 64 << 10  # letters of a sequence or mapping as JSON
MAX_ITEMS = 4096  # of an array as JSON

_NUMBERS = "fiub"
_TIMES = (dt.date, dt.time, dt.timedelta)
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)
_MISSING = {("numpy", "MaskedConstant"), ("pandas", "NAType")}


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """The text of a value that no plain type holds.

    Attributes:
        kind: Name of its type, such as `complex` or `torch.dtype`.
        text: The value as text, or as JSON.
        documented: Whether the text stands for the whole value, as that of a path does. The text of
            an unknown object is the best that there is.
        is_json: Whether the text is the JSON of a sequence, a mapping or an array.
    """

    kind: str
    text: str
    documented: bool = True
    is_json: bool = False

    def __str__(self) -> str:
        """Return the text behind its type."""
        return f"{self.kind} {self.text}"


class JsonText(str):
    """The JSON of a sequence, mapping or array, for loggers of text and loggers of lists."""

    __slots__ = ()

    def parsed(self) -> Any:
        """Return the value behind the text; the text itself if it is not JSON."""
        try:
            return json.loads(self)
        except ValueError:
            return str(self)


def type_name(value: object) -> str:
    """Return the name of a value's type, with its module unless that is `builtins`."""
    kind = type(value)
    return _qualified(kind)


def _qualified(named: Any) -> str:
    module = getattr(named, "__module__", None)
    name = str(getattr(named, "__qualname__", None) or getattr(named, "__name__", None) or type(named).__name__)
    return name if module in (None, "builtins") else f"{module}.{name}"


def safe_text(text: str) -> str:
    """Return a text that UTF-8 can hold: lone surrogates become escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def is_utf8(text: str) -> bool:
    """Tell whether UTF-8 can hold a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# -- single values ---------------------------------------------------------------------------------


def simple(value: Any) -> Scalar | Described | None:
    """Return a value as None, bool, 64-bit int, float or text, or describe it.

    An array or tensor with a single element is that element. Missing values (`pandas.NA`, `NaT`,
    `numpy.ma.masked`) are None. This never raises.
    """
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value  # type: ignore[no-any-return]
    try:
        return _simple(value)
    except Exception:  # noqa: BLE001 - properties and conversions of foreign objects may raise anything
        return _described(value)


def _simple(value: Any) -> Scalar | Described | None:
    if isinstance(value, enum.Enum) and not isinstance(value, int | float | str):
        return simple(value.value)
    if isinstance(value, bool | int | float | str):
        return _builtin(value)
    if is_missing(value):
        return None
    if shape_of(value) is not None:
        return _element(value) if size_of(value) == 1 else _structure(value)
    if isinstance(value, _TIMES):
        return Described(type_name(value), value.isoformat() if hasattr(value, "isoformat") else str(value))
    if isinstance(value, decimal.Decimal):
        return Described(type_name(value), str(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) or value == number or number != number else _described(value)
    if isinstance(value, os.PathLike):
        return Described("path", safe_text(os.fsdecode(os.fspath(value))))
    if isinstance(value, _NAMED):
        return Described(type_name(value), safe_text(_qualified(value)))
    if is_collection(value) or as_mapping(value) is not None:
        return _structure(value)
    return _described(value)


def _builtin(value: bool | int | float | str) -> Scalar | Described:
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        if SMALLEST <= value <= LARGEST:
            return int(value)
        digits = str(int(value)) if value.bit_length() < MAX_TEXT else f"of {value.bit_length()} bits"
        return Described("int", digits, documented=digits[:1] != "o")
    text = str.__str__(value)
    return text if text.isascii() or is_utf8(text) else Described("str", safe_text(text))


def _element(value: Any) -> Scalar | Described | None:
    """Return the only element of an array, a tensor or a series."""
    if dtype_kind(value) in ("m", "M") and hasattr(value, "reshape"):
        item: Any = value.reshape(())[()]
        return None if item != item else Described(str(item.dtype), str(item))
    if is_masked_array(value) and value.mask.any():
        return None
    item = dense(value).item() if hasattr(value, "item") else to_array(value).item()  # type: ignore[union-attr]
    if shape_of(item) is None:
        return simple(item)
    # numpy.longdouble and numpy.void return themselves
    number = float(item) if isinstance(item, numbers.Real) else math.inf
    return number if math.isfinite(number) or number == item or number != number else _described(value)


def is_missing(value: Any) -> bool:
    """Tell whether a value stands for a missing one: None, pandas.NA, NaT or numpy.ma.masked."""
    if value is None:
        return True
    kind = type(value)
    if (kind.__module__.partition(".")[0], kind.__name__) in _MISSING:
        return True
    return isinstance(value, dt.datetime) and kind.__name__ == "NaTType"


def number_of(value: Any) -> float | int | bool | None:
    """Return a number, or NaN for a missing or masked one; None for anything else."""
    if value is None:
        return None
    if isinstance(value, decimal.Decimal):
        number = math.nan if value.is_nan() else float(value)  # the nearest one
        return None if math.isinf(number) and value.is_finite() else number
    if type(value) in (float, int, bool) and not isinstance(simple(value), Described):
        return value  # type: ignore[no-any-return]
    if is_missing(value) and not isinstance(value, dt.datetime):
        return math.nan
    found = simple(value)
    if found is None and shape_of(value) is not None and dtype_kind(value) not in "mMO":
        return math.nan  # an array of one masked number
    return found if isinstance(found, bool | int | float) else None


def is_masked_array(value: Any) -> bool:
    """Tell whether a value is an array of `numpy.ma`, whose own `item` ignores the mask."""
    return type(value).__module__.startswith("numpy.ma")


def dtype_kind(value: Any) -> str:
    """Return numpy's letter of an array's type; empty for arrays of other libraries."""
    return str(getattr(getattr(value, "dtype", None), "kind", ""))


def _described(value: Any) -> Described:
    """Describe an object by its own text, or by its type if it has none."""
    kind = type_name(value)
    plain: tuple[Any, ...] = (object.__repr__, object.__str__)  # these say where it lies in memory
    try:
        own = type(value).__repr__ not in plain or type(value).__str__ not in plain
        text = safe_text(str(value)) if own else kind
        whole = own and type(value).__name__ in ("dtype", "device", "layout", "memory_format", "Interval", "Period")
    except Exception:  # noqa: BLE001 - a broken __repr__
        text, whole = kind, False
    if len(text) > MAX_TEXT:
        text, whole = text[:MAX_TEXT] + "…", False
    return Described(kind, text, documented=whole or isinstance(value, complex | bytes))


# -- sequences and mappings ------------------------------------------------------------------------


def is_collection(value: object) -> bool:
    """Tell whether a value is a sequence, a range or a set, other than text and bytes."""
    return isinstance(value, list | tuple | range | AbstractSet) or type(value).__name__ == "deque"


def as_mapping(value: Any) -> Mapping[Any, Any] | None:
    """Return a mapping, or the fields of a configuration object, or None for any other value.

    Configuration objects are namespaces, data classes, attrs classes, pydantic models, named
    tuples, and objects with `to_dict`.
    """
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type) or shape_of(value) is not None:
        return None
    if isinstance(value, argparse.Namespace | types.SimpleNamespace):
        return vars(value)
    try:
        return _fields(value)
    except Exception:  # noqa: BLE001 - attributes of foreign objects may raise anything
        return None


def _fields(value: Any) -> Mapping[Any, Any] | None:
    fields = getattr(value, "__dataclass_fields__", None) or getattr(type(value), "model_fields", None)
    if isinstance(fields, Mapping):
        return {name: getattr(value, name) for name in fields if hasattr(value, name)}
    if isinstance(attributes := getattr(value, "__attrs_attrs__", None), tuple):
        return {each.name: getattr(value, each.name) for each in attributes}
    if isinstance(value, tuple) and isinstance(names := getattr(value, "_fields", None), tuple):
        return dict(zip(names, value, strict=True))
    if callable(make := getattr(value, "to_dict", None)) and isinstance(made := make(), Mapping):
        return made
    return None


def _structure(value: Any) -> Described:
    """Describe a sequence, a mapping or an array by its JSON."""
    if shape_of(value) is not None and size_of(value) > MAX_ITEMS:
        return Described(type_name(value), f"of shape {shape_of(value)}", documented=False)
    text = json.dumps(jsonable(value), ensure_ascii=False)
    if len(text) > MAX_JSON:
        return Described(type_name(value), text[:MAX_JSON] + "…", documented=False)
    return Described(type_name(value), text, is_json=True)


def jsonable(value: Any, depth: int = 0) -> Any:
    """Return a value as what `json.dumps` takes; what JSON can't hold becomes text."""
    if depth > MAX_DEPTH:
        return "…"
    if shape_of(value) is not None and size_of(value) != 1:
        return _nested(value, depth)
    mapping = as_mapping(value)
    if mapping is not None:
        return {key_text(key): jsonable(item, depth + 1) for key, item in mapping.items()}
    if is_collection(value):
        items = [jsonable(item, depth + 1) for item in value]
        return sorted(items, key=lambda item: (str(type(item)), str(item))) if isinstance(value, AbstractSet) else items
    found = simple(value)
    return found.text if isinstance(found, Described) else found


def _nested(value: Any, depth: int) -> Any:
    """Return the items of an array, or the columns of a frame."""
    if hasattr(value, "columns"):
        return {key_text(name): jsonable(value[name], depth + 1) for name in value.columns}
    array = None if dtype_kind(value) == "O" else to_array(value)
    if array is not None and array.dtype.itemsize <= 8:  # numpy.longdouble stays what it is in a list
        return array.tolist()
    return [jsonable(item, depth + 1) for item in value]


def key_text(key: Any) -> str:
    """Return the key of a mapping as text."""
    found = simple(key)
    return found.text if isinstance(found, Described) else str(found)


# -- arrays ----------------------------------------------------------------------------------------


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the shape of an array, a tensor, a frame or a series of any library, else None."""
    try:
        shape = value.shape
    except Exception:  # noqa: BLE001 - it has none, or a property that raises
        return None
    if isinstance(shape, tuple):  # torch.Size is one, too
        return shape
    if shape is None or isinstance(value, type):
        return None
    if isinstance(shape, list):  # of Paddle
        return tuple(shape)
    if hasattr(shape, "as_list"):  # TensorFlow
        try:
            return tuple(shape.as_list())
        except ValueError:  # an unknown rank
            return None
    return None


def size_of(value: Any) -> int:
    """Return the number of elements of an array."""
    return math.prod(shape_of(value) or ())


def dense(value: Any) -> Any:
    """Return a tensor or an array of scipy as dense, on the CPU; anything else unchanged."""
    if hasattr(value, "detach"):  # torch, Paddle
        value = value.detach()
        if getattr(value, "is_quantized", False):
            value = value.dequantize()
        if str(getattr(value, "layout", "torch.strided")) not in ("torch.strided", "torch._mkldnn"):
            value = value.to_dense()
        value = value.cpu()
        for resolve in ("resolve_conj", "resolve_neg"):
            value = getattr(value, resolve)() if hasattr(value, resolve) else value
        return value
    return value.toarray() if hasattr(value, "toarray") and hasattr(value, "nnz") else value


def to_array(value: Any) -> NDArray[Any] | None:
    """Return an array, tensor, series, frame or sequence as an array of real numbers of its shape.

    Small float types (bfloat16, float8) become 32-bit floats. None, missing and masked values
    become NaN.

    Returns:
        The array, which may share memory with `value`; None if it holds anything but real numbers,
        or if its rows differ in length.

    Raises:
        ImportError: If numpy is not installed.
    """
    import numpy as np

    try:
        return _real(_foreign(value, np), np)
    except Exception:  # noqa: BLE001 - tensors without data, tracers, broken conversions
        return None


def _foreign(value: Any, np: Any) -> Any:
    value = dense(value)
    if hasattr(value, "is_floating_point") and hasattr(value, "numpy"):  # torch, Paddle
        if value.is_floating_point() and str(value.dtype).rpartition(".")[2] not in ("float16", "float32", "float64"):
            value = value.float() if hasattr(value, "float") else value.astype("float32")
        return value.numpy()
    if isinstance(value, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(value)
        return np.where(masked, np.nan, value.data.astype(np.float64)) if masked.any() else value.data
    if isinstance(value, np.ndarray | np.generic):
        return value
    if hasattr(value, "__cuda_array_interface__") and hasattr(value, "get"):  # CuPy
        return value.get()
    for convert in ("numpy", "to_numpy"):  # TensorFlow; pandas and polars
        if callable(method := getattr(value, convert, None)):
            return method()
    if is_collection(value) and any(shape_of(item) is not None for item in value):
        return [_foreign(item, np) if shape_of(item) is not None else item for item in value]
    return value if hasattr(value, "__array__") or isinstance(value, list | tuple) else list(value)


def _real(values: Any, np: Any) -> NDArray[Any] | None:
    array = np.asarray(values)
    kind = array.dtype.kind
    if kind in _NUMBERS:
        return array  # type: ignore[no-any-return]
    if kind == "V" and array.dtype.names is None and np.can_cast(array.dtype, np.float64):  # ml_dtypes
        return array.astype(np.int64 if np.can_cast(array.dtype, np.int64) else np.float32)  # type: ignore[no-any-return]
    if kind != "O":
        return None
    found = [math.nan if item is None else number_of(item) for item in array.ravel().tolist()]
    if None in found:
        return None
    return np.array(found, np.float64).reshape(array.shape)  # type: ignore[no-any-return]


# -- frames ----------------------------------------------------------------------------------------


def column_label(name: Any) -> str:
    """Return the name of a column as text; levels of a pandas MultiIndex are joined with `/`."""
    return "/".join(map(str, name)) if isinstance(name, tuple) else str(name)


def index_columns(data: Any) -> dict[str, Any]:
    """Return the index of a pandas frame or series as columns; empty if it only counts the rows.

    A level without a name is called `index`, or `level_0` and so on if there are several. A name
    that a column has too gets ` (index)` behind it.
    """
    index = getattr(data, "index", None)
    if index is None or callable(index) or not hasattr(index, "nlevels"):
        return {}
    if index.name is None and type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1):
        return {}
    taken = set(map(column_label, getattr(data, "columns", ())))
    found: dict[str, Any] = {}
    for level, name in enumerate(index.names):
        label = column_label(name) if name is not None else "index" if index.nlevels == 1 else f"level_{level}"
        while label in taken:
            label += " (index)"
        taken.add(label)
        found[label] = index.get_level_values(level)
    return found
