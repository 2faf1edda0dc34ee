"""Histograms, texts and hyperparameters as users hand them in, brought into the form that every backend takes."""

from __future__ import annotations

import enum
import json
import numbers
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError
from ridgepole.metrics.values import MAX_DEPTH, MAX_INLINE, Scalar
from ridgepole.permanences.loggers.payloads import Histogram

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_BINS = 4096
SMALLEST, LARGEST = -(2**63), 2**63 - 1  # what every reader takes as an integer


def real_array(values: Any, argument: str) -> NDArray[Any]:
    """An array, tensor or sequence of real numbers as an array of its own shape.

    Args:
        values: What the user gave.
        argument: What it is called, for the error.

    Returns:
        The array; on the CPU, and no copy where none is needed.

    Raises:
        TypeError: If it holds something else.
        ValueError: If its rows differ in length.
        MissingExtraError: If numpy is not installed.
    """
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtraError("numpy", "plots", argument) from error
    try:
        if hasattr(values, "detach"):  # a tensor
            values = values.detach().cpu()
            values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        elif isinstance(values, Mapping | str | bytes) or values is None:
            raise TypeError(
                f"{argument} is a {type(values).__name__}; give an array, a tensor or a sequence of numbers"
            )
        elif not hasattr(values, "__array__") and hasattr(values, "__iter__"):
            values = list(values)
        array: NDArray[Any] = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{argument} is no array: its rows differ in length ({error})") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{argument} holds {array.dtype}; it must hold real numbers")
    return array


def binned(values: Any, bins: int = 64) -> Histogram:
    """Counts values in bins of equal width; see `BaseLoggerManager.log_histogram`.

    Args:
        values: Real numbers.
        bins: How many bins; one where all values are the same.

    Returns:
        The counts.

    Raises:
        TypeError: If they are no real numbers, or `bins` is no whole number.
        ValueError: If there are no finite ones, or `bins` is out of range.
    """
    if type(bins) is not int:
        raise TypeError(f"bins must be an integer, not {type(bins).__name__}")
    if not 1 <= bins <= MAX_BINS:
        raise ValueError(f"bins must be between 1 and {MAX_BINS}, not {bins}")
    array = real_array(values, "values")
    import numpy as np

    flat = array.astype(np.float64, copy=False).ravel()
    finite = flat[np.isfinite(flat)]
    if not finite.size:
        what = f"all {flat.size} values are NaN or infinite" if flat.size else "values is empty"
        raise ValueError(f"{what}: there is nothing to count")
    counts, edges = _count(finite, bins)
    with np.errstate(all="ignore"):  # sums of huge numbers may overflow to infinity, which is what they are
        total, squares = float(finite.sum()), float(np.dot(finite, finite))
    return Histogram(tuple(counts.tolist()), tuple(edges.tolist()), total, squares, flat.size - finite.size)


def _count(finite: NDArray[np.float64], bins: int) -> tuple[NDArray[Any], NDArray[Any]]:
    import numpy as np

    low, high = finite.min(), finite.max()
    if low == high:
        half = max(abs(low) * 1e-6, 0.5)
        return np.array([finite.size]), np.array([low - half, high + half])
    try:
        with np.errstate(all="raise"):
            return np.histogram(finite, bins=bins)
    except (ValueError, FloatingPointError):  # the range overflows, or is too narrow for as many bins
        return np.array([finite.size]), np.array([low, high])


def checked_text(text: object, argument: str = "text") -> str:
    """A text that UTF-8 can hold.

    Raises:
        TypeError: If it is something else.
    """
    if not isinstance(text, str):
        raise TypeError(f"{argument} must be a string, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TypeError(f"{argument} has a lone surrogate at {error.start} and can't be stored as text") from error
    return str.__str__(text)


def plain_params(params: object) -> dict[str, Scalar | None]:
    """Hyperparameters under flat names; see `BaseLoggerManager.log_hparams`.

    Args:
        params: A mapping; nested ones are joined with `/`, short sequences become JSON text, paths become text.

    Returns:
        Plain values.

    Raises:
        TypeError: If a value is none of those; it names the key.
        ValueError: If two names are the same once joined.
    """
    flat: dict[str, Scalar | None] = {}
    _flatten(params, "", flat, "params")
    return flat


def plain_metrics(metrics: object) -> dict[str, float]:
    """The numbers that a run is compared by, under flat names; errors as in `plain_params`."""
    flat: dict[str, Scalar | None] = {}
    _flatten(metrics, "", flat, "metrics")
    numeric: dict[str, float] = {}
    for name, value in flat.items():
        if value is None or isinstance(value, str):
            raise TypeError(f"metrics: {name!r} is a {type(value).__name__}; it must be a number")
        numeric[name] = float(value)
    return numeric


def _flatten(values: object, prefix: str, out: dict[str, Scalar | None], argument: str, depth: int = 0) -> None:
    if not isinstance(values, Mapping):
        raise TypeError(f"{argument} must be a mapping of names to values, not {type(values).__name__}")
    if depth > MAX_DEPTH:
        raise TypeError(f"{argument}: {prefix[:60]!r}… is nested more than {MAX_DEPTH} deep (a cycle?)")
    for key, value in values.items():
        name = prefix + checked_text(key, f"{argument}: the name {key!r}")
        if isinstance(value, Mapping):
            _flatten(value, name + "/", out, argument, depth + 1)
        elif name in out:
            raise ValueError(f"{argument}: {name!r} is given twice (nested names are joined with '/')")
        else:
            out[name] = _plain(value, f"{argument}: {name!r}")


def _plain(value: Any, what: str) -> Scalar | None:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, list | tuple):
        if len(value) > MAX_INLINE:
            raise TypeError(f"{what} has {len(value)} items; up to {MAX_INLINE} fit, log more of them as a table")
        return json.dumps([_plain(item, f"{what}, item {i}") for i, item in enumerate(value)], ensure_ascii=False)
    return plain_cell(value, what)


def plain_cell(value: Any, what: str) -> Scalar | None:
    """A single value as None, bool, int of 64 bits, float or text.

    Args:
        value: What the user gave; a 0-d array or tensor, and any other real number, too.
        what: What it is called, for the error.

    Returns:
        The plain value; a float that is not finite as it is.

    Raises:
        TypeError: If it is something else.
    """
    if value is None or type(value) in (bool, float):
        return value  # type: ignore[no-any-return]
    if isinstance(value, str):
        return checked_text(value, what)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, enum.Enum) and not isinstance(value, int | float):
        return plain_cell(value.value, what)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not SMALLEST <= value <= LARGEST:
            raise TypeError(f"{what} is an integer of more than 64 bits; give it as a float or as text")
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, str):  # out of a 0-d array
        return checked_text(value, what)
    raise TypeError(f"{what} is a {type(value).__name__}, which can't be logged; give a number, a bool, text or None")
