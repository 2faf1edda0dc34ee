"""A named TOML text: from bytes to values, and from paths and offsets to places."""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import itertools
import pathlib
import re
import tomllib
from bisect import bisect_right
from functools import cached_property
from typing import Any

from ridgepole.config import limits, scan, tree
from ridgepole.config.limits import OPAQUE, Finding, blank, brackets
from ridgepole.config.scan import STRING, KeyPath, Part, Scanner, Span, read_key
from ridgepole.config.secrets import mask
from ridgepole.errors import Place, Problem

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_BARE_VALUE = re.compile(r"[^\s,\]}#]+(?:[ \t]+[^\s,\]}#=]+)*")
_DUPLICATES = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Cannot redefine")
_BACKSLASH = "double the backslash, or write the text between single quotes, which take it as it is"
_HINTS = {
    "Illegal character": "leave it out, or write it as an escape such as \\u001b between double quotes",
    "Unescaped '\\'": _BACKSLASH,
    "Invalid hex value": f"\\u takes four hexadecimal digits and \\U eight; for a backslash itself, {_BACKSLASH}",
    "Expected '=' after a key": "write key = value",
    "Expected newline or end of document": "write one key = value a line",
    "Unclosed array": "is a comma or a ] missing?",
    "Expected ']": "is a ] missing?",
    "Invalid statement": "write key = value, or [table]; keys other than A-Z a-z 0-9 _ - go between quotes",
}
_SHORT_TIME = re.compile(r"[ \t]*(\d\d:\d\d)(?=\s|$)")
_UNCLOSED = ("Unterminated string", "Expected \"'", "Illegal character '\\n'")
_ONE_LINE = "an inline table { … } stands on one line, without a comma at its end; for more write a [table]"


def explain(message: str, text: str) -> Finding:
    """Convert the message of an error of tomllib to a finding with the best place for a caret."""
    at = _AT.search(message)
    if at is None:  # a failed conversion, not a syntax error
        return Finding(f"not valid TOML: {message}", 0, 0)
    bare = message[: at.start()]
    offset = _offset(text, int(at[1]), int(at[2])) if at[1] else len(text)
    if bare.startswith("Duplicate inline table key") and (finding := _find_repeat(text, offset)):
        return finding
    if bare.startswith(_DUPLICATES) and (finding := _find_duplicate(text, offset) or _find_repeat(text, offset)):
        return finding
    start, end, hint = _locate(bare, text, offset)
    return Finding(f"not valid TOML: {bare[0].lower()}{bare[1:]}", start, end, hint)


def _offset(text: str, line: int, column: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    return start + column - 1


def _locate(message: str, text: str, offset: int) -> tuple[int, int, str]:
    """Return the start and the end of the caret line, and the hint."""
    hint = next((hint for start, hint in _HINTS.items() if message.startswith(start)), "")
    if message.startswith(_UNCLOSED) and (token := _unclosed_string(text)):
        return *token, 'the text that begins here is not closed; one of several lines goes between """ and """'
    if message.startswith(("Unescaped '\\'", "Invalid hex value")):
        if text[offset - 1] == "e":
            hint = f"write \\u001b for an escape character; for a backslash itself, {hint}"
        return offset - 2, offset, hint  # tomllib points after the backslash and its character
    if message == "Invalid value":
        value = _BARE_VALUE.match(text, offset)
        if value:
            return *value.span(), _value_hint(value[0])
        hint = "a value is missing"
    if message.startswith("Expected newline") and (time := _SHORT_TIME.match(text, offset)):
        return time.start(1), time.end(1), f"a time has seconds: {time[1]}:00"
    if message.startswith("Expected newline") and not text[offset - 1].isspace():
        word = re.compile(r"\S*").match(text, start := _word_start(text, offset))
        if word and text[:start].rstrip(" \t").endswith("="):
            return *word.span(), _value_hint(word[0])
    opened = _open_brackets(text, offset)
    if opened and text[opened[-1]] == "{" and message.startswith(("Unclosed inline", "Invalid initial", "Expected '=")):
        hint = _ONE_LINE
    if offset < len(text):
        return offset, offset, hint
    if opened and message.startswith("Unclosed"):
        return opened[-1], opened[-1] + 1, "the bracket that begins here is not closed"
    offset = len(text.rstrip())  # the last line with text is clearer than an empty one after it
    return offset, offset, hint


def _word_start(text: str, offset: int) -> int:
    while offset and text[offset - 1] not in " \t\n=":
        offset -= 1
    return offset


def _unclosed_string(text: str) -> tuple[int, int] | None:
    for token in OPAQUE.finditer(text):
        if token[0][0] != "#" and not STRING.fullmatch(token[0]):
            return token.span()
    return None


def _open_brackets(text: str, offset: int) -> list[int]:
    """Return the offsets of the brackets that are open at an offset, the innermost last."""
    stack: list[int] = []
    for bracket, place in brackets(blank(text[:offset])):
        if bracket in "[{":
            stack.append(place)
        elif stack:
            stack.pop()
    return stack


def _value_hint(value: str) -> str:
    """Return what to write instead of an invalid value."""
    small = value.lower()
    if small in {"true", "false"}:
        return f"write {small}, in small letters"
    if small in {"none", "null", "nil"}:
        return "write { null = true }, or leave the key out"
    if re.fullmatch(r"[+-]?(\.\d+|\d+\.)", value):
        return "a number has digits on both sides of its point"
    if re.fullmatch(r"[+-]?0\d+", value):
        return "a number does not begin with 0"
    if re.fullmatch(r"\d\d?:\d\d", value):
        return f"a time has hours, minutes and seconds: {value:0>5}:00"
    if re.match(r"\d{4}-\d\d-\d\d", value):
        return "this date does not exist"
    return f'text needs quotes: "{value}"' if not set(value) & set("\"'\\=:") else "text needs quotes"


def _find_duplicate(text: str, offset: int) -> Finding | None:
    """Find the key that the statement before an offset defines again, and its first place."""
    try:
        scanner, begin, known = _before(text, offset)
        scanner.statement(begin)
    except (ValueError, IndexError):  # the rest of the statement is invalid, too
        return None
    added = sorted((path for path, span in scanner.spans.items() if known.get(path) != span), key=len)
    again = added[0] if added else ()
    while again and again not in known:
        again = again[:-1]
    if not again:
        return None
    parts, _ = read_key(text, begin + len(re.match(r"\[{0,2}", text[begin:])[0]))  # type: ignore[index]
    return _duplicate(text, again, known[again][0], parts)


def _find_repeat(text: str, offset: int) -> Finding | None:
    """Find the key that an inline table before an offset defines again, and its first place."""
    scanner = Scanner(text)
    with contextlib.suppress(ValueError, IndexError):  # the rest of the statement may be invalid
        at = scanner.skip(0)
        while at < offset:
            at = scanner.skip(scanner.statement(at))
    for path, first, parts in scanner.repeats:
        if parts[0].start < offset:
            return _duplicate(text, path, first[0], parts)
    return None


def _duplicate(text: str, path: KeyPath, first: int, parts: list[Part]) -> Finding:
    line, column = text.count("\n", 0, first) + 1, first - text.rfind("\n", 0, first)
    name = ".".join(part for part in path if isinstance(part, str))
    hint = f"it is already defined at line {line}, column {column}"
    return Finding(f"duplicate key {name!r}", parts[0].start, parts[-1].end, hint)


def _before(text: str, offset: int) -> tuple[Scanner, int, dict[KeyPath, Span]]:
    """Return a scanner before the statement that ends at an offset, its start, and the spans."""
    scanner = Scanner(text)
    begin = at = scanner.skip(0)
    while at < offset:
        begin = at
        at = scanner.statement(at)
        at = scanner.skip(at) if at < offset else at
    scanner = Scanner(text)
    at = scanner.skip(0)
    while at < begin:
        at = scanner.skip(scanner.statement(at))
    return scanner, begin, dict(scanner.spans)


# A control character could change the terminal; a visible character of one column replaces it.
_VISIBLE = {code: 0x2400 + code for code in range(0x20) if code != 0x09}
_VISIBLE |= {0x7F: 0x2421} | dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000)], 0xFFFD)
_MAX_PROBLEMS = 100


def visible(text: str) -> str:
    """Replace control characters except tabs, and lone surrogates, by visible characters."""
    return text.translate(_VISIBLE)


class TomlText:
    """A text, its line structure and, once parsed, its values.

    Attributes:
        name: Its name in places.
        path: Its file, if it has one.
        data: The bytes of the file.
        text: The decoded text, without a byte order mark and with line feeds as line breaks.
        values: The parsed values; empty before a successful `parse`.
    """

    def __init__(self, name: str, data: bytes, path: pathlib.Path | None = None) -> None:
        self.name = name
        self.path = path
        self.data = data
        self.text = ""
        self.values: dict[str, Any] = {}
        self._shown = (0, "")

    def parse(self) -> list[Problem]:
        """Decode and parse the bytes; return all problems."""
        if len(self.data) > limits.MAX_BYTES:
            return [too_large(Place(self.name))]
        finding = self._decode() or limits.refuse(self.text)
        if finding is None:
            try:
                self.values = tree.take_null(tomllib.loads(self.text))
            except (ValueError, RecursionError) as error:
                finding = explain(str(error), self.text)
        if finding is not None:
            place = self.place(finding.start, finding.end)
            marked, shown = self.text[finding.start : finding.end], place.text[place.column - 1 :][: place.width]
            # The hint hides the secrets that the line hides.
            hint = finding.hint.replace(marked, shown) if len(marked) == len(shown) else finding.hint
            return [Problem(finding.message, place, hint)]
        return [
            Problem(message, self.where(path, key=key), "write it as text, between quotes" if not key else "")
            for path, key, message in itertools.islice(tree.unfit(self.values), _MAX_PROBLEMS)
        ]

    def _decode(self) -> Finding | None:
        data = self.data.removeprefix(codecs.BOM_UTF8)
        try:
            text, failure = data.decode("utf-8"), None
        except UnicodeDecodeError as error:
            start = len(data[: error.start].decode("utf-8").replace("\r\n", "\n"))
            text = data.decode("utf-8", "replace")
            utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            kind = "the file looks like UTF-16" if utf16 else f"byte 0x{data[error.start]:02x} is not UTF-8"
            failure = Finding(f"not valid TOML: {kind}", start, start + 1, "save the file as UTF-8")
        self.text = text.replace("\r\n", "\n")
        return failure

    @cached_property
    def spans(self) -> dict[KeyPath, Span]:
        """The position of each key and value; a valid configuration never needs it."""
        return scan.scan(self.text)

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        while (found := self.text.find("\n", starts[-1])) >= 0:
            starts.append(found + 1)
        return starts

    def place(self, start: int, end: int) -> Place:
        """Return the place of a part of the text; the caret line marks its first line."""
        line = bisect_right(self._starts, start)
        first = self._starts[line - 1]
        last = self._starts[line] - 1 if line < len(self._starts) else len(self.text)
        if self._shown[0] != line:  # a line of a megabyte may have thousands of problems
            self._shown = line, visible(mask(self.text[first:last]))
        return Place(self.name, line, start - first + 1, self._shown[1], max(1, min(end, last) - start))

    def where(self, path: KeyPath, *, key: bool = False) -> Place | None:
        """Return the place of a value or its key, or None if the path does not exist."""
        span = self.spans.get(path)
        if span is None:
            return None
        return self.place(*(span[:2] if key else span[2:]))


def too_large(place: Place) -> Problem:
    """Return the problem of a text beyond the size limit."""
    return Problem(
        f"larger than {limits.MAX_BYTES // 1024} KiB, which no configuration needs",
        place,
        "move data to separate files and name them here",
    )


def narrow(place: Place, token: str) -> Place:
    """Move the caret to a token further right in the line, if it is there."""
    column = place.text.find(visible(token), place.column - 1)
    return dataclasses.replace(place, column=column + 1, width=len(token)) if column >= 0 else place
