"""Collects what is wrong in a sweep's tables, each with its place, and reads single values out of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from ridgepole.errors import Problem, did_you_mean
from ridgepole.sweeps.reading import Path_, PlaceOf

_Word = TypeVar("_Word", bound=str)
EXACT = 2**53
"""Up to here every integer is also a float, which is what databases keep of a parameter."""


class Checker:
    """The one list of problems.

    Args:
        place: Where a path stands.
        odd: Remarks on values that their format may read otherwise than they were meant.
    """

    def __init__(self, place: PlaceOf, odd: Mapping[Path_, str] | None = None) -> None:
        self.problems: list[Problem] = []
        self.odd = odd or {}
        self._place = place

    def error(self, path: Path_, message: str, hint: str = "", *, key: bool = False) -> None:
        """Notes an error at a value, or at its key. A value that was read oddly gets that said as the hint."""
        self._add(path, message, self.odd.get(path, hint) if not key else hint, key, "error")

    def warn(self, path: Path_, message: str, hint: str = "", *, key: bool = False) -> None:
        """Notes a warning."""
        self._add(path, message, hint, key, "warning")

    def _add(self, path: Path_, message: str, hint: str, key: bool, severity: Literal["error", "warning"]) -> None:
        self.problems.append(Problem(message, self._place(path, key), hint, severity=severity))

    @property
    def failed(self) -> bool:
        """Whether there is an error among the problems."""
        return any(problem.severity == "error" for problem in self.problems)

    def sorted(self) -> list[Problem]:
        """The problems in the order of their places, each once."""
        unique = dict.fromkeys(self.problems)
        return sorted(unique, key=lambda p: (p.place.file, p.place.line, p.place.column) if p.place else ("", 0, 0))

    @staticmethod
    def name(path: Path_) -> str:
        """A path as one would write it: `parameters.lr.values[2]`."""
        text = ""
        for part in path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text or "the sweep"

    def table(self, value: object, path: Path_) -> bool:
        """Whether a value is a table; if not, that is an error."""
        if isinstance(value, Mapping):
            return True
        self.error(path, f"{self.name(path)} must be a table, not {shown(value)}")
        return False

    def known(self, table: Mapping[Any, Any], path: Path_, keys: Iterable[str], what: str = "") -> None:
        """Reports the keys that nobody knows."""
        keys = list(keys)
        for key in table:
            if key not in keys:
                hint = (did_you_mean(key, keys) if isinstance(key, str) else "") or f"it knows {', '.join(keys)}"
                self.error((*path, key), f"{what or self.name(path)} has no key {key!r}", hint, key=True)

    def number(self, table: Mapping[str, Any], path: Path_, key: str) -> int | float | None:
        """A finite number; None where it is missing or wrong."""
        if key not in table:
            return None
        value, where = bare(table[key]), (*path, key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.error(where, f"{self.name(where)} must be a number, not {shown(value)}", _number_hint(value))
        elif not math.isfinite(value):
            self.error(where, f"{self.name(where)} must be a finite number, not {value}")
        elif isinstance(value, int) and abs(value) > EXACT:
            self.error(where, f"{self.name(where)} is beyond 2**53, where floats have gaps between the integers")
        else:
            return value
        return None

    def integer(
        self, table: Mapping[str, Any], path: Path_, key: str, least: int, most: int | None = None
    ) -> int | None:
        """An integer in a range; None where it is missing or wrong."""
        if key not in table:
            return None
        value, where = bare(table[key]), (*path, key)
        if isinstance(value, bool) or not isinstance(value, int):
            hint = f"write {int(value)}" if isinstance(value, float) and value.is_integer() else _number_hint(value)
            self.error(where, f"{self.name(where)} must be an integer, not {shown(value)}", hint)
        elif value < least or (most is not None and value > most):
            bound = f"at least {least}" if value < least else f"at most {most}"
            self.error(where, f"{self.name(where)} must be {bound}, not {value}")
        else:
            return value
        return None

    def text(self, table: Mapping[str, Any], path: Path_, key: str) -> str | None:
        """A text that is not empty; None where it is missing or wrong."""
        if key not in table:
            return None
        value, where = table[key], (*path, key)
        if isinstance(value, str) and value:
            return value
        self.error(where, f"{self.name(where)} must be text, not {shown(value)}")
        return None

    def boolean(self, table: Mapping[str, Any], path: Path_, key: str) -> bool | None:
        """True or false; None where it is missing or wrong."""
        if key not in table:
            return None
        value, where = table[key], (*path, key)
        if isinstance(value, bool):
            return value
        self.error(where, f"{self.name(where)} must be true or false, not {shown(value)}")
        return None

    def one_of(self, table: Mapping[str, Any], path: Path_, key: str, words: Sequence[_Word]) -> _Word | None:
        """One of several words; None where it is missing or wrong."""
        if key not in table:
            return None
        value, where = table[key], (*path, key)
        for word in words:
            if value == word:
                return word
        hint = did_you_mean(value, words) if isinstance(value, str) else ""
        choices = ", ".join(repr(str(word)) for word in words)
        self.error(where, f"{self.name(where)} must be one of {choices}, not {shown(value)}", hint)
        return None


def bare(value: Any) -> Any:
    """A scalar or array of NumPy as Python has it; everything else as it is."""
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value


def plain(check: Checker, value: Any, path: Path_) -> Any:
    """A copy of a value made of what JSON knows; what JSON has no word for is reported, and None in its place."""
    value = bare(value)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        check.error(path, f"{check.name(path)} is {value}, which JSON can't hold")
        return None
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                check.error(path, f"{check.name(path)} has the key {key!r}, which is no text")
        return {str(key): plain(check, item, (*path, key)) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(check, item, (*path, index)) for index, item in enumerate(value)]
    check.error(path, f"{check.name(path)} is {shown(value)}, which JSON can't hold", "write it as text")
    return None


def shown(value: object) -> str:
    """A value in a message: short, and in the words of a file."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, str):
        text = repr(value)
        return f"the text {text if len(text) <= 60 else text[:57] + '...'}" if value else "an empty text"
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return "an array"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)[:60] if isinstance(value, int | float) else f"a {type(value).__name__}"


def _number_hint(value: object) -> str:
    if not isinstance(value, str):
        return ""
    try:
        float(value)
    except ValueError:
        return ""
    return "leave the quotes out"
