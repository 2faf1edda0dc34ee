"""A pipeline's description before it is checked, from a TOML document or from Python calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ridgepole.config import Document, Override, thaw, variable_looks_secret
from ridgepole.errors import ConfigError, Place, Problem, did_you_mean
from ridgepole.pipeline.injection import signature_of
from ridgepole.pipeline.overlay import Overlay
from ridgepole.pipeline.settings import Settings
from ridgepole.registry import Entry, Kind, Registry

Path_ = tuple[str | int, ...]

SECTIONS: dict[str, Kind] = {"permanences": "permanence", "processes": "process"}
TOP_LEVEL = ("pipeline", "permanences", "processes", "sweep")

_UNREAD = [("sweep",)]
"""Tables that pass through as they are: the sweep engine reads them itself."""

RESERVED_KEYS: dict[Kind, tuple[str, ...]] = {
    "permanence": ("type", "params", "depends_on", "ranks", "force"),
    "process": ("type", "params", "needs", "cache", "retries", "force", "depends_on", "ranks"),
}
"""Keys of a table that are the framework's."""

ALL_RESERVED = frozenset(key for keys in RESERVED_KEYS.values() for key in keys)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was written, not yet checked.

    Attributes:
        tree: The `pipeline`, `permanences`, `processes` and `sweep` tables; a `type` may be a class or function.
        place: Where a path of the tree stands; the second argument asks for the key's place.
        file: The pipeline's file; None for one that was built in Python.
        directory: Where the user's package and the run root are looked for.
        source: The main file byte for byte; None for a pipeline built in Python.
        secrets: Paths whose values are secret.
        overrides: The `-s` values as typed, secrets masked.
        secret_values: What secret-looking environment variables that are referred to hold.
        overlay: What a sweep has laid over it; its values are in the tree already.
    """

    tree: Mapping[str, Any]
    place: Callable[[Path_, bool], Place | None]
    directory: Path
    file: Path | None = None
    source: bytes | None = None
    secrets: frozenset[Path_] = frozenset()
    overrides: tuple[str, ...] = ()
    secret_values: frozenset[str] = frozenset()
    overlay: Overlay | None = None

    def at(self, path: Path_) -> Any:
        """The value at a path, or None."""
        node: Any = self.tree
        for key in path:
            try:
                node = node[key]
            except (KeyError, IndexError, TypeError):
                return None
        return node


def from_document(
    document: Document,
    overrides: Sequence[Override],
    environ: Mapping[str, str],
    directory: Path | None = None,
    overlay: Overlay | None = None,
) -> Recipe:
    """Applies overrides, a sweep's overlay and interpolation to a document that was read.

    Args:
        document: The document.
        overrides: The `-s` values, in order; short names are resolved here.
        environ: The environment, for `${env:...}`.
        directory: Where the user's package is looked for; that of the document when None.
        overlay: What a sweep lays over it, as overrides behind the others.

    Returns:
        The recipe; its `[pipeline]` table has a name.

    Raises:
        ConfigError: If an override names nothing or two things, or a reference can't be resolved.
    """
    problems: list[Problem] = []
    if directory is None:
        directory = document.path.absolute().parent if document.path else Path.cwd()
    document = _laid(document, overrides, environ, directory, problems, once=False)
    if overlay is not None:
        document = _laid(document, overlay.overrides(), environ, directory, problems, once=True)
    if problems:
        raise ConfigError(problems)
    document = document.interpolate(environ, skip=_UNREAD)
    tree = thaw(document.values)
    stem = document.path.stem if document.path else "pipeline"
    pipeline = tree.get("pipeline", {})
    if isinstance(pipeline, Mapping):
        tree["pipeline"] = {"name": stem, **pipeline}
    return Recipe(
        tree,
        lambda path, key: document.place(path, key=key),
        directory,
        document.path,
        document.source,
        document.secrets,
        tuple(override.place.text for override in overrides),
        _secret_values(document, overrides, environ),
        overlay,
    )


def _laid(
    document: Document,
    overrides: Sequence[Override],
    environ: Mapping[str, str],
    directory: Path,
    problems: list[Problem],
    *,
    once: bool,
) -> Document:
    """The document with one layer of overrides; those that lead nowhere go into the problems.

    With `once` two of them that mean the same do, too; else the last one wins.
    """
    named = [override for override in overrides if len(override.path) > 1]
    bare = [override for override in overrides if len(override.path) == 1]
    spelled = _resolve_all(document.values, named, None, problems)
    document = document.override(spelled)
    if not bare:
        problems += _twice(spelled) if once else []
        return document
    # A bare name is looked up among the parameters of the types, so these must be known first.
    pipeline = document.interpolate(environ, skip=_UNREAD).values.get("pipeline")
    package = pipeline.get("package") if isinstance(pipeline, Mapping) else None
    registry = Registry.load(package if isinstance(package, str) else None, directory)
    problems += registry.problems  # a package that fails to import is why its parameters are unknown
    if registry.problems:
        return document
    found = _resolve_all(document.values, bare, registry, problems)
    if once:
        problems += _twice([*spelled, *found])
    return document.override(found)


def _twice(overrides: Iterable[Override]) -> list[Problem]:
    """A sweep that gives one thing two values at once, under two names of it."""
    seen: dict[tuple[str, ...], Override] = {}
    problems = []
    for override in overrides:
        if override.path in seen:
            message = f"two parameters of the sweep set {'.'.join(override.path)}"
            problems.append(Problem(message, override.place, f"the other: {seen[override.path].place.text}"))
        seen[override.path] = override
    return problems


def overlaid(recipe: Recipe, overlay: Overlay) -> Recipe:
    """Lays a sweep's parameters over a recipe that comes from no document alone.

    Args:
        recipe: What was built in Python, or extended there.
        overlay: The parameters.

    Returns:
        The recipe with them.

    Raises:
        ConfigError: If a parameter names nothing or two things, or leads through what is no table.
    """
    package = recipe.at(("pipeline", "package"))
    registry = Registry.load(package if isinstance(package, str) else None, recipe.directory)
    problems = list(registry.problems)
    resolved = [] if problems else _resolve_all(recipe.tree, overlay.overrides(), registry, problems)
    problems += _twice(resolved)
    tree: dict[str, Any] = dict(recipe.tree)
    for override in resolved:
        if not _put(tree, override.path, thaw(override.value)):
            message = f"{'.'.join(override.path)!r} can't be set: what it would stand in is no table"
            problems.append(Problem(message, override.place))
    if problems:
        raise ConfigError(problems)
    places = {override.path: override.place for override in resolved}

    def place(path: Path_, key: bool) -> Place | None:
        inner = path
        while inner:
            if inner in places:
                return places[inner]  # type: ignore[index]
            inner = inner[:-1]
        return recipe.place(path, key)

    return replace(recipe, tree=tree, place=place, overlay=overlay)


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> bool:
    """Sets a value; the tables on the way are copied, so that the recipe below stays as it is."""
    for key in path[:-1]:
        below = tree.get(key, {})
        if not isinstance(below, Mapping):
            return False
        tree[key] = dict(below)
        tree = tree[key]
    tree[path[-1]] = value
    return True


_VARIABLE = re.compile(r"\$\{env:([^}:]+)")


def _secret_values(document: Document, overrides: Sequence[Override], environ: Mapping[str, str]) -> frozenset[str]:
    """What the secret-looking variables hold that a file or an override refers to, also inside a longer text."""
    texts = [document.source.decode("utf-8", "replace"), *(str(override.value) for override in overrides)]
    texts += [file.read_text("utf-8", "replace") for file in document.files[1:]]
    names = {name.strip() for text in texts for name in _VARIABLE.findall(text)}
    return frozenset(environ[name] for name in names if variable_looks_secret(name) and environ.get(name))


def _resolve_all(
    tree: Mapping[str, Any], overrides: Iterable[Override], registry: Registry | None, problems: list[Problem]
) -> list[Override]:
    """The overrides with their full paths; those that lead nowhere go into the problems."""
    resolved: list[Override] = []
    for override in overrides:
        found = _resolve(tree, override, registry)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            resolved.append(replace(override, path=found))
    return resolved


def _resolve(tree: Mapping[str, Any], override: Override, registry: Registry | None) -> tuple[str, ...] | Problem:
    """The full path that an override's name stands for, or why it stands for none."""
    path = override.path
    if path[0] in TOP_LEVEL and len(path) > 1:
        return _spelled(tree, path)
    if len(path) == 1:
        assert registry is not None
        return _resolve_bare(tree, override, registry)
    sections = [section for section in SECTIONS if path[0] in _table(tree, section)]
    if len(sections) == 1:
        return _spelled(tree, (sections[0], *path))
    if sections:
        message = f"{path[0]!r} is a permanence and a process; write permanences.{path[0]} or processes.{path[0]}"
        return Problem(message, override.place)
    if path[0] in {item.name for item in fields(Settings)}:
        return ("pipeline", *path)  # such as checkpoint.every_steps
    names = [name for section in SECTIONS for name in _table(tree, section)]
    hint = did_you_mean(path[0], [*names, *TOP_LEVEL])
    return Problem(f"nothing is called {path[0]!r}", override.place, hint or f"there are: {', '.join(names) or 'none'}")


def _resolve_bare(tree: Mapping[str, Any], override: Override, registry: Registry) -> tuple[str, ...] | Problem:
    key = override.path[0]
    fitting: list[tuple[str, ...]] = []
    known: set[str] = set()
    for section, kind in SECTIONS.items():
        for name, table in _table(tree, section).items():
            keys = _parameter_names(table, kind, registry)
            known |= keys
            if key in keys:
                fitting.append(_spelled(tree, (section, name, key)))
    settings = {item.name for item in fields(Settings)}
    if key in settings:
        fitting.append(("pipeline", key))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " or ".join(".".join(path) for path in fitting)
        return Problem(f"{key!r} could be {names}", override.place, "write more of the name")
    return Problem(f"no parameter is called {key!r}", override.place, did_you_mean(key, known | settings))


def _parameter_names(table: Any, kind: Kind, registry: Registry) -> set[str]:
    """Every parameter that a table has or could have."""
    if not isinstance(table, Mapping):
        return set()
    params = table.get("params", {})
    keys = {*table, *(params if isinstance(params, Mapping) else ())} - ALL_RESERVED
    target = table.get("type")
    if isinstance(target, str):
        entry = registry.find(kind, target)
        target = entry.target if isinstance(entry, Entry) else None
    if callable(target):
        keys |= {name for name, parameter in signature_of(target).parameters.items() if not parameter.wanted}
    return keys


def _spelled(tree: Mapping[str, Any], path: tuple[str, ...]) -> tuple[str, ...]:
    """The path as the file spells it: a parameter may stand flat in its table or in `params`."""
    if path[0] not in SECTIONS or len(path) < 3:
        return path
    rest = path[3:] if path[2] == "params" else path[2:]
    if not rest or (path[2] != "params" and rest[0] in ALL_RESERVED):
        return path
    table = _table(tree, path[0]).get(path[1])
    if not isinstance(table, Mapping):
        return path
    flat = rest[0] in table and rest[0] not in ALL_RESERVED
    inner = table.get("params")
    if flat and not (isinstance(inner, Mapping) and rest[0] in inner):
        return (path[0], path[1], *rest)
    if path[2] == "params" or isinstance(inner, Mapping):
        return (path[0], path[1], "params", *rest)
    return path


def _table(tree: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    table = tree.get(section, {})
    return table if isinstance(table, Mapping) else {}
