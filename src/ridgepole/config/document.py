"""A configuration: frozen values, and the place of each."""

from __future__ import annotations

import pathlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ridgepole.config import interpolate, tree
from ridgepole.config.scan import KeyPath
from ridgepole.config.source import TomlText
from ridgepole.errors import ConfigError, Place, Problem, did_you_mean


@dataclass(frozen=True)
class Override:
    """A value that replaces one of a file, such as `-s key=value`.

    Attributes:
        path: The keys from the top down to the value.
        value: The value, as TOML would give it.
        place: The place for errors about this value.
        text: A value as it was typed without quotes, which is what a parameter that takes text
            gets.
        remove: Whether the value is to be removed instead.
    """

    path: tuple[str, ...]
    value: Any = field(repr=False)  # it may be a secret
    place: Place = field(repr=False)
    text: str | None = field(default=None, repr=False)
    remove: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Document:
    """Values of a configuration with their places. Methods return new documents.

    Attributes:
        path: The main file, or None for a text.
        source: The main file byte for byte.
        files: The main file, then the ones that it extends, higher precedence first.
        values: The merged values without `extends`, read-only: tables are `MappingProxyType`,
            arrays are tuples. `thaw` returns a copy made of `dict` and `list`.
        secrets: Paths of values that came at least partly from an environment variable whose name
            looks secret; empty before `interpolate`.
        environ: Paths of values that came at least partly from the environment and may differ when
            a run is resumed; empty before `interpolate`.
        typed: Values that overrides set, as they were typed.
    """

    path: pathlib.Path | None
    source: bytes
    files: tuple[pathlib.Path, ...]
    values: Mapping[str, Any]
    secrets: frozenset[KeyPath] = frozenset()
    environ: frozenset[KeyPath] = frozenset()
    typed: Mapping[KeyPath, str] = field(default_factory=dict)
    _layers: tuple[TomlText, ...] = ()  # higher precedence first; the main file is the first
    _overrides: tuple[Override, ...] = ()
    _raw: Mapping[str, Any] = field(default_factory=dict)  # the values before interpolation

    def __repr__(self) -> str:
        return f"<Document {self._layers[0].name}>"

    def has(self, path: tuple[str | int, ...]) -> bool:
        """Return whether a path exists; items of arrays have their index in it."""
        return tree.existing(self.values, path)[0] == path

    def place(self, path: tuple[str | int, ...], *, key: bool = False) -> Place:
        """Return the place of a value in its file or override.

        The place of a table is its header or its braces. A path that does not exist gets the place
        of the nearest existing one above it, at last of the main file.

        Args:
            path: The keys and array indexes from the top down to the value.
            key: Whether to point at the key instead of the value.
        """
        found, _ = tree.existing(self.values, path)
        key = key and found == path
        while found:
            if place := self._known(found, key=key):
                return place
            found, key = found[:-1], False
        return Place(self._layers[0].name)

    def _known(self, path: KeyPath, *, key: bool) -> Place | None:
        for override in reversed(self._overrides):
            if path[: len(override.path)] == override.path:
                return override.place
        for layer in self._layers:
            if place := layer.where(path, key=key):
                return place
        # The rest are tables that an override created, and copies by reference.
        return next((each.place for each in self._overrides if each.path[: len(path)] == path), None)

    def override(self, overrides: Iterable[Override]) -> Document:
        """Set values and create missing tables; a table replaces, and later overrides win.

        Returns:
            The new document, with `${…}` unresolved even if this one's is resolved.

        Raises:
            ConfigError: With all overrides whose path goes through a value that is not a table, or
                that remove a value that is not there.
        """
        applied = list(self._overrides)
        result = replace(self, values=self._raw, secrets=frozenset(), environ=frozenset(), typed=_typed(applied))
        problems = []
        for override in overrides:
            if problem := _misplaced(result, override):
                problems.append(problem)
                continue
            if override.remove:
                values = tree.drop(result.values, override.path)
            else:
                values = tree.put(result.values, override.path, tree.freeze(override.value))
            applied.append(override)
            result = replace(result, values=values, _raw=values, _overrides=tuple(applied), typed=_typed(applied))
        if problems:
            raise ConfigError(problems)
        return result

    def interpolate(self, environ: Mapping[str, str], *, skip: Collection[tuple[str | int, ...]] = ()) -> Document:
        """Resolve `${env:NAME}`, `${env!:NAME}`, `${env:NAME:-default}` and `${table.key}`.

        A text that is exactly one reference takes the value with its type. Inside a longer text a
        single value is formatted as text. Variables are text and are not searched for references.
        `$${` stands for `${`.

        Args:
            environ: The environment; an empty variable counts as unset if there is a default.
            skip: Paths of tables and values that stay unchanged.

        Returns:
            The new document. It starts from the written values, so a second call is harmless.

        Raises:
            ConfigError: With all unset variables, unknown or circular references, and values that
                grow beyond the limits.
        """
        values, origins = interpolate.resolve(self._raw, environ, self.place, skip, _typed(self._overrides))
        return replace(
            self,
            values=values,
            secrets=frozenset(origins.secrets),
            environ=frozenset(origins.environ - origins.fixed),
            typed=origins.typed,
        )


def _typed(overrides: Iterable[Override]) -> dict[KeyPath, str]:
    """Return the values that are left of all overrides, as they were typed."""
    typed: dict[KeyPath, str] = {}
    for each in overrides:
        typed = {path: text for path, text in typed.items() if path[: len(each.path)] != each.path}
        if each.text is not None:
            typed[each.path] = each.text
    return typed


def _misplaced(document: Document, override: Override) -> Problem | None:
    """Return the problem of an override that can't be applied."""
    if not override.path:
        return Problem("an override needs a key", override.place)
    if override.path[0] == "extends":
        return Problem("'extends' can't be overridden", override.place, "write it in the file")
    name = ".".join(override.path)
    found, value = tree.existing(document.values, override.path[:-1])
    if not isinstance(value, Mapping):
        above = ".".join(map(str, found))
        if isinstance(value, tuple):
            message = f"{name!r} can't be set, because {above!r} is an array, not a table"
            return Problem(message, override.place, f"write the whole array: {above}=[…]")
        message = f"{name!r} can't be set, because {above!r} is a single value, not a table"
        return Problem(message, override.place, f"it is defined at {document.place(found)}")
    if override.remove and not document.has(override.path):
        hint = did_you_mean(override.path[-1], value) if found == override.path[:-1] else ""
        return Problem(f"{name!r} can't be removed, because it is not there", override.place, hint)
    return None
