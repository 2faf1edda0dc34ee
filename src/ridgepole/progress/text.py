"""Format numbers, durations and foreign text for a row."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any


def clean(text: object) -> str:
    """Make a text safe for one row: no line breaks, control characters or invisible marks."""
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(char if char.isprintable() else _harmless(char) for char in plain)


def _harmless(char: str) -> str:
    if char.isspace():
        return " "
    # Format characters take no cell: joiners, marks that reverse the writing direction.
    return "" if unicodedata.category(char) == "Cf" else "?"


def amount(value: float, *, scaled: bool = False) -> str:
    """Format a number of steps: as an integer if it is whole, else with one decimal.

    Args:
        value: The number.
        scaled: Whether to give it a prefix from 1,000 on, such as `1.5M`.
    """
    if not math.isfinite(value):
        return "?"
    if scaled:
        for prefix in ("", "k", "M", "G"):
            if abs(value) < 999.5:
                return amount(round(value, 1)) + prefix if value < 99.95 else f"{value:.0f}{prefix}"
            value /= 1000
        return f"{value:.1f}T"
    return str(int(value)) if value == int(value) else f"{value:.1f}"


def duration(seconds: float | None) -> str:
    """Format seconds, rounded up, as `h:mm:ss`; `-:--:--` if unknown, days from 1000 hours."""
    if seconds is None or not math.isfinite(seconds):
        return "-:--:--"
    whole = math.ceil(max(0.0, seconds) - 0.01)
    if whole >= 1000 * 3600:
        return f"{whole // 86400} d"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def spent(seconds: float) -> str:
    """Format a duration in seconds, with a decimal below a minute."""
    return f"{max(0.0, seconds):.1f} s" if seconds < 60 else duration(seconds)


def pace(rate: float | None, unit: str) -> str:
    """Format steps per second, or seconds per step below one; an empty string if unknown."""
    if not rate or not math.isfinite(rate):
        return ""
    if rate < 1:
        return f"{1 / rate:.{2 if rate > 0.1 else 1}f} s/{unit}"
    for prefix in ("", "k", "M", "G"):
        if rate < 999.5:
            return f"{rate:.{0 if rate >= 99.95 else 1}f} {prefix}{unit}/s"
        rate /= 1000
    return f"{rate:.0f} T{unit}/s"


def values(pairs: Mapping[str, Any]) -> dict[str, str]:
    """Format the values of `set`. It may call user code, so never on the display's thread."""
    return {name: _value(value) for name, value in pairs.items()}


def _value(value: Any) -> str:
    try:
        if not isinstance(value, (int, float, str)) and hasattr(value, "item"):
            value = value.item()  # a tensor or array of one element
        if isinstance(value, float):
            return f"{value:.4g}"
        return clean(value)[:60]
    except Exception:  # noqa: BLE001 - a value that can't be shown must not stop the loop
        return "?"
