"""The values that a metric may have, and their conversion to plain data.

Nothing here imports numpy or torch: arrays and tensors are recognised by their attributes (`shape`,
    `item`, `tolist`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Set
from typing import Any, Protocol

from ridgepole.errors import MissingExtraError
from ridgepole.metrics.convert import (
    LARGEST,
    MAX_DEPTH,
    SMALLEST,
    Described,
    Scalar,
    dtype_kind,
    is_collection,
    is_utf8,
    number_of,
    shape_of,
    simple,
    to_array,
    type_name,
)


class Event(Protocol):
    """A signal that a copy has arrived, such as `torch.cuda.Event`."""

    def query(self) -> bool:
        """Return whether the copy has arrived."""
        ...

    def synchronize(self) -> None:
        """Wait until the copy has arrived."""
        ...


class DeviceScalar:
    """A tensor on its way from a GPU; creating one does not wait for the GPU.

    The copy is queued behind the GPU's earlier work, so later changes of the tensor do not matter.
    """

    __slots__ = ("_event", "_host")

    def __init__(self, tensor: Any) -> None:
        self._host, self._event = copy_to_host(tensor)

    def has_arrived(self) -> bool:
        """Return whether `value` would not wait."""
        return self._event.query()

    def value(self, name: str) -> Value:
        """Wait for the value and convert it as `plain_value` does."""
        self._event.synchronize()
        found = plain_value(name, self._host)
        return str(found) if isinstance(found, Described) else found


def copy_to_host(tensor: Any) -> tuple[Any, Event]:
    """Queue a copy of a CUDA tensor to pinned memory, which the GPU writes asynchronously.

    Returns:
        The tensor in host memory, and the event that signals when it may be read.
    """
    import torch

    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    with torch.cuda.device(tensor.device):
        host.copy_(tensor.detach(), non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
    return host, event


Value = Scalar | list[float | int | bool] | dict[str, Any] | DeviceScalar
"""A scalar, a short sequence, the summary of a large array, or a pending GPU value."""

PLAIN = frozenset((float, int, bool, str))
MAX_INLINE = 32
HISTOGRAM_BINS = 64

_FLOATS = frozenset((float,))
_WHOLE = frozenset("iub")
_WORD = 8  # bytes; numpy.longdouble has more


def flatten(metrics: Mapping[Any, Any], prefix: str, out: dict[str, Any], depth: int = 0) -> bool:
    """Flatten a nested mapping into `out`: join names with `/` and convert values to plain data.

    Args:
        metrics: Names and values, or further mappings.
        prefix: The prefix of each name, including its `/`.
        out: Receives the flat names, and descriptions of what is not plain; see `settle`. An error
            leaves it half-filled.
        depth: The nesting depth of this mapping.

    Returns:
        Whether `out` holds descriptions.

    Raises:
        TypeError: If a name is not text, or mappings contain themselves.
        ValueError: If a name is empty, or two flattened names are the same.
    """
    if depth > MAX_DEPTH:
        raise TypeError(f"metric {prefix[:60]!r}…: mappings are nested more than {MAX_DEPTH} deep (a cycle?)")
    if "" in metrics:
        metric_name("")
    described = False
    for key, value in metrics.items():
        name = key if type(key) is str and key.isascii() else metric_name(key)
        if prefix:
            name = prefix + name
        kind = type(value)
        if kind is not float:
            # Exact types first: `isinstance` of an abstract class costs more than all the rest.
            if kind in PLAIN:
                value = plain_value(name, value)  # noqa: PLW2901 - the same metric, made plain
            elif kind is dict or (not hasattr(kind, "shape") and isinstance(value, Mapping)):
                described |= flatten(value, name + "/", out, depth + 1)
                continue
            else:
                value = _object_value(name, value, kind)  # noqa: PLW2901 - as above
            if type(value) is Described:
                described = True
        if name in out:
            put(name, value, out)
        out[name] = value
    return described


def put(name: str, value: Value | Described, out: dict[str, Any]) -> None:
    """Add a flat metric; raise `ValueError` for a second one of the same name."""
    if name in out:
        raise ValueError(f"metric {name!r} is given twice in one call (nested names are joined with '/')")
    out[name] = value


def metric_name(key: object) -> str:
    """Return a name as a plain `str`.

    Raises:
        TypeError: If it is not text, or UTF-8 can't hold it.
        ValueError: If it is empty.
    """
    if not isinstance(key, str):
        raise TypeError(f"metric name {key!r} is a {type(key).__name__}; names are strings")
    if not key:
        raise ValueError("the name of a metric is empty; give it one")
    name = str.__str__(key)
    if not (name.isascii() or is_utf8(name)):
        raise TypeError(f"metric name {key!r} has a lone surrogate and can't be stored as text")
    return name


def plain_value(name: str, value: Any) -> Value | Described:
    """Convert a value to a number, text, a short list or a histogram summary, or describe it.

    A number is a bool, a 64-bit int or a float; of larger ones and of fractions, the nearest float.
    An array of a single element is that element. Floats that are not finite stay unchanged. `name`
    is used in error messages only.

    Raises:
        MissingExtraError: If a large sequence needs numpy and it is not installed.
    """
    kind = type(value)
    if kind not in PLAIN:
        return _object_value(name, value, kind)
    if kind is str or (kind is int and not SMALLEST <= value <= LARGEST):
        return _single(value)
    return value  # type: ignore[no-any-return]


def _object_value(name: str, value: Any, kind: type) -> Value | Described:
    """Convert a value of another type than the plain ones."""
    try:
        shape = getattr(value, "shape", None)
        if not isinstance(shape, tuple):
            if kind is list or kind is tuple:
                return _from_sequence(name, value)
            if kind is DeviceScalar:
                return value  # type: ignore[no-any-return]
            shape = shape_of(value)
        if shape is not None:
            return _from_array(name, value, shape)
        if is_collection(value) and not isinstance(value, Set):
            return _from_sequence(name, value)
    except MissingExtraError:
        raise
    except Exception:  # noqa: BLE001 - properties of foreign objects may raise anything
        return as_described(value)
    return _single(value)


def _single(value: Any) -> Scalar | Described:
    """Return one number or text, or describe it."""
    if type(value) is str and value.isascii():
        return value
    try:
        number = number_of(value)
    except Exception:  # noqa: BLE001 - a number that no float holds, or that refuses
        number = None
    if number is not None:
        return number
    found = simple(value)
    return Described(type_name(value), str(value)) if found is None else found


def _from_array(name: str, value: Any, shape: tuple[int, ...]) -> Value | Described:
    if getattr(value, "is_cuda", False) is True and hasattr(value, "is_complex") and not value.is_complex():
        return DeviceScalar(value)
    if not shape or math.prod(shape) == 1:
        try:
            item = value.item()
        except Exception:  # noqa: BLE001 - a tensor without data; one of TensorFlow
            return _single(value)
        kind = type(item)
        # numpy.ma forgets the mask; the items of dates are integers
        if (kind is float or (kind in PLAIN and _is_whole(value))) and not hasattr(value, "mask"):
            return item  # type: ignore[no-any-return]
        return _single(value)
    if len(shape) == 1 and shape[0] <= MAX_INLINE and not hasattr(value, "mask"):
        try:
            items = value.tolist()
        except Exception:  # noqa: BLE001 - as above, and tensors of another layout
            items = None
        if type(items) is list and _FLOATS.issuperset(map(type, items)):
            return items
    try:
        array = to_array(value)
    except ImportError:
        if len(shape) != 1 or shape[0] > MAX_INLINE:
            return histogram(name, value)
        return _from_sequence(name, value.tolist())
    if array is None:
        return as_described(value)
    if array.ndim == 1 and array.size <= MAX_INLINE:
        return [float(item) if array.dtype.itemsize > _WORD else item for item in array.tolist()]
    return histogram(name, array)


def _is_whole(value: Any) -> bool:
    """Return whether the item of an array is a number: that of a date is an integer, too."""
    return dtype_kind(value) in _WHOLE or hasattr(value, "is_complex")  # of numpy or torch


def as_described(value: Any) -> Described:
    """Describe a value that is not a single plain one."""
    found = simple(value)
    return found if isinstance(found, Described) else Described(type_name(value), str(found))


def _from_sequence(name: str, items: Collection[Any]) -> Value | Described:
    if len(items) > MAX_INLINE:
        return histogram(name, items)
    if _FLOATS.issuperset(map(type, items)):
        return list(items)
    plain: list[float | int | bool] = []
    for index, item in enumerate(items):
        scalar = item if type(item) is float else plain_value(f"{name}[{index}]", item)
        if isinstance(scalar, DeviceScalar):
            scalar = scalar.value(f"{name}[{index}]")  # rare: a list of GPU scalars
        if not isinstance(scalar, float | int):
            nested = is_collection(item) or shape_of(item) is not None
            return histogram(name, items) if nested else as_described(items)
        plain.append(scalar)
    return plain


def settle(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Replace described values by their texts, in place; return their names and types."""
    if Described not in map(type, metrics.values()):
        return []
    found = [(name, value) for name, value in metrics.items() if type(value) is Described]
    metrics |= {name: str(value) for name, value in found}
    return [(name, value.kind) for name, value in found]


def histogram(name: str, values: Any) -> dict[str, Any] | Described:
    """Summarise a large array, tensor or sequence of real numbers, of any shape.

    Returns:
        `count` of finite numbers, `nonfinite`, `min`, `max`, `mean`, `std` (population), and 64
        equal bins as `edges` and `counts`. The four statistics are None without finite numbers.
        Values that are not all real numbers are described.

    Raises:
        MissingExtraError: If numpy is not installed.
    """
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtraError(
            "numpy", "plots", f"metric {name!r}, a sequence of over {MAX_INLINE} numbers,"
        ) from error
    real = to_array(values)
    if real is None:
        return as_described(values)
    array = real.astype(np.float64, copy=False).ravel()
    finite = array[np.isfinite(array)]
    with np.errstate(all="ignore"):  # sums of huge numbers overflow; the statistics are then None
        stats = [finite.min(), finite.max(), finite.mean(), finite.std()] if finite.size else []
        try:
            counts, edges = np.histogram(finite, bins=HISTOGRAM_BINS) if finite.size else (finite, finite)
        except (ValueError, IndexError):  # the range itself overflows, or is too narrow for 64 bins
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
