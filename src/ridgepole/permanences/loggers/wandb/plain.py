"""Plain values for another process: exact types alone, whatever subclasses they came as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """A value of exact built-in types; what is none becomes text.

    Args:
        value: Numbers, text, None, mappings and sequences of these, or anything else.

    Returns:
        The same in `dict`, `list`, `str`, `bool`, `int`, `float` and None.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value) if kind is not str else str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)
