"""Collect the problems of a sweep's tables, and check values against annotations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints

from ridgepole.config import ProblemReport
from ridgepole.errors import Place, did_you_mean

KeyPath: TypeAlias = tuple[str | int, ...]
PlaceOf: TypeAlias = Callable[[KeyPath, bool], Place | None]
"""Gives the place of a value by its path; with True, the place of its key."""

EXACT = 2**53
"""Up to here every integer is also a float, and a float is what databases keep of a parameter."""


class Range(NamedTuple):
    """The range of a number, in an annotation: `Annotated[int, Range(1)]`."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf


class Checker(ProblemReport):
    """The one list of problems of a sweep.

    Args:
        place: Gives the place of a value.
        hints: Remarks, by path, on values that the file's format reads in an unexpected way.
    """

    def __init__(self, place: PlaceOf, hints: Mapping[KeyPath, str] | None = None) -> None:
        super().__init__(place)
        self.hints = hints or {}
        self._wrong: set[KeyPath] = set()

    def error(self, path: KeyPath, message: str, hint: str = "", *, key: bool = False) -> None:
        """Add an error at a value, or at its key. A value has one error at most, the first.

        A remark of the file's format on the value replaces the hint.
        """
        if not key:
            if path in self._wrong:
                return
            self._wrong.add(path)
            hint = self.hints.get(path, hint)
        self.add(path, message, hint, key=key)

    def wrong(self, path: KeyPath, message: str, hint: str = "") -> None:
        """Add an error at a value; the message begins with the value's name."""
        self.error(path, f"{self.name(path)} {message}", hint)

    def warn(self, path: KeyPath, message: str, hint: str = "", *, at_value: KeyPath | None = None) -> None:
        """Add a warning at a key, or at a value; the message begins with the key's name."""
        at = path if at_value is None else at_value
        self.add(at, f"{self.name(path)} {message}", hint, key=at_value is None, severity="warning")

    @property
    def errors(self) -> int:
        """The number of errors among the problems."""
        return sum(problem.severity == "error" for problem in self.problems)

    @staticmethod
    def name(path: KeyPath) -> str:
        """Return a path as a user would write it: `parameters.lr.values[2]`."""
        text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
        return text.removeprefix(".") or "the sweep"

    def table(self, value: object, path: KeyPath) -> bool:
        """Return whether a value is a table; report one that is not."""
        if not isinstance(value, Mapping):
            self.wrong(path, f"must be a table, not {describe(value)}")
        return isinstance(value, Mapping)

    def known(self, table: Mapping[str, Any], path: KeyPath, keys: Iterable[str], owner: str = "") -> None:
        """Report unknown keys."""
        keys = list(keys)
        for key in table:
            if key not in keys:
                hint = did_you_mean(key, keys) or f"it takes {', '.join(keys)}"
                self.error((*path, key), f"{owner or self.name(path)} has no key {key!r}", hint, key=True)

    def read(self, schema: type, table: Mapping[str, Any], path: KeyPath, keys: Iterable[str] = ()) -> dict[str, Any]:
        """Return the right values of a table: arguments for the data class that describes it.

        Unknown keys are reported, except the further `keys`.
        """
        annotations = get_type_hints(schema, include_extras=True)
        names = [each.name for each in fields(schema)]
        self.known(table, path, [*names, *keys])
        found = {name: self.value(annotations[name], table[name], (*path, name)) for name in names if name in table}
        return {name: value for name, value in found.items() if value is not None}

    def value(self, annotation: Any, value: Any, path: KeyPath) -> Any:
        """Return a value that fits an annotation; report any other value, and return None.

        An `int | float` is a number that is kept as it is; a `float` is converted. A text must not
        be empty.
        """
        kind, bounds = _unpack(annotation)
        if get_origin(kind) is Literal:
            return self.word(get_args(kind), value, path)
        if get_origin(kind) is Mapping:
            return value if self.table(value, path) else None
        if kind in _NUMBERS and isinstance(value, int | float) and not isinstance(value, bool):
            return self._number(kind, bounds, value, path)
        if kind in (bool, str) and isinstance(value, kind) and value != "":
            return value
        what = "true or false" if kind is bool else "text" if kind is str else _NUMBERS[kind]
        hint = "leave the quotes out" if kind in _NUMBERS and _is_number_text(value) else ""
        self.wrong(path, f"must be {what}, not {describe(value)}", hint)
        return None

    def word(self, words: Sequence[str], value: Any, path: KeyPath, hint: str = "") -> Any:
        """Return a value that is one of several words; report any other value, and return None."""
        if value in words:
            return value
        hint = hint or (did_you_mean(value, words) if isinstance(value, str) else "")
        self.wrong(path, f"must be one of {', '.join(map(repr, words))}, not {describe(value)}", hint)
        return None

    def _number(self, kind: Any, bounds: Range, value: int | float, path: KeyPath) -> int | float | None:
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)  # as in JSON Schema
        if kind is int and not isinstance(value, int):
            self.wrong(path, f"must be an integer, not {value}")
        elif value <= bounds.above:
            self.wrong(path, f"must be above {bounds.above}, not {value}")
        elif value < bounds.least:
            self.wrong(path, f"must be at least {bounds.least}, not {value}")
        elif value > bounds.most:
            self.wrong(path, f"must be at most {bounds.most}, not {value}")
        elif kind is not int and isinstance(value, int) and abs(value) > EXACT:
            self.wrong(path, "is beyond 2**53, where floats have gaps between the integers")
        else:
            return float(value) if kind is float else value
        return None


_NUMBERS: dict[Any, str] = {int: "an integer", float: "a number", int | float: "a number"}


def _unpack(annotation: Any) -> tuple[Any, Range]:
    """Return the type and the range of an annotation, without `None`."""
    if get_origin(annotation) in (Union, UnionType) and NoneType in get_args(annotation):
        (annotation,) = (each for each in get_args(annotation) if each is not NoneType)
    kind, bounds = get_args(annotation) if get_origin(annotation) is Annotated else (annotation, Range())
    return kind, bounds


def _is_number_text(value: object) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def to_json(check: Checker, value: Any, path: KeyPath) -> Any:
    """Return a copy of a value in JSON's types; report what JSON can't hold."""
    if hasattr(value, "tolist") and hasattr(value, "dtype"):  # of NumPy
        value = value.tolist()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                check.wrong(path, f"has the key {key!r}, which is not text")
        return {key: to_json(check, item, (*path, key)) for key, item in value.items() if isinstance(key, str)}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [to_json(check, item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        check.wrong(path, f"must be a finite number, not {value}")
    elif value is not None and not isinstance(value, bool | int | float | str):
        check.wrong(path, f"is {describe(value)}, which JSON can't hold", "write it as text")
        return None
    return value


def describe(value: object) -> str:
    """Describe a value in a message: shortly, and in the words of a file."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        text = repr(value)
        return f"the text {text if len(text) <= 60 else text[:57] + '...'}" if value else "an empty text"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)[:60] if isinstance(value, int | float) else f"a {type(value).__name__}"
