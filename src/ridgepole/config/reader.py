"""Reads a file and all that it extends, a text, or a `-s key=value`."""

from __future__ import annotations

import json
import pathlib
import re
import stat
import tomllib
from typing import Any

from ridgepole.config import limits, scan, tree
from ridgepole.config.document import Document, Override
from ridgepole.config.secrets import mask
from ridgepole.config.source import TomlText, too_large, visible
from ridgepole.errors import OPTION, ConfigError, Place, Problem, did_you_mean

_EXTENDS = "extends"
_MAX_FILES = 64
_MAX_OVERRIDE = 1 << 16
_WORDS = {"null": None, "None": None, "True": True, "False": False}
_DECIMAL = re.compile(r"[+-]?(?:\.\d+|\d+\.)(?:[eE][+-]?\d+)?")
_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = re.compile(rf"[ \t]*({_PART}(?:[ \t]*\.[ \t]*{_PART})*)[ \t]*")


def read(path: str | pathlib.Path) -> Document:
    """Read a TOML file and the files that it names under `extends`, relative to itself.

    Tables merge; arrays and single values replace. A file wins over the files that it extends,
    and of these a later one wins over an earlier one. A file that several files extend counts
    once, below all of them.

    Returns:
        The merged document, with `${…}` not yet resolved.

    Raises:
        ConfigError: With all problems of all files: a file is missing, unreadable, not UTF-8, not
            TOML, too large or too deep, or `extends` has a wrong type or is circular.
    """
    reader = _Reader()
    reader.visit(pathlib.Path(path), None)
    return reader.document()


def from_text(text: str, name: str = "<text>") -> Document:
    """Read a text as `read` does; `extends` is relative to the working directory."""
    reader = _Reader()
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError([Problem(f"not valid TOML: {error.reason}", Place(name), "use Unicode text")]) from None
    reader.add(TomlText(name, data), "")
    return reader.document()


class _Reader:
    """Collects sources, lowest precedence first, and problems."""

    def __init__(self) -> None:
        self.sources: list[TomlText] = []
        self.problems: list[Problem] = []
        self._seen: set[str] = set()
        self._open: list[
            tuple[str, Place | None]
        ] = []  # the chain of files that extend each other, and the place of each name

    def document(self) -> Document:
        """Return the merged document, or raise all problems."""
        if self.problems:
            raise ConfigError(self.problems)
        merged: dict[str, Any] = {}
        for source in self.sources:
            own = {key: value for key, value in source.values.items() if key != _EXTENDS}
            merged = tree.merge(merged, own)
        values = tree.freeze(merged)
        layers = tuple(reversed(self.sources))
        files = tuple(source.path for source in layers if source.path)
        return Document(layers[0].path, layers[0].data, files, values, _layers=layers, _raw=values)

    def visit(self, path: pathlib.Path, named: Place | None) -> None:
        """Read a file once, after all that it extends."""
        try:
            identity = str(path.resolve())
        except (OSError, RuntimeError, ValueError):  # opening it fails, too
            identity = str(path)
        if any(identity == each for each, _ in self._open):
            self._report_circle(path, identity, named)
        elif identity not in self._seen:
            self._seen.add(identity)
            data = self._bytes(path, named)
            if data is not None:
                self._open.append((identity, named))
                self.add(TomlText(str(path), data, path), path.parent)
                self._open.pop()

    def add(self, source: TomlText, folder: str | pathlib.Path) -> None:
        """Add a source, after all that it extends."""
        self.problems += source.parse()
        for name, place in self._extended(source):
            if len(self._seen) >= _MAX_FILES:
                self.problems.append(Problem(f"more than {_MAX_FILES} files extend one another", place))
                break
            self.visit(pathlib.Path(folder, name), place)
        self.sources.append(source)

    def _extended(self, source: TomlText) -> list[tuple[str, Place]]:
        """Return the names under `extends` with their places, and report those of a wrong type."""
        value = source.values.get(_EXTENDS, [])
        items = [((_EXTENDS,), value)]
        if isinstance(value, list):
            items = [((_EXTENDS, index), item) for index, item in enumerate(value)]  # type: ignore[misc]
        names = []
        for path, item in items:
            place = source.where(path)
            assert place is not None
            if isinstance(item, str) and item:
                names.append((item, place))
            else:
                message = f"'{_EXTENDS}' takes the name of a file or an array of names, not {_kind(item)}"
                self.problems.append(Problem(message, place, f'write {_EXTENDS} = "base.toml"'))
        return names

    def _report_circle(self, path: pathlib.Path, identity: str, named: Place | None) -> None:
        steps = [place for _, place in self._open]
        begin = next(index for index, (each, _) in enumerate(self._open) if each == identity)
        lines = [f"{place}: {place.text.strip()}" for place in [*steps[begin + 1 :], named] if place]
        message, hint = f"circular 'extends': {str(path)!r} extends itself", "remove one of these"
        self.problems.append(Problem(message, named, hint, detail="\n".join(lines)))

    def _bytes(self, path: pathlib.Path, named: Place | None) -> bytes | None:
        """Return the content of a file, or report the problem and return None."""
        place = named or Place(str(path))
        try:
            mode = path.stat().st_mode
            if named and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe could block
                self.problems.append(Problem(f"{str(path)!r} is not a regular file", place))
                return None
            with path.open("rb") as file:
                data = file.read(limits.MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            self.problems.append(_unreadable(path, place, error))
            return None
        if len(data) > limits.MAX_BYTES:
            self.problems.append(too_large(Place(str(path))))
            return None
        return data


def _kind(value: object) -> str:
    if value == "":
        return "an empty text"
    names = {dict: "a table", list: "an array", bool: "a boolean", int: "an integer", float: "a float"}
    names[type(None)] = "null"
    return names.get(type(value), "a date or time")


def _unreadable(path: pathlib.Path, place: Place, error: OSError | ValueError) -> Problem:
    """Describe why a file can't be read, and suggest another one."""
    name = str(path)
    if isinstance(error, IsADirectoryError):
        return Problem(f"{name!r} is a directory", place, _neighbours(path) or "name the TOML file in it")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        hint = "'extends' does not resolve ${…}" if "${" in name else _near(path)
        return Problem(f"file not found: {name!r}", place, hint)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Problem(f"{name!r} can't be read: {reason}", place)


def _toml_files(folder: pathlib.Path) -> list[str]:
    try:
        return sorted(each.name for each in folder.iterdir() if each.suffix == ".toml")
    except (OSError, ValueError):
        return []


def _near(path: pathlib.Path) -> str:
    return did_you_mean(path.name, _toml_files(path.parent)) or _neighbours(path.parent)


def _neighbours(folder: pathlib.Path) -> str:
    names = _toml_files(folder)
    return f"TOML files there: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}" if names else ""


def parse_override(text: str) -> Override:
    """Parse a dotted TOML key, `=`, and a value from the command line; or `~` and a key to remove.

    A value that is not TOML is text: `epochs=3` is an integer, `flag=true` is a boolean;
    `name=adam` and `name="adam"` are texts. Python's `True`, `False` and `None`, `null`, and
    numbers such as `.5` are what they are in Python. An array or a table may be JSON. A parameter
    that takes text gets an unquoted value as it was typed.

    Returns:
        The override; its place is the key, in a file called `-s`.

    Raises:
        ConfigError: If the text has no `=` or no valid key, or exceeds the limits of a file.
    """
    if len(text) > _MAX_OVERRIDE:
        raise ConfigError([too_large(Place(OPTION))])
    line = visible(mask(text, whole=True))
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise ConfigError([Problem("the override is not UTF-8", Place(OPTION, 1, 1, line))])
    remove = text.startswith("~")
    match = _KEY.match(text, int(remove))
    end = match.end() if match else 0
    if match is None or not (end == len(text) if remove else text.startswith("=", end)):
        raise ConfigError([_invalid_key(text, line, end)])
    place = Place(OPTION, 1, match.start(1) + 1, line, match.end(1) - match.start(1))
    value_text = text[end + 1 :].strip().replace("\r\n", "\n")
    if finding := limits.refuse(text[:end]) or limits.refuse(value_text):
        raise ConfigError([Problem(finding.message, place, finding.hint)])
    try:
        path = tuple(part.name for part in scan.read_key(text[remove:end] + "=", 0)[0])
    except ValueError as error:  # a bad escape between double quotes
        raise ConfigError([Problem(f"not a valid key: {error}", place)]) from None
    value, typed = _value(value_text)
    for _, _, message in tree.unfit(dict.fromkeys(path, value)):
        raise ConfigError([Problem(message, place)])
    return Override(path, value, place, typed, remove)


def _value(text: str) -> tuple[Any, str | None]:
    """Return a text as the value that it is in TOML or Python; and the text, unless quoted."""
    if text in _WORDS or _DECIMAL.fullmatch(text):
        return (_WORDS[text] if text in _WORDS else float(text)), text
    if not text:
        return text, None
    line = f"v = {text}"
    try:
        values = tree.take_null(tomllib.loads(line))
    except ValueError:
        return _json_value(text)
    # "1 # one" and "1\nw = 2" parse too, but are more than one value.
    spans = scan.scan(line)
    if len(values) > 1 or spans["v",][3] < len(line):
        return text, text
    value = values["v"]
    return value, None if isinstance(value, str | list | dict) else text


def _json_value(text: str) -> tuple[Any, str | None]:
    """Return a text as the array or table that it is in JSON; and the text, unless it is one."""
    if text[0] not in "[{":
        return text, text
    try:
        return json.loads(text, parse_constant=_refuse_constant), None
    except (ValueError, RecursionError):
        return text, text


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _invalid_key(text: str, line: str, end: int) -> Problem:
    """Describe why a text does not begin with a key and `=`."""
    if text.startswith("~"):
        return Problem("not a valid key", Place(OPTION, 1, end + 1, line), "to remove a value, write ~table.key")
    equals = text.find("=")
    if equals < 0:
        return Problem("the override has no '='", Place(OPTION, 1, 1, line, max(1, len(text))), "write key=value")
    if not text[:equals].strip():
        return Problem("the override has no key before '='", Place(OPTION, 1, equals + 1, line), "write key=value")
    return Problem("not a valid key", Place(OPTION, 1, end + 1, line), _instead(text[:equals].strip()))


def _instead(key: str) -> str:
    """Return what to write instead of an invalid key; other tools have their own forms."""
    plain = key.lstrip("+")
    if plain != key and _KEY.fullmatch(plain):
        return f"write {plain}=…, also for a key that the file does not have"
    if item := re.fullmatch(rf"({_KEY.pattern})\[\w*\].*", plain):
        return f"write the whole array: {item[1]}=[…]"
    if _KEY.fullmatch(dotted := re.sub(r"[/:]|->", ".", plain)):
        return f"write {dotted}=…"
    return 'write table.key=value; other characters go between quotes: "a b"=1'
