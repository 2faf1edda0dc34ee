"""What a metric's value may be, and how it becomes plain data.

Nothing here imports numpy or torch: arrays and tensors are recognised by what they offer (`shape`, `item`, `tolist`).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from ridgepole.errors import MissingExtraError


class Pending:
    """A value that is not there yet; see `ridgepole.metrics.pending`.

    A plain class: `isinstance` against an abstract one costs several times as much, and it is asked of every value.
    """

    __slots__ = ()

    def has_arrived(self) -> bool:
        """Whether `value` would not wait."""
        raise NotImplementedError

    def value(self, name: str) -> Value:
        """The value, once it is there; `name` is the metric's, for errors."""
        raise NotImplementedError


Scalar = float | int | bool | str
Value = Scalar | list[float | int | bool] | dict[str, Any] | Pending
"""A flattened value: a scalar, a small sequence of numbers, the summary of a large array, or one still to arrive."""

PLAIN = frozenset((float, int, bool, str))
MAX_INLINE = 32
MAX_DEPTH = 64
HISTOGRAM_BINS = 64

_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # what JSON readers (orjson, polars, DuckDB) take as an integer


def flatten(metrics: Mapping[Any, Any], prefix: str, out: dict[str, Value], depth: int = 0) -> None:
    """Flattens a nested mapping into `out`, joining names with `/` and making every value plain.

    Args:
        metrics: Names and values, or further mappings.
        prefix: What stands before each name, its `/` included.
        out: Receives the flat names; left half-filled where an error is raised.
        depth: How deep this mapping stands; the recursion's own count.

    Raises:
        TypeError: If a name is not text or a value can't be logged; it names the key.
        ValueError: If two names are the same once flattened.
    """
    if depth > MAX_DEPTH:
        raise TypeError(f"metric {prefix[:60]!r}…: mappings are nested more than {MAX_DEPTH} deep (a cycle?)")
    for key, value in metrics.items():
        name = key if type(key) is str and key.isascii() else metric_name(key)
        if prefix:
            name = prefix + name
        kind = type(value)
        if kind is not float:
            # Exact types first: asking an abstract class costs more than all the rest.
            if kind is dict or (not hasattr(value, "shape") and isinstance(value, Mapping)):
                flatten(value, name + "/", out, depth + 1)
                continue
            value = plain_value(name, value)  # noqa: PLW2901 - the same metric, made plain
        if name in out:
            put(name, value, out)
        out[name] = value


def put(name: str, value: Value, out: dict[str, Value]) -> None:
    """Adds a flat metric; a second one of the same name is a `ValueError`."""
    if name in out:
        raise ValueError(f"metric {name!r} is given twice in one call (nested names are joined with '/')")
    out[name] = value


def metric_name(key: object) -> str:
    """A name as plain text that UTF-8 can hold.

    Raises:
        TypeError: If it is something else.
    """
    if not isinstance(key, str):
        raise TypeError(f"metric name {key!r} is a {type(key).__name__}; names are strings")
    name = str.__str__(key)
    if not (name.isascii() or _is_utf8(name)):
        raise TypeError(f"metric name {key!r} has a lone surrogate and can't be stored as text")
    return name


def plain_value(name: str, value: Any) -> Value:
    """A value as plain data: a float, an int of 64 bits, a bool, a string, a short list or a histogram summary.

    Args:
        name: The metric's name, for the error.
        value: What the user gave.

    Returns:
        The plain value; floats that are not finite stay as they are.

    Raises:
        TypeError: If such a value can't be logged.
        MissingExtraError: If a large sequence needs numpy and it is not installed.
    """
    if value is None:
        raise TypeError(f"metric {name!r} is None; leave it out, or log float('nan') for a missing number")
    kind = type(value)
    if kind is str or kind is int:
        return _plain_scalar(name, value)
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return _from_array(name, value, shape)
    if isinstance(value, list | tuple):
        return _from_sequence(name, value)
    if isinstance(value, Pending):
        return value
    return _plain_scalar(name, value)


def _plain_scalar(name: str, value: Any) -> Scalar:
    if isinstance(value, bool | float):
        return value if type(value) is bool else float(value)
    if isinstance(value, int):
        if not _SMALLEST <= value <= _LARGEST:
            raise TypeError(f"metric {name!r} is an integer of more than 64 bits; log it as a float or a string")
        return int(value)
    if isinstance(value, str):
        text = str.__str__(value)
        if not (text.isascii() or _is_utf8(text)):
            raise TypeError(f"metric {name!r} has a lone surrogate and can't be stored as text")
        return text
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(
        f"metric {name!r} is a {type(value).__name__}, which can't be logged; "
        "give a number, a string, a bool, a 0-d array or tensor, a sequence of numbers, or a mapping of these"
    )


def _from_array(name: str, value: Any, shape: tuple[Any, ...]) -> Value:
    try:
        if getattr(value, "is_cuda", False) is True:
            from ridgepole.metrics.pending import Landing

            return Landing(value)
        if not shape:
            item = value.item()
        elif len(shape) == 1 and shape[0] <= MAX_INLINE:
            item = value.tolist() if hasattr(value, "tolist") else list(value)
        else:
            return histogram(name, value)
    except (TypeError, MissingExtraError):
        raise
    except Exception as error:
        raise TypeError(f"metric {name!r}: the value of this {type(value).__name__} can't be read: {error}") from error
    if type(item) is float:
        return item
    if isinstance(item, list):
        return _from_sequence(name, item)
    if type(item) is type(value) and isinstance(item, numbers.Real):
        return float(item)  # numpy.longdouble gives itself back
    if getattr(item, "shape", None) == ():
        raise TypeError(f"metric {name!r} is a {type(value).__name__} without a plain number in it")
    return _plain_scalar(name, item)


def _from_sequence(name: str, items: Sequence[Any]) -> Value:
    if len(items) > MAX_INLINE:
        return histogram(name, items)
    plain: list[float | int | bool] = []
    for index, item in enumerate(items):
        scalar = item if type(item) is float else plain_value(f"{name}[{index}]", item)
        if isinstance(scalar, Pending):
            scalar = scalar.value(f"{name}[{index}]")  # rare: a list of GPU scalars is waited for
        if not isinstance(scalar, float | int):
            raise TypeError(f"metric {name!r} is a sequence with a {type(item).__name__} in it; only numbers can be")
        plain.append(scalar)
    return plain


def histogram(name: str, values: Any) -> dict[str, Any]:
    """The summary that stands for an array of more than a few numbers.

    Args:
        name: The metric's name, for the error.
        values: An array, a tensor or a sequence of real numbers, of any shape.

    Returns:
        `count` of finite numbers, `nonfinite`, `min`, `max`, `mean`, `std` (population), and 64 equal bins as
        `edges` and `counts`; the four statistics are None where there is nothing to take them of.

    Raises:
        TypeError: If there is something else than real numbers in it.
        MissingExtraError: If numpy is not installed.
    """
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtraError(
            "numpy", "plots", f"metric {name!r}, a sequence of over {MAX_INLINE} numbers,"
        ) from error
    if hasattr(values, "detach"):  # a tensor: bfloat16 and gradients have no way into numpy of their own
        values = values.detach().cpu().double() if values.is_floating_point() else values.detach().cpu()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"metric {name!r} is an array of {array.dtype}; only real numbers can be logged")
    array = array.astype(np.float64, copy=False).ravel()
    finite = array[np.isfinite(array)]
    with np.errstate(all="ignore"):  # sums of huge numbers overflow; the statistics then say None
        stats = [finite.min(), finite.max(), finite.mean(), finite.std()] if finite.size else []
        try:
            counts, edges = np.histogram(finite, bins=HISTOGRAM_BINS) if finite.size else (finite, finite)
        except ValueError:  # the range itself overflows, or is too narrow for 64 bins
            counts, edges = np.array([finite.size]), np.array([finite.min(), finite.max()])
    low, high, mean, std = (float(x) if math.isfinite(x) else None for x in stats) if stats else (None,) * 4
    return {
        "count": int(finite.size),
        "nonfinite": int(array.size - finite.size),
        "min": low,
        "max": high,
        "mean": mean,
        "std": std,
        "edges": edges.tolist(),
        "counts": counts.tolist(),
    }


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
