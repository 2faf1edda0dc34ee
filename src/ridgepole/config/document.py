"""A configuration as it was read: frozen values, and the place of each."""

from __future__ import annotations

import pathlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ridgepole.config import interpolate, tree
from ridgepole.config.scan import Path
from ridgepole.config.source import Source
from ridgepole.errors import ConfigError, Place, Problem


@dataclass(frozen=True)
class Override:
    """A value that takes the place of what a file says, such as one of `-s key=value`.

    Attributes:
        path: The keys from the top down to the value.
        value: The value, as TOML would give it.
        place: What an error about this value points to.
    """

    path: tuple[str, ...]
    value: Any = field(repr=False)  # it may be a secret
    place: Place = field(repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class Document:
    """Values of a configuration with their places. Every method gives a new document.

    Attributes:
        path: The main file, or None for a text that was in no file.
        source: The main file byte for byte.
        files: The main file, then what it extends, higher precedence first.
        values: The merged values, read-only: tables are `MappingProxyType`, arrays are tuples (`thaw` gives a copy
            made of `dict` and `list`); `extends` is not among them.
        secrets: Paths of values that came, also in part, from an environment variable whose name looks secret; empty
            before `interpolate`.
    """

    path: pathlib.Path | None
    source: bytes
    files: tuple[pathlib.Path, ...]
    values: Mapping[str, Any]
    secrets: frozenset[tuple[str | int, ...]] = frozenset()
    _layers: tuple[Source, ...] = ()  # higher precedence first; the main file is the first
    _overrides: tuple[Override, ...] = ()
    _raw: Mapping[str, Any] = field(default_factory=dict)  # the values before interpolation

    def __repr__(self) -> str:
        return f"<Document {self._layers[0].name}>"

    def has(self, path: tuple[str | int, ...]) -> bool:
        """Whether there is a value at a path; items of arrays have their index in it."""
        return tree.existing(self.values, path)[0] == path

    def place(self, path: tuple[str | int, ...], *, key: bool = False) -> Place:
        """Where a value stands, in whichever file or override it came from.

        Args:
            path: The keys, and indexes of arrays, from the top down to the value.
            key: Whether to point at the key rather than at the value.

        Returns:
            Its place. Of a table that is the header or the braces. A path that does not exist gets the place of the
            nearest table or value above it that does, and where there is none the main file as a whole.
        """
        found, _ = tree.existing(self.values, path)
        key = key and found == path
        while found:
            if place := self._known(found, key=key):
                return place
            found, key = found[:-1], False
        return Place(self._layers[0].name)

    def _known(self, path: Path, *, key: bool) -> Place | None:
        for override in reversed(self._overrides):
            if path[: len(override.path)] == override.path:
                return override.place
        for layer in self._layers:
            if place := layer.where(path, key=key):
                return place
        # What is left are tables that an override made on its way, and what a reference brought here.
        return next((each.place for each in self._overrides if each.path[: len(path)] == path), None)

    def override(self, overrides: Iterable[Override]) -> Document:
        """Sets values; tables on the way to them are made where they are missing, later ones win over earlier.

        Args:
            overrides: What to set. A table as a value replaces what was there.

        Returns:
            The new document, with `${…}` not yet resolved, whether or not this one's are.

        Raises:
            ConfigError: If a path leads through a value that is no table; all such overrides are named.
        """
        result = replace(self, values=self._raw, secrets=frozenset())
        applied = list(self._overrides)
        problems = []
        for override in overrides:
            if problem := _misplaced(result, override):
                problems.append(problem)
                continue
            values = tree.put(result.values, override.path, tree.freeze(override.value))
            applied.append(override)
            result = replace(result, values=values, _raw=values, _overrides=tuple(applied))
        if problems:
            raise ConfigError(problems)
        return result

    def interpolate(self, environ: Mapping[str, str], *, skip: Collection[tuple[str | int, ...]] = ()) -> Document:
        """Resolves `${env:NAME}`, `${env:NAME:-default}` and `${table.key}` in every text; `$${` stands for `${`.

        A text that is one reference and nothing else takes the value with its type; inside a longer text a single
        value is put as text. What comes from the environment is text and is not searched for further references.

        Args:
            environ: The environment; a variable that is empty counts as not set where there is a default.
            skip: Paths of tables and values to leave as they are.

        Returns:
            The new document. It starts from the values as they were written, so that doing it twice does no harm.

        Raises:
            ConfigError: If variables are not set, references lead nowhere or in a circle, or what they stand for
                grows out of bounds. All such places are named.
        """
        values, secrets = interpolate.resolve(self._raw, environ, self.place, skip)
        return replace(self, values=values, secrets=secrets)


def _misplaced(document: Document, override: Override) -> Problem | None:
    """What forbids an override."""
    if not override.path:
        return Problem("an override needs a key", override.place)
    if override.path[0] == "extends":
        return Problem("'extends' can't be overridden", override.place, "write it in the file")
    found, value = tree.existing(document.values, override.path[:-1])
    if isinstance(value, Mapping):
        return None
    kind = "an array" if isinstance(value, tuple) else "a single value"
    return Problem(
        f"{'.'.join(override.path)!r} can't be set, because {'.'.join(map(str, found))!r} is {kind} and no table",
        override.place,
        f"it stands at {document.place(found)}",
    )
