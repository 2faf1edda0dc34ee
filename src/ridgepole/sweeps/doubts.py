"""Values of a sweep that look as if another type was meant: warnings, no errors."""

from __future__ import annotations

import re

from ridgepole.sweeps.checker import Checker, shown
from ridgepole.sweeps.kinds import Json, canonical
from ridgepole.sweeps.reading import Path_

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def doubt(check: Checker, values: list[Json], path: Path_) -> None:
    """Warns of values that look as if another type was meant, and of repeated ones."""
    numbers = any(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        where = (*path, index)
        if not doubt_scalar(check, value, where, numbers=numbers) and numbers and isinstance(value, bool):
            check.warn(where, f"{check.name(where)} is the boolean {shown(value)} among numbers")
        text = canonical(value)
        if text in first:
            check.warn(where, f"{check.name(where)} is the same as [{first[text]}]", "a grid takes it once")
        first.setdefault(text, index)


def doubt_scalar(check: Checker, value: Json, path: Path_, *, numbers: bool = False) -> bool:
    """Warns of a single value that looks as if another type was meant; says whether it did."""
    if path in check.odd:
        check.warn(path, f"{check.name(path)} may not be what was meant", check.odd[path])
    elif isinstance(value, str) and _NUMBER.fullmatch(value) and (numbers or "e" in value.lower()):
        check.warn(path, f"{check.name(path)} is the text {value!r}, not a number", "leave the quotes out")
    elif isinstance(value, str) and value.lower() in ("null", "none", "true", "false"):
        word = value.lower()
        hint = "leave the quotes out" if word in ("true", "false") else "TOML has no null; YAML and JSON write null"
        check.warn(path, f"{check.name(path)} is the text {value!r}", hint)
    else:
        return False
    return True
