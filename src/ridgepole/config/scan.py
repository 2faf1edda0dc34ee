"""Finds the position of every key and value of a TOML text, which tomllib does not tell.

tomllib has accepted the text, and line feeds are its only line breaks; so nothing is checked here.
Grammar: https://toml.io/en/v1.0.0
"""

from __future__ import annotations

import re
import tomllib
from typing import NamedTuple, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
Span: TypeAlias = tuple[int, int, int, int]
"""Start and end of the key, then of the value. A table's value is its header or its braces."""

_SPACE = re.compile(r"[ \t]*+")
_SKIP = re.compile(r"(?:[ \t\n]++|#[^\n]*+)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# A possessive repeat (`*+`) of alternatives ends too early in Python 3.11.2 (Debian 12).
# The first character decides between the alternatives, so `*` matches without backtracking.
STRING = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*"{3,5}'
    r"|'''(?:[^']++|'(?!''))*'{3,5}"
    r'|"(?:[^"\\\n]++|\\.)*"'
    r"|'[^'\n]*+'",
    re.DOTALL,
)
# The only scalar with a space inside is a date followed by a time.
_SCALAR = re.compile(r"[^ \t\n,\]}#]+(?: [0-9][^ \t\n,\]}#]*)?")
# The most frequent pairs: a bare key and, unless it is an array, table or long string, the value.
_PLAIN_PAIR = re.compile(
    r"([A-Za-z0-9_-]++)[ \t]*+=[ \t]*+"
    r"(\"(?!\"\")[^\"\\\n]*+\"|'(?!'')[^'\n]*+'|[^ \t\n,\]}#\"'\[{]++(?: [0-9][^ \t\n,\]}#]*+)?)?"
)


class Part(NamedTuple):
    """One part of a dotted key."""

    name: str
    start: int
    end: int


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    if match is None:
        raise ValueError(f"not TOML at offset {at}")
    return match.end()


def read_key(text: str, at: int) -> tuple[list[Part], int]:
    """Read the dotted key at an offset; return its parts and the offset after it."""
    parts = []
    while True:
        at = _end(_SPACE, text, at)
        quoted = text[at] in "\"'"
        end = _end(STRING if quoted else _BARE, text, at)
        token = text[at:end]
        if quoted:
            name = tomllib.loads(f"k={token}")["k"] if "\\" in token and token[0] == '"' else token[1:-1]
        else:
            name = token
        parts.append(Part(name, at, end))
        at = _end(_SPACE, text, end)
        if not text.startswith(".", at):
            return parts, at
        at += 1


class Scanner:
    """Scans a text statement by statement.

    Attributes:
        spans: The position of each key and value by path; items of arrays have their index in it.
        base: Path of the current table.
        repeats: Keys that an inline table defines again: the path, its first span, the new key.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.spans: dict[KeyPath, Span] = {}
        self.base: KeyPath = ()
        self.repeats: list[tuple[KeyPath, Span, list[Part]]] = []
        self._last: dict[KeyPath, int] = {}  # index of the last table of each array of tables

    def skip(self, at: int) -> int:
        """Return the offset after white space, line breaks and comments."""
        return _end(_SKIP, self.text, at)

    def statement(self, at: int) -> int:
        """Scan the header or the key/value pair at an offset; return the offset after it."""
        return self._header(at) if self.text[at] == "[" else self._pair(at, self.base)

    def _header(self, at: int) -> int:
        array = self.text.startswith("[[", at)
        parts, end = read_key(self.text, at + 1 + array)
        end += 1 + array
        path: KeyPath = ()
        for name, start, stop in parts[:-1]:
            path += (name,)
            self.spans.setdefault(path, (start, stop, at, end))
            if path in self._last:  # a header goes through the last element of an array of tables
                path += (self._last[path],)
        name, start, stop = parts[-1]
        path += (name,)
        span = (start, stop, at, end)
        if array:
            self.spans.setdefault(path, span)
            self._last[path] = self._last.get(path, -1) + 1
            path += (self._last[path],)
        self.spans[path] = span
        self.base = path
        return end

    def _pair(self, at: int, base: KeyPath) -> int:
        if plain := _PLAIN_PAIR.match(self.text, at):
            path = (*base, plain[1])
            start, stop = plain.span(1)
            at, end = plain.span(2) if plain[2] else (plain.end(), 0)
            end = end or self._value(at, path)
            self.spans[path] = (start, stop, at, end)
            return end
        parts, at = read_key(self.text, at)
        at = _end(_SPACE, self.text, at + 1)  # beyond "="
        path = base
        for name, start, stop in parts[:-1]:
            path += (name,)
            self.spans.setdefault(path, (start, stop, start, stop))
        name, start, stop = parts[-1]
        path += (name,)
        end = self._value(at, path)
        self.spans[path] = (start, stop, at, end)
        return end

    def _value(self, at: int, path: KeyPath) -> int:
        first = self.text[at]
        if first == "[":
            return self._array(at + 1, path)
        if first == "{":
            return self._inline_table(at + 1, path)
        return _end(STRING if first in "\"'" else _SCALAR, self.text, at)

    def _array(self, at: int, path: KeyPath) -> int:
        index = 0
        while self.text[at := self.skip(at)] != "]":
            if self.text[at] == ",":
                at += 1
                continue
            item = (*path, index)
            end = self._value(at, item)
            self.spans[item] = (at, end, at, end)
            at, index = end, index + 1
        return at + 1

    def _inline_table(self, at: int, path: KeyPath) -> int:
        while self.text[at := self.skip(at)] != "}":
            if self.text[at] == ",":
                at += 1
                continue
            self._note_repeat(at, path)
            at = self._pair(at, path)
        return at + 1

    def _note_repeat(self, at: int, path: KeyPath) -> None:
        parts, _ = read_key(self.text, at)
        for part in parts:
            path += (part.name,)
            known = self.spans.get(path)
            if known and (part is parts[-1] or known[:2] != known[2:]):  # not only a table on the way
                self.repeats.append((path, known, parts))
                return


def scan(text: str) -> dict[KeyPath, Span]:
    """Return the spans of all keys and values of a valid text, including implied tables."""
    scanner = Scanner(text)
    at = scanner.skip(0)
    while at < len(text):
        at = scanner.skip(scanner.statement(at))
    return scanner.spans
