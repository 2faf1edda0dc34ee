"""Resolves `${…}` in a frozen tree: references to variables and values, never expressions."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from ridgepole.config.limits import MAX_BYTES, MAX_DEPTH
from ridgepole.config.scan import KeyPath, Part, read_key
from ridgepole.config.secrets import variable_looks_secret
from ridgepole.config.source import narrow
from ridgepole.config.tree import existing
from ridgepole.errors import ConfigError, Place, Problem, did_you_mean

_TOKEN = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_VARIABLE = re.compile(r"env!?:([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_INDEX = re.compile(r"[0-9]{1,7}")
_FORMS = "write ${env:NAME}, ${env:NAME:-default} or ${table.key}; $${ stands for ${ itself"
_MAX_TEXT = 4 * MAX_BYTES  # characters of all texts with references in one document
_MAX_VALUES = 100_000  # values in all tables and arrays that references copy in one document
_MAX_PROBLEMS = 100
_FAILED: Any = object()  # the value of a text with a reported problem


@dataclass(slots=True, kw_only=True)
class Origins:
    """Paths of values whose origin matters.

    Attributes:
        secrets: They came from a variable whose name looks secret.
        environ: They came from a variable, and no reference says that it must stay the same.
        fixed: They came from a variable that must stay the same, as `${env!:NAME}` says.
        typed: They came from the command line, as this text.
    """

    secrets: set[KeyPath] = field(default_factory=set)
    environ: set[KeyPath] = field(default_factory=set)
    fixed: set[KeyPath] = field(default_factory=set)
    typed: dict[KeyPath, str] = field(default_factory=dict)

    def copy(self, source: KeyPath, target: KeyPath, *, whole: bool = True) -> None:
        """Take note that a reference copies a value, as a whole or into a longer text."""
        for paths in (self.secrets, self.environ, self.fixed):
            if source in paths:
                paths.add(target)
        if whole and source in self.typed:
            self.typed[target] = self.typed[source]


def resolve(
    values: Mapping[str, Any],
    environ: Mapping[str, str],
    place: Callable[[KeyPath], Place],
    skip: Collection[KeyPath] = (),
    typed: Mapping[KeyPath, str] = MappingProxyType({}),
) -> tuple[Mapping[str, Any], Origins]:
    """Resolve every reference of a frozen tree.

    Args:
        values: The tree.
        environ: The environment.
        place: Returns the place of a value.
        skip: Paths that stay unchanged.
        typed: The text of values that were typed on the command line.

    Returns:
        The new frozen tree, and the paths of values with an origin that matters.

    Raises:
        ConfigError: With every reference that can't be resolved.
    """
    resolver = _Resolver(values, environ, place, frozenset(skip), Origins(typed=dict(typed)))
    result = resolver.value(values, ()).value
    if resolver.problems:
        shown = resolver.problems[:_MAX_PROBLEMS]
        if more := len(resolver.problems) - len(shown):
            shown.append(Problem(f"{more} more references can't be resolved"))
        raise ConfigError(shown)
    return result, resolver.origins


class _Result(NamedTuple):
    """A resolved value, and the length of the longest chain of texts with references behind it."""

    value: Any
    chain: int = 0


class _Resolver:
    def __init__(
        self,
        tree: Mapping[str, Any],
        environ: Mapping[str, str],
        place: Callable[[KeyPath], Place],
        skip: frozenset[KeyPath],
        origins: Origins,
    ) -> None:
        self.problems: list[Problem] = []
        self.origins = origins
        self._tree = tree
        self._environ = environ
        self._place = place
        self._skip = skip
        self._texts: dict[KeyPath, _Result] = {}
        self._targets: dict[KeyPath, _Result] = {}  # the values that references name
        self._active: dict[KeyPath, str] = {}  # texts in progress, with their references
        self._level = 0  # recursion depth of `value`, through tables and references together
        self._text_left = _MAX_TEXT
        self._values_left = _MAX_VALUES

    def value(self, value: Any, path: KeyPath) -> _Result:
        """Resolve every reference in a value of the tree."""
        if path in self._skip:
            return _Result(value)
        if isinstance(value, str):
            return self._text(value, path) if "${" in value else _Result(value)
        if not isinstance(value, Mapping | tuple):
            return _Result(value)
        self._level += 1
        keys = value if isinstance(value, Mapping) else range(len(value))
        items = [self.value(value[key], (*path, key)) for key in keys]
        self._level -= 1
        plain = [item.value for item in items]
        result: Any = (
            MappingProxyType(dict(zip(keys, plain, strict=True))) if isinstance(value, Mapping) else tuple(plain)
        )
        return _Result(result, max((item.chain for item in items), default=0))

    def _text(self, text: str, path: KeyPath) -> _Result:
        """Resolve a text with references, once."""
        if path in self._active:
            return _Result(self._report_circle(path))
        if path not in self._texts:
            if len(self._active) > MAX_DEPTH or self._level > 2 * MAX_DEPTH:
                return _Result(self._fail_chain(path))
            self._active[path] = ""
            self.origins.typed.pop(path, None)  # it is the text before the references are resolved
            value, chain = self._expand(text, path)
            del self._active[path]
            if chain > MAX_DEPTH and value is not _FAILED:
                value = self._fail_chain(path)
            self._texts[path] = _Result(value, chain + 1)
        return self._texts[path]

    def _expand(self, text: str, path: KeyPath) -> _Result:
        """Replace the references in a text; a single one keeps the type of its value."""
        pieces: list[str] = []
        end, chain, failed = 0, 0, False
        for match in _TOKEN.finditer(text):
            pieces.append(text[end : match.start()])
            end = match.end()
            if match[0] == "$${":
                pieces.append("${")
                continue
            if match[1] is None:
                message = "'${' without its '}', or one reference inside another"
                return _Result(self._fail(path, "${", message, _FORMS), chain)
            self._active[path] = match[0]
            is_whole = match[0] == text
            value, below = self._reference(match[0], match[1].strip(), path, whole=is_whole)
            chain = max(chain, below)
            if is_whole:
                return _Result(value, chain)
            failed = failed or value is _FAILED
            pieces.append("" if value is _FAILED else self._as_text(value, match[0], path))
        pieces.append(text[end:])
        self._text_left -= sum(map(len, pieces))
        if self._text_left < 0:
            message = f"texts with references have more than {_MAX_TEXT} characters together"
            return _Result(self._fail(path, "", message), chain)
        return _Result(_FAILED if failed else "".join(pieces), chain)

    def _reference(self, token: str, inner: str, path: KeyPath, *, whole: bool) -> _Result:
        """Resolve one reference of the text at `path`."""
        if inner.startswith(("env:", "env!:")):
            return _Result(self._variable(token, inner, path))
        try:
            parts, end = read_key(inner + "=", 0)
        except ValueError:
            parts, end = [], 0
        if not parts or end != len(inner):
            return _Result(self._fail(path, token, f"{_short(token)} is not a valid reference", _FORMS))
        found, (value, chain) = self._lookup(parts)
        if value is _FAILED:
            return _Result(value, chain)
        if len(found) < len(parts):
            return _Result(self._fail_unknown(token, parts, found, value, path), chain)
        if isinstance(value, Mapping | tuple):
            return _Result(self._copy(value, found, path, token) if whole else value, chain)
        self.origins.copy(found, path, whole=whole)
        return _Result(value if whole else self.origins.typed.get(found, value), chain)

    def _variable(self, token: str, inner: str, path: KeyPath) -> Any:
        match = _VARIABLE.fullmatch(inner)
        if match is None:
            shown = _short(token.partition(":-")[0])
            return self._fail(path, token, f"{shown} is not a valid name of an environment variable", _FORMS)
        name, default = match[1], match[2]
        if variable_looks_secret(name):
            self.origins.secrets.add(path)
        (self.origins.fixed if inner.startswith("env!") else self.origins.environ).add(path)
        value = self._environ.get(name)
        if value and any("\ud800" <= char <= "\udfff" for char in value):
            return self._fail(path, token, f"the environment variable {name} is not UTF-8")
        if value or (value is not None and default is None):
            return value
        if default is not None:
            return default
        hint = self._suggest(name, self._environ) or f"set it, or write ${{env:{name[:80]}:-default}}"
        return self._fail(path, token, f"the environment variable {name[:80]} is not set", hint)

    def _lookup(self, parts: list[Part]) -> tuple[KeyPath, _Result]:
        """Return the longest existing start of a path and the value there, resolved at the end."""
        value: Any = self._tree
        found: KeyPath = ()
        chain = 0
        raw = True  # a value from a reference or a skipped table is not resolved again
        for part in parts:
            if raw and isinstance(value, str) and "${" in value:
                (value, chain), raw = self._text(value, found), False
            raw = raw and found not in self._skip
            is_index = isinstance(value, tuple) and _INDEX.fullmatch(part.name)
            below, value = existing(value, (int(part.name) if is_index else part.name,))
            if not below:
                return found, _Result(value, chain)
            found += below
        if not raw:
            return found, _Result(value, chain)
        if found not in self._targets:
            self._targets[found] = self.value(value, found)
        return found, self._targets[found]

    def _copy(self, value: Any, source: KeyPath, path: KeyPath, token: str) -> Any:
        """Check a table or array that a reference copies to `path`, and mark its secrets."""
        todo: list[tuple[KeyPath, Any]] = [((), value)]
        while todo:
            below, item = todo.pop()
            self._values_left -= 1
            if self._values_left < 0:
                return self._fail(path, token, f"references copy more than {_MAX_VALUES} values")
            if len(path) + len(below) > MAX_DEPTH:
                return self._fail(path, token, f"references nest tables more than {MAX_DEPTH} deep")
            self.origins.copy(source + below, path + below)
            if isinstance(item, Mapping):
                todo.extend(((*below, key), each) for key, each in item.items())
            elif isinstance(item, tuple):
                todo.extend(((*below, index), each) for index, each in enumerate(item))
        return value

    def _as_text(self, value: Any, token: str, path: KeyPath) -> str:
        """Format a value inside a longer text as TOML does, texts without quotes."""
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, dt.date | dt.time):
            return value.isoformat()
        if value is None or isinstance(value, Mapping | tuple):
            kind = "null" if value is None else "a table" if isinstance(value, Mapping) else "an array"
            self._fail(path, token, f"{_short(token)} is {kind} and can't be put inside a text", "write it alone")
            return ""
        return str(value)

    def _fail_unknown(self, token: str, parts: list[Part], found: KeyPath, value: Any, path: KeyPath) -> Any:
        missing = parts[len(found)].name
        names = [str(key) for key in value] if isinstance(value, Mapping) else []
        hint = self._suggest(missing, names)
        if not hint and len(parts) == 1 and missing.isupper():
            hint = f"for an environment variable write ${{env:{missing}}}"
        if not hint and names:
            hint = f"there are: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
        if isinstance(value, tuple):
            hint = f"an array of {len(value)}; count from 0"
        above = f" in {'.'.join(map(str, found))!r}" if found else ""
        return self._fail(path, token, f"{_short(token)} not found: there is no {_short(missing)}{above}", hint)

    def _suggest(self, word: str, names: Collection[str]) -> str:
        """Return a did-you-mean, except where comparing with every name would take long."""
        return did_you_mean(word, names) if len(self.problems) < _MAX_PROBLEMS and len(names) <= 1000 else ""

    def _report_circle(self, path: KeyPath) -> Any:
        """Report a circular reference, each step with its place."""
        steps = list(self._active.items())
        steps = steps[next(index for index, (each, _) in enumerate(steps) if each == path) :]
        names = [".".join(map(str, each)) for each, _ in steps]
        lines = [
            f"{narrow(self._place(each), token)}: {name} = {_short(token)}"
            for (each, token), name in zip(steps, names, strict=True)
        ]
        last, token = steps[-1]
        message = f"circular reference: {' -> '.join([*names, names[0]])}"
        return self._fail(last, token, message, "give one of them a value", "\n".join(lines))

    def _fail_chain(self, path: KeyPath) -> Any:
        return self._fail(path, "", f"a chain of more than {MAX_DEPTH} references")

    def _fail(self, path: KeyPath, token: str, message: str, hint: str = "", detail: str = "") -> Any:
        place = self._place(path)
        self.problems.append(Problem(message, narrow(place, token) if token else place, hint, detail))
        return _FAILED


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")
