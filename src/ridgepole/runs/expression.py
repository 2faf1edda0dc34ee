"""Filters of runs, such as `lr > 1e-3 and status == "finished"`.

The language has names, numbers, texts, lists, `true`, `false` and `none`; the comparisons `==`,
`!=`, `<`, `<=`, `>`, `>=`, `in`, `not in` and `~` (a pattern with `*` and `?`); `and`, `or`, `not`
and parentheses. Nothing of it is evaluated by Python.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ridgepole.errors import ConfigError, Place, Problem

_LONGEST = 10_000
_DEEPEST = 50
_WORDS = {"true": True, "false": False, "none": None}
_OPERATORS = frozenset(("==", "!=", "<=", ">=", "<", ">", "~", "in"))
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    | (?P<name>[^\W\d][\w./:-]*|`[^`]+`)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<sign>==|!=|<=|>=|&&|\|\||[<>~=!()\[\],])
    )""",
    re.VERBOSE,
)
_INSTEAD = {"=": "==", "&&": "and", "||": "or", "!": "not"}

Getter = Callable[[Any], Any]
"""Gives the value that a row has under a name; None where it has none."""


class UnknownNameError(LookupError):
    """A name that no run has, or that could be several.

    Args:
        message: What is wrong.
        hint: What to write instead.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def compile_filter(text: str, resolve: Callable[[str], Getter], source: str = "--filter") -> Callable[[Any], bool]:
    """Compile a filter.

    A comparison with a missing value, or of a number with a text, is false; only `!=` and `not in`
    are true for them. Times can be compared with texts such as `"2026-11-22"`, in UTC.

    Args:
        text: The filter.
        resolve: Returns the getter of a name, or raises an `UnknownNameError`.
        source: The name of the filter in messages.

    Returns:
        A function that tells whether a row passes.

    Raises:
        ConfigError: With the place of what is wrong.
    """
    parser = _Parser(text, resolve, source)
    test = parser.parse()
    return lambda row: bool(test(row))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    value: Any
    first: int
    end: int


class _Parser:
    """Parses by recursive descent, and builds functions of a row."""

    def __init__(self, text: str, resolve: Callable[[str], Getter], source: str) -> None:
        self._text, self._resolve, self._source = text, resolve, source
        if len(text) > _LONGEST:
            raise self._error(f"a filter has at most {_LONGEST} characters", 0, 1)
        self._tokens = list(self._scan())
        self._at = self._depth = 0

    def parse(self) -> Getter:
        if self._peek().kind == "end":
            raise self._error("the filter is empty", 0, 1, """write one such as 'lr > 0.1'""")
        test = self._either()
        token = self._peek()
        if token.kind != "end":
            raise self._unexpected(token, "'and', 'or' or the end")
        return test

    def _scan(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._text.rstrip()):
            match = _TOKEN.match(self._text, at)
            if match is None:
                first = at + len(self._text[at:]) - len(self._text[at:].lstrip())
                what = "a text without its closing quote" if self._text[first] in "\"'`" else "not understood"
                raise self._error(f"{self._text[first : first + 20]!r} is {what}", first, first + 1)
            kind = str(match.lastgroup)
            raw, (first, at) = match[kind], match.span(kind)
            yield self._token(kind, raw, first, at)
        yield _Token("end", None, len(self._text), len(self._text) + 1)

    def _token(self, kind: str, raw: str, first: int, end: int) -> _Token:
        if kind == "number":
            whole = re.fullmatch(r"[-+]?\d+", raw)
            return _Token("value", int(raw) if whole else float(raw), first, end)
        if kind == "text":
            try:
                body = raw[1:-1] if raw[0] == '"' else raw[1:-1].replace('"', '\\"').replace("\\'", "'")
                return _Token("value", json.loads(f'"{body}"', strict=False), first, end)
            except ValueError:
                raise self._error("this text has an unknown escape", first, end, r"write \\ for one \ ") from None
        if kind == "name":
            if raw in _WORDS:
                return _Token("value", _WORDS[raw], first, end)
            return _Token(raw if raw in ("and", "or", "not", "in") else "name", raw.strip("`"), first, end)
        if raw in _INSTEAD:
            raise self._error(f"{raw!r} is not an operator", first, end, f"did you mean {_INSTEAD[raw]!r}?")
        return _Token(raw, raw, first, end)

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _accept(self, kind: str) -> bool:
        if self._peek().kind == kind:
            self._at += 1
            return True
        return False

    def _either(self) -> Getter:
        parts = [self._both()]
        while self._accept("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def _both(self) -> Getter:
        parts = [self._negated()]
        while self._accept("and"):
            parts.append(self._negated())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _negated(self) -> Getter:
        if self._accept("not"):
            self._deeper()
            inner = self._negated()
            self._depth -= 1
            return lambda row: not inner(row)
        return self._comparison()

    def _comparison(self) -> Getter:
        left, first = self._operand(), self._tokens[self._at - 1]
        pairs: list[tuple[Callable[[Any, Any], bool], Getter, Getter]] = []
        while (operator := self._operator()) is not None:
            sign, right, last = self._tokens[self._at - 1], self._operand(), self._tokens[self._at - 1]
            self._check_tags(first, sign, last)
            first = last
            pairs.append((operator, left, right))
            left = right
        if not pairs:
            return left
        return lambda row: all(compare(a(row), b(row)) for compare, a, b in pairs)

    def _check_tags(self, left: _Token, sign: _Token, right: _Token) -> None:
        """Refuse `tags == "x"`, which no run passes."""
        text = next((each.value for each in (left, right) if each.kind == "value"), None)
        is_tags = any(each.kind == "name" and each.value == "tags" for each in (left, right))
        if is_tags and sign.kind in ("==", "!=") and isinstance(text, str):
            word = "in" if sign.kind == "==" else "not in"
            hint = f"write {json.dumps(text, ensure_ascii=False)} {word} tags"
            raise self._error("tags is a list", left.first, right.end, hint)

    def _operator(self) -> Callable[[Any, Any], bool] | None:
        token = self._peek()
        if token.kind == "not" and self._tokens[self._at + 1].kind == "in":
            self._at += 2
            return lambda a, b: not _compare("in", a, b)
        if token.kind not in _OPERATORS:
            return None
        self._at += 1
        return lambda a, b: _compare(token.kind, a, b)

    def _operand(self) -> Getter:
        token = self._take()
        if token.kind == "value":
            return lambda _row: token.value
        if token.kind == "name":
            try:
                return self._resolve(token.value)
            except UnknownNameError as error:
                hint = error.hint or f"a text has quotes: {json.dumps(token.value, ensure_ascii=False)}"
                raise self._error(str(error), token.first, token.end, hint) from None
        if token.kind == "(":
            self._deeper()
            inner = self._either()
            self._depth -= 1
            self._close(")")
            return inner
        if token.kind == "[":
            items = self._items()
            return lambda row: [item(row) for item in items]
        raise self._unexpected(token, "a name or a value")

    def _items(self) -> list[Getter]:
        items: list[Getter] = []
        while not self._accept("]"):
            if items and not self._accept(","):
                raise self._unexpected(self._peek(), "',' or ']'")
            self._deeper()
            items.append(self._operand())
            self._depth -= 1
        return items

    def _close(self, kind: str) -> None:
        if not self._accept(kind):
            raise self._unexpected(self._peek(), repr(kind))

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            token = self._peek()
            raise self._error(f"the filter is nested more than {_DEEPEST} levels deep", token.first, token.end)

    def _unexpected(self, token: _Token, wanted: str) -> ConfigError:
        found = "the end of the filter" if token.kind == "end" else repr(self._text[token.first : token.end])
        return self._error(f"expected {wanted}, not {found}", token.first, token.end)

    def _error(self, message: str, first: int, end: int, hint: str = "") -> ConfigError:
        text = re.sub(r"[\r\n]", " ", self._text[:_LONGEST])
        return ConfigError([Problem(message, Place(self._source, 1, first + 1, text, max(1, end - first)), hint)])


class Moment(float):
    """Seconds since the epoch, which a filter may compare with a date in a text."""

    __slots__ = ()


def _compare(operator: str, left: Any, right: Any) -> bool:
    left, right = _as_moments(left, right)
    if operator == "==":
        return _equal(left, right)
    if operator == "!=":
        return not _equal(left, right)
    if operator == "in":
        if isinstance(right, str):
            return isinstance(left, str) and left in right
        return isinstance(right, list | tuple) and any(_equal(left, item) for item in right)
    if operator == "~":
        return isinstance(left, str) and isinstance(right, str) and fnmatch.fnmatchcase(left, right)
    if not ((_is_number(left) and _is_number(right)) or (isinstance(left, str) and isinstance(right, str))):
        return False
    if operator == "<":
        return bool(left < right)
    if operator == "<=":
        return bool(left <= right)
    return bool(left > right) if operator == ">" else bool(left >= right)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_moments(left: Any, right: Any) -> tuple[Any, Any]:
    if isinstance(left, Moment) and isinstance(right, str):
        return left, _moment(right)
    if isinstance(right, Moment) and isinstance(left, str):
        return _moment(left), right
    return left, right


def _moment(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
