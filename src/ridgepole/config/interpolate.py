"""Resolves `${…}` in a frozen tree. Nothing is evaluated: a reference names a variable or another value."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from ridgepole.config.limits import MAX_BYTES, MAX_DEPTH
from ridgepole.config.scan import Part, Path, read_key
from ridgepole.config.secrets import variable_looks_secret
from ridgepole.config.source import narrow
from ridgepole.config.tree import existing
from ridgepole.errors import ConfigError, Place, Problem, did_you_mean

_TOKEN = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_VARIABLE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_INDEX = re.compile(r"[0-9]{1,7}")
_FORMS = "write ${env:NAME}, ${env:NAME:-default} or ${table.key}; $${ stands for ${ itself"
_MAX_TEXT = 4 * MAX_BYTES  # characters that longer texts may be put together from, in one document
_MAX_VALUES = 100_000  # values that references to tables and arrays may bring, in one document
_MAX_PROBLEMS = 100
_FAILED: Any = object()  # what a text resolves to whose problem has been reported


def resolve(
    values: Mapping[str, Any],
    environ: Mapping[str, str],
    place: Callable[[Path], Place],
    skip: Collection[Path] = (),
) -> tuple[Mapping[str, Any], frozenset[Path]]:
    """Resolves every reference of a tree.

    Args:
        values: The frozen tree.
        environ: The environment.
        place: Gives the place of a value.
        skip: Paths to leave as they are.

    Returns:
        The new frozen tree, and the paths of the values that came from a variable whose name looks secret.

    Raises:
        ConfigError: With every reference that can't be resolved.
    """
    resolver = _Resolver(values, environ, place, frozenset(skip))
    result = resolver.value(values, ())
    if resolver.problems:
        shown = resolver.problems[:_MAX_PROBLEMS]
        if more := len(resolver.problems) - len(shown):
            shown.append(Problem(f"{more} more references can't be resolved"))
        raise ConfigError(shown)
    return result, frozenset(resolver.secrets)


class _Resolver:
    def __init__(
        self,
        tree: Mapping[str, Any],
        environ: Mapping[str, str],
        place: Callable[[Path], Place],
        skip: frozenset[Path],
    ) -> None:
        self.problems: list[Problem] = []
        self.secrets: set[Path] = set()
        self._tree = tree
        self._environ = environ
        self._place = place
        self._skip = skip
        self._done: dict[Path, tuple[Any, int]] = {}  # texts with their value and the length of their chain
        self._referred: dict[Path, tuple[Any, int]] = {}  # the same for whatever was referred to
        self._active: dict[Path, str] = {}  # texts being resolved, outermost first, with the reference each follows
        self._level = 0  # how deep `value` has gone, through tables and references together
        self._chain: list[int] = []  # length of the chain below each active text, as far as it is known
        self._text_left = _MAX_TEXT
        self._values_left = _MAX_VALUES

    def value(self, value: Any, path: Path) -> Any:
        """A value of the tree with every reference below it resolved."""
        if path in self._skip:
            return value
        if isinstance(value, str):
            return self._text(value, path) if "${" in value else value
        self._level += 1
        if isinstance(value, Mapping):
            value = MappingProxyType({key: self.value(item, (*path, key)) for key, item in value.items()})
        elif isinstance(value, tuple):
            value = tuple([self.value(item, (*path, index)) for index, item in enumerate(value)])
        self._level -= 1
        return value

    def _text(self, text: str, path: Path) -> Any:
        """What a text with references stands for."""
        if path in self._active:
            return self._circle(path)
        if path not in self._done:
            if len(self._active) > MAX_DEPTH or self._level > 2 * MAX_DEPTH:
                return self._fail(path, "", f"a chain of more than {MAX_DEPTH} references")
            self._active[path] = ""
            self._chain.append(0)
            result = self._expand(text, path)
            del self._active[path]
            length = self._chain.pop()
            if length > MAX_DEPTH and result is not _FAILED:
                result = self._fail(path, "", f"a chain of more than {MAX_DEPTH} references")
            self._done[path] = (result, length)
        result, length = self._done[path]
        if self._chain:
            self._chain[-1] = max(self._chain[-1], length + 1)
        return result

    def _expand(self, text: str, path: Path) -> Any:
        pieces: list[str] = []
        end, failed = 0, False
        for match in _TOKEN.finditer(text):
            pieces.append(text[end : match.start()])
            end = match.end()
            if match[0] == "$${":
                pieces.append("${")
            elif match[1] is None:
                return self._fail(path, "${", "'${' without its '}', or one reference inside another", _FORMS)
            else:
                self._active[path] = match[0]
                whole = match[0] == text
                value = self._reference(match[0], match[1].strip(), path, whole=whole)
                if whole:
                    return value
                failed = failed or value is _FAILED
                pieces.append("" if value is _FAILED else self._as_text(value, match[0], path))
        pieces.append(text[end:])
        self._text_left -= sum(map(len, pieces))
        if self._text_left < 0:
            return self._fail(path, "", f"references put together more than {_MAX_TEXT} characters")
        return _FAILED if failed else "".join(pieces)

    def _reference(self, token: str, inner: str, path: Path, *, whole: bool) -> Any:
        """What one reference stands for."""
        if inner.startswith("env:"):
            return self._variable(token, inner, path)
        try:
            parts, end = read_key(inner + "=", 0)
        except ValueError:
            parts, end = [], 0
        if not parts or end != len(inner):
            return self._fail(path, token, f"{_short(token)} is no reference", _FORMS)
        found, value = self._lookup(parts)
        if value is _FAILED:
            return value
        if len(found) < len(parts):
            return self._unknown(token, parts, found, value, path)
        if isinstance(value, Mapping | tuple):
            return self._graft(value, found, path, token) if whole else value
        if found in self.secrets:
            self.secrets.add(path)
        return value

    def _variable(self, token: str, inner: str, path: Path) -> Any:
        match = _VARIABLE.fullmatch(inner)
        if match is None:
            return self._fail(path, token, f"{_short(token.partition(':-')[0])} names no environment variable", _FORMS)
        name, default = match[1], match[2]
        if variable_looks_secret(name):
            self.secrets.add(path)
        value = self._environ.get(name)
        if value and any("\ud800" <= char <= "\udfff" for char in value):
            return self._fail(path, token, f"the environment variable {name} is not UTF-8")
        if value or (value is not None and default is None):
            return value
        if default is not None:
            return default
        hint = self._near(name, self._environ) or f"set it, or write ${{env:{name[:80]}:-default}}"
        return self._fail(path, token, f"the environment variable {name[:80]} is not set", hint)

    def _lookup(self, parts: list[Part]) -> tuple[Path, Any]:
        """The longest part of a path that exists, and the value there, resolved where it is the whole path."""
        value: Any = self._tree
        found: Path = ()
        raw = True  # what a reference or an exempt table brought is not resolved again
        for part in parts:
            if raw and isinstance(value, str) and "${" in value:
                value, raw = self._text(value, found), False
            raw = raw and found not in self._skip
            number = isinstance(value, tuple) and _INDEX.fullmatch(part.name)
            below, value = existing(value, (int(part.name) if number else part.name,))
            if not below:
                break
            found += below
        whole = len(found) == len(parts)
        return found, self._once(value, found) if raw and whole else value

    def _once(self, value: Any, path: Path) -> Any:
        """As `value`, but a table that is referred to often is resolved once."""
        if path not in self._referred:
            self._chain.append(0)
            result = self.value(value, path)
            self._referred[path] = (result, self._chain.pop())
        result, length = self._referred[path]
        self._chain[-1] = max(self._chain[-1], length)
        return result

    def _graft(self, value: Any, source: Path, path: Path, token: str) -> Any:
        """Lets a table or an array stand at a second path: counts it, and takes its secrets along."""
        todo: list[tuple[Path, Any]] = [((), value)]
        while todo:
            below, item = todo.pop()
            self._values_left -= 1
            if self._values_left < 0:
                return self._fail(path, token, f"references bring more than {_MAX_VALUES} values")
            if len(path) + len(below) > MAX_DEPTH:
                return self._fail(path, token, f"references nest tables more than {MAX_DEPTH} deep")
            if source + below in self.secrets:
                self.secrets.add(path + below)
            if isinstance(item, Mapping):
                todo.extend(((*below, key), each) for key, each in item.items())
            elif isinstance(item, tuple):
                todo.extend(((*below, index), each) for index, each in enumerate(item))
        return value

    def _as_text(self, value: Any, token: str, path: Path) -> str:
        """A value inside a longer text, as TOML would write it, texts without quotes."""
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, dt.date | dt.time):
            return value.isoformat()
        if isinstance(value, Mapping | tuple):
            kind = "a table" if isinstance(value, Mapping) else "an array"
            self._fail(path, token, f"{_short(token)} is {kind} and can't be put inside a text", "write it alone")
            return ""
        return str(value)

    def _unknown(self, token: str, parts: list[Part], found: Path, value: Any, path: Path) -> Any:
        missing = parts[len(found)].name
        names = [str(key) for key in value] if isinstance(value, Mapping) else []
        hint = self._near(missing, names)
        if not hint and len(parts) == 1 and missing.isupper():
            hint = f"for an environment variable write ${{env:{missing}}}"
        if not hint and names:
            hint = f"there are: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
        if isinstance(value, tuple):
            hint = f"an array of {len(value)}; count from 0"
        above = f" in {'.'.join(map(str, found))!r}" if found else ""
        return self._fail(path, token, f"{_short(token)} leads nowhere: there is no {_short(missing)}{above}", hint)

    def _near(self, word: str, names: Collection[str]) -> str:
        """A did-you-mean, left out where it would take long: it compares with every name."""
        return did_you_mean(word, names) if len(self.problems) < _MAX_PROBLEMS and len(names) <= 1000 else ""

    def _circle(self, path: Path) -> Any:
        """Reports references that lead back to where they began, each step with its place."""
        steps = list(self._active.items())
        steps = steps[next(index for index, (each, _) in enumerate(steps) if each == path) :]
        names = [".".join(map(str, each)) for each, _ in steps]
        lines = [
            f"{narrow(self._place(each), token)}: {name} = {_short(token)}"
            for (each, token), name in zip(steps, names, strict=True)
        ]
        last, token = steps[-1]
        message = f"references go in a circle: {' -> '.join([*names, names[0]])}"
        return self._fail(last, token, message, "give one of them a value", "\n".join(lines))

    def _fail(self, path: Path, token: str, message: str, hint: str = "", detail: str = "") -> Any:
        place = self._place(path)
        self.problems.append(Problem(message, narrow(place, token) if token else place, hint, detail))
        return _FAILED


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")
