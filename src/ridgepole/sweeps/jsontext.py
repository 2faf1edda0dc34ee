"""JSON with the place of every value: `json` gives the values, this finds where they stand."""

from __future__ import annotations

import json
import re
from typing import Any

from ridgepole.config.limits import MAX_DEPTH
from ridgepole.config.scan import Span
from ridgepole.config.source import Source
from ridgepole.errors import ConfigError, Problem

_SKIP = re.compile(r"[ \t\n\r,:]*")
_DECODER = json.JSONDecoder()


def parse(source: Source) -> tuple[Any, dict[tuple[str | int, ...], Span], dict[tuple[str | int, ...], str]]:
    """Parses a text of JSON.

    Returns:
        The value, the spans of all keys and values by path, and no remarks.

    Raises:
        ConfigError: If it is no JSON, nests too deeply, or gives a key twice.
    """
    try:
        values = json.loads(source.text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        place = source.place(error.pos, error.pos + 1)
        raise ConfigError([Problem(f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]}", place)]) from None
    except RecursionError:
        raise ConfigError([Problem(f"brackets nested more than {MAX_DEPTH} deep", source.place(0, 1))]) from None
    except ValueError as error:  # NaN, or a number of thousands of digits
        raise ConfigError([Problem(f"not valid JSON: {error}", source.place(0, 1))]) from None
    scanner = _Scanner(source)
    scanner.value(_SKIP.match(source.text).end(), ())  # type: ignore[union-attr]
    if scanner.problems:
        raise ConfigError(scanner.problems)
    return values, scanner.spans, {}


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


class _Scanner:
    """Goes over a text that `json` has accepted, so that nothing is checked but what `json` lets pass."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.spans: dict[tuple[str | int, ...], Span] = {}
        self.problems: list[Problem] = []

    def value(self, at: int, path: tuple[str | int, ...], key: tuple[int, int] | None = None) -> int:
        """Takes in the value at an offset; returns the offset behind it."""
        first = self.text[at]
        if len(path) >= MAX_DEPTH and first in "[{":
            place = self.source.place(at, at + 1)
            raise ConfigError([Problem(f"brackets nested more than {MAX_DEPTH} deep", place)])
        if first == "{":
            end = self._object(at + 1, path)
        elif first == "[":
            end = self._array(at + 1, path)
        else:
            end = _DECODER.raw_decode(self.text, at)[1]
        self.spans[path] = (*(key or (at, end)), at, end)
        return end

    def _skip(self, at: int) -> int:
        return _SKIP.match(self.text, at).end()  # type: ignore[union-attr]

    def _array(self, at: int, path: tuple[str | int, ...]) -> int:
        index = 0
        while self.text[at := self._skip(at)] != "]":
            at = self.value(at, (*path, index))
            index += 1
        return at + 1

    def _object(self, at: int, path: tuple[str | int, ...]) -> int:
        while self.text[at := self._skip(at)] != "}":
            name, end = _DECODER.raw_decode(self.text, at)
            here = (*path, name)
            if here in self.spans:
                self.problems.append(Problem(f"the key {name!r} is written twice", self.source.place(at, end)))
            at = self.value(self._skip(end), here, (at, end))
        return at + 1
