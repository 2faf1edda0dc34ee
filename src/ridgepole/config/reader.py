"""Reads a file and everything that it extends."""

from __future__ import annotations

import pathlib
import stat
from typing import Any

from ridgepole.config import limits, tree
from ridgepole.config.document import Document
from ridgepole.config.source import Source, too_large
from ridgepole.errors import ConfigError, Place, Problem, did_you_mean

_EXTENDS = "extends"
_MAX_FILES = 64


def read(path: str | pathlib.Path) -> Document:
    """Reads a TOML file and the files that it names under `extends`.

    Tables merge; arrays and single values replace. A file wins over what it extends, and of several files that it
    extends a later one wins over an earlier one. A file that is reached by several ways counts once, below all that
    extend it.

    Args:
        path: The file. Names under `extends` are relative to the file that holds them.

    Returns:
        The merged document, with `${…}` not yet resolved.

    Raises:
        ConfigError: If a file is missing, unreadable, no UTF-8, no TOML, too large or too deep, or `extends` is of a
            wrong type or goes in a circle. All problems of all files are named.
    """
    reader = _Reader()
    reader.visit(pathlib.Path(path), None)
    return reader.document()


def from_text(text: str, name: str = "<text>") -> Document:
    """Reads a TOML text; names under `extends` are relative to the working directory.

    Args:
        text: The text.
        name: What places call it.

    Returns:
        The document; its `path` is None.

    Raises:
        ConfigError: As `read` does.
    """
    reader = _Reader()
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError([Problem(f"not valid TOML: {error.reason}", Place(name), "use Unicode text")]) from None
    reader.add(Source(name, data), "")
    return reader.document()


class _Reader:
    """Collects sources, lowest precedence first, and problems."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self.problems: list[Problem] = []
        self._seen: set[str] = set()
        self._open: list[tuple[str, Place | None]] = []  # the files on the way to here and where each was named

    def document(self) -> Document:
        """The merged document, or all problems as an error."""
        if self.problems:
            raise ConfigError(self.problems)
        merged: dict[str, Any] = {}
        for source in self.sources:
            own = {key: value for key, value in source.values.items() if key != _EXTENDS}
            merged = tree.merge(merged, own) if merged else own
        values = tree.freeze(merged)
        layers = tuple(reversed(self.sources))
        files = tuple(source.path for source in layers if source.path)
        return Document(layers[0].path, layers[0].data, files, values, _layers=layers, _raw=values)

    def visit(self, path: pathlib.Path, named: Place | None) -> None:
        """Reads a file, unless it was read already, after everything that it extends."""
        try:
            identity = str(path.resolve())
        except (OSError, RuntimeError, ValueError):  # too long, a circle of links, a NUL: reading it says so
            identity = str(path)
        if any(identity == each for each, _ in self._open):
            self._report_circle(path, identity, named)
        elif identity not in self._seen:
            self._seen.add(identity)
            data = self._bytes(path, named)
            if data is not None:
                self._open.append((identity, named))
                self.add(Source(str(path), data, path), path.parent)
                self._open.pop()

    def add(self, source: Source, folder: str | pathlib.Path) -> None:
        """Takes in a source, after what it extends."""
        self.problems += source.parse()
        for name, place in self._extended(source):
            if len(self._seen) >= _MAX_FILES:
                self.problems.append(Problem(f"more than {_MAX_FILES} files extend one another", place))
                break
            self.visit(pathlib.Path(folder, name), place)
        self.sources.append(source)

    def _extended(self, source: Source) -> list[tuple[str, Place]]:
        """The names under `extends` with their places; those of a wrong type are reported instead."""
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
        self.problems.append(
            Problem(f"{str(path)!r} extends itself", named, "take one of these out", detail="\n".join(lines))
        )

    def _bytes(self, path: pathlib.Path, named: Place | None) -> bytes | None:
        """The content of a file, or None with the problem reported."""
        place = named or Place(str(path))
        try:
            mode = path.stat().st_mode
            if named and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # to open a pipe could wait for ever
                self.problems.append(Problem(f"{str(path)!r} is no regular file", place))
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
    return names.get(type(value), "a date or time")


def _unreadable(path: pathlib.Path, place: Place, error: OSError | ValueError) -> Problem:
    """Why a file can't be read, and which one may have been meant."""
    name = str(path)
    if isinstance(error, IsADirectoryError):
        return Problem(f"{name!r} is a directory", place, _neighbours(path) or "name the TOML file in it")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        hint = "'extends' does not resolve ${…}" if "${" in name else _near(path)
        return Problem(f"there is no file {name!r}", place, hint)
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
