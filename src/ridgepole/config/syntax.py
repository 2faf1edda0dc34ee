"""Says in the user's terms what tomllib found wrong: where it really began, and what to write instead."""

from __future__ import annotations

import re

from ridgepole.config.limits import OPAQUE, Finding, blank, brackets
from ridgepole.config.scan import STRING, Path, Scanner, Span, read_key

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_BARE_VALUE = re.compile(r"[^\s,\]}#]+(?:[ \t]+[^\s,\]}#=]+)*")
_TWICE = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Cannot redefine")
_HINTS = {
    "Illegal character": "leave it out, or write it as an escape such as \\u001b between double quotes",
    "Unescaped '\\'": "double the backslash, or write the text between single quotes, which take it as it is",
    "Expected '=' after a key": "write key = value",
    "Expected newline or end of document": "write one key = value a line",
    "Unclosed array": "is a comma or a ] missing?",
    "Expected ']": "is a ] missing?",
    "Invalid statement": "write key = value, or [table]; keys other than A-Z a-z 0-9 _ - go between quotes",
}
_UNCLOSED = ("Unterminated string", "Expected \"'", "Illegal character '\\n'")
_ONE_LINE = "an inline table { … } stands on one line, without a comma at its end; for more write a [table]"


def explain(message: str, text: str) -> Finding:
    """Turns an error of tomllib into a finding with a place.

    Args:
        message: What tomllib said, with its own "(at line 3, column 7)" at the end.
        text: The text that it refused.

    Returns:
        The message without tomllib's place, the best place for a caret, and a hint where one is known.
    """
    at = _AT.search(message)
    if at is None:  # no syntax error of tomllib's own, but a conversion that failed
        return Finding(f"not valid TOML: {message}", 0, 0)
    bare = message[: at.start()]
    offset = _offset(text, int(at[1]), int(at[2])) if at[1] else len(text)
    if bare.startswith(_TWICE) and (finding := _twice(text, offset)):
        return finding
    start, end, hint = _locate(bare, text, offset)
    return Finding(f"not valid TOML: {bare[0].lower()}{bare[1:]}", start, end, hint)


def _offset(text: str, line: int, column: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    return start + column - 1


def _locate(message: str, text: str, offset: int) -> tuple[int, int, str]:
    """Where the caret begins and ends, and the hint."""
    hint = next((hint for start, hint in _HINTS.items() if message.startswith(start)), "")
    if message.startswith(_UNCLOSED) and (token := _unclosed_string(text)):
        return *token, 'the text that begins here is not closed; one of several lines goes between """ and """'
    if message.startswith("Unescaped '\\'"):
        return offset - 2, offset, hint  # tomllib stands behind the backslash and its character
    if message == "Invalid value":
        value = _BARE_VALUE.match(text, offset)
        if value:
            return *value.span(), _value_hint(value[0])
        hint = "a value is missing"
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
    offset = len(text.rstrip())  # the last line with something on it says more than an empty one behind it
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
    """Offsets of the brackets that are open at an offset, the innermost last."""
    stack: list[int] = []
    for bracket, place in brackets(blank(text[:offset])):
        if bracket in "[{":
            stack.append(place)
        elif stack:
            stack.pop()
    return stack


def _value_hint(value: str) -> str:
    """What to write instead of something that is no value."""
    small = value.lower()
    if small in {"true", "false"}:
        return f"write {small}, in small letters"
    if small in {"none", "null", "nil"}:
        return "TOML has no such value; leave the key out"
    if re.fullmatch(r"[+-]?(\.\d+|\d+\.)", value):
        return "a number has digits on both sides of its point"
    if re.fullmatch(r"[+-]?0\d+", value):
        return "a number does not begin with 0"
    if re.match(r"\d{4}-\d\d-\d\d", value):
        return "there is no such date"
    return f'text needs quotes: "{value}"' if not set(value) & set("\"'\\=:") else "text needs quotes"


def _twice(text: str, offset: int) -> Finding | None:
    """Finds the key that the statement before an offset gives a second time, and where it stood first."""
    try:
        scanner, begin, known = _before(text, offset)
        scanner.statement(begin)
    except (ValueError, IndexError):  # the statement goes on as no TOML; tomllib had not come that far
        return None
    added = sorted((path for path, span in scanner.spans.items() if known.get(path) != span), key=len)
    again = added[0] if added else ()
    while again and again not in known:
        again = again[:-1]
    if not again:
        return None
    parts, _ = read_key(text, begin + len(re.match(r"\[{0,2}", text[begin:])[0]))  # type: ignore[index]
    first = known[again][0]
    line, column = text.count("\n", 0, first) + 1, first - text.rfind("\n", 0, first)
    name = ".".join(part for part in again if isinstance(part, str))
    return Finding(
        f"{name!r} is written twice",
        parts[0].start,
        parts[-1].end,
        f"it stands at line {line}, column {column} already",
    )


def _before(text: str, offset: int) -> tuple[Scanner, int, dict[Path, Span]]:
    """A scanner that stands before the statement that ends at an offset, that place, and what it has seen so far."""
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
