"""A pipeline's description before it is checked, from a TOML document or from Python calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ridgepole.config import Document, Override, thaw, variable_looks_secret
from ridgepole.errors import ConfigError, Place, Problem, did_you_mean
from ridgepole.pipeline.spec.injection import signature_of
from ridgepole.pipeline.spec.plan import Settings
from ridgepole.pipeline.trial_hook import TrialHook
from ridgepole.registry import Entry, Kind, Registry

Path_ = tuple[str | int, ...]

SECTIONS: dict[str, Kind] = {"permanences": "permanence", "processes": "process"}
TOP_LEVEL = ("pipeline", "permanences", "processes", "notify", "sweep")

_UNREAD = [("sweep",)]
"""Tables that are left as they are: the sweep engine reads them itself."""

RESERVED_KEYS: dict[Kind, tuple[str, ...]] = {
    "permanence": ("type", "params", "depends_on", "ranks", "force"),
    "process": ("type", "params", "needs", "cache", "retries", "force", "depends_on", "ranks"),
}
"""The framework's own keys of a table."""

_ALL_RESERVED = frozenset(key for keys in RESERVED_KEYS.values() for key in keys)
_SETTINGS = frozenset(item.name for item in fields(Settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """A pipeline as it was written, not yet checked.

    Attributes:
        tree: The `pipeline`, `permanences`, `processes` and `sweep` tables; a `type` may be a class
            or function.
        place: Locates a path of the tree; the second argument asks for the key's place.
        directory: Where the user's package and the directory of runs are looked for.
        file: The pipeline's file; None for one that was built in Python.
        source: The main file byte for byte; None for a pipeline built in Python.
        secrets: Paths whose values are secret.
        environ: Paths whose values came from the environment and may differ when a run is resumed.
        typed: Values that were typed on the command line without quotes, as text.
        overrides: The `-s` values as typed, secrets masked.
        secret_values: The values of secret-looking environment variables that are referred to.
        hook: The hook of the trial; its values are in the tree already.
    """

    tree: Mapping[str, Any]
    place: Callable[[Path_, bool], Place | None]
    directory: Path
    file: Path | None = None
    source: bytes | None = None
    secrets: frozenset[Path_] = frozenset()
    environ: frozenset[Path_] = frozenset()
    typed: Mapping[Path_, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    secret_values: frozenset[str] = frozenset()
    hook: TrialHook | None = None

    def at(self, path: Path_) -> Any:
        """Return the value at a path, or None."""
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
    directory: Path,
    hook: TrialHook | None = None,
) -> PipelineSpec:
    """Apply `-s` overrides, then a trial's parameters, then interpolation to a document.

    The caller sets the `file` of the result.

    Args:
        document: The document.
        overrides: The `-s` values, in order; short names are resolved here.
        environ: The environment, for `${env:...}`.
        directory: Where the user's package is looked for.
        hook: The hook of the trial.

    Raises:
        ConfigError: If an override is unknown or ambiguous, or a reference can't be resolved.
    """
    problems: list[Problem] = []
    document = _apply_overrides(document, overrides, environ, directory, problems, unique=False)
    if hook is not None:
        document = _apply_overrides(document, hook.overrides(), environ, directory, problems, unique=True)
    if problems:
        raise ConfigError(problems)
    document = document.interpolate(environ, skip=_UNREAD)
    tree = thaw(document.values)
    pipeline = tree.get("pipeline", {})
    if isinstance(pipeline, Mapping):
        tree["pipeline"] = {"name": document.path.stem if document.path else "pipeline", **pipeline}
    return PipelineSpec(
        tree=tree,
        place=lambda path, key: document.place(path, key=key),
        directory=directory,
        source=document.source,
        secrets=document.secrets,
        environ=document.environ,
        typed=document.typed,
        overrides=tuple(override.place.text for override in overrides),
        secret_values=_secret_values(document, overrides, environ),
        hook=hook,
    )


def _apply_overrides(
    document: Document,
    overrides: Sequence[Override],
    environ: Mapping[str, str],
    directory: Path,
    problems: list[Problem],
    *,
    unique: bool,
) -> Document:
    """Apply one layer of overrides; with `unique`, two that set the same key are a problem."""
    short = [each for each in overrides if _is_short(document.values, each.path)]
    full = _resolve_all(document.values, [each for each in overrides if each not in short], None, problems)
    changed = document.override(full)
    if short:
        # A short name is looked up among the parameters of the types, so these must be known first.
        pipeline = changed.interpolate(environ, skip=_UNREAD).values.get("pipeline")
        registry = _registry(pipeline, directory)
        # A package that fails to import is why its parameters are unknown
        problems += registry.problems
        if registry.problems:
            return changed
        short = _resolve_all(changed.values, short, registry, problems)
        order = {id(each.place): index for index, each in enumerate(overrides)}
        changed = document.override(sorted([*full, *short], key=lambda each: order[id(each.place)]))
    if unique:
        problems += _duplicates([*full, *short])
    return changed


def _registry(pipeline: Any, directory: Path) -> Registry:
    package = pipeline.get("package") if isinstance(pipeline, Mapping) else None
    return Registry.load(package if isinstance(package, str) else None, directory)


def _duplicates(overrides: Iterable[Override]) -> list[Problem]:
    """Report parameters of a sweep that set the same key under two names."""
    seen: dict[tuple[str, ...], Override] = {}
    problems = []
    for override in overrides:
        if override.path in seen:
            message = f"two parameters of the sweep set {'.'.join(override.path)}"
            problems.append(Problem(message, override.place, f"the other: {seen[override.path].place.text}"))
        seen[override.path] = override
    return problems


def with_trial(spec: PipelineSpec, hook: TrialHook) -> PipelineSpec:
    """Set a trial's parameters in a pipeline that was built or extended in Python.

    Raises:
        ConfigError: If a parameter is unknown or ambiguous, or its path leads through a value that
            is not a table.
    """
    registry = _registry(spec.tree.get("pipeline"), spec.directory)
    problems = list(registry.problems)
    resolved = [] if problems else _resolve_all(spec.tree, hook.overrides(), registry, problems)
    problems += _duplicates(resolved)
    tree: dict[str, Any] = dict(spec.tree)
    for override in resolved:
        if not _set(tree, override.path, thaw(override.value)):
            message = f"can't set {'.'.join(override.path)!r}: its parent is not a table"
            problems.append(Problem(message, override.place))
    if problems:
        raise ConfigError(problems)
    places: dict[Path_, Place] = {override.path: override.place for override in resolved}

    def place(path: Path_, key: bool) -> Place | None:
        outer = (path[:length] for length in range(len(path), 0, -1))
        return next((places[each] for each in outer if each in places), None) or spec.place(path, key)

    return replace(spec, tree=tree, place=place, hook=hook)


def _set(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> bool:
    """Set a value; the tables above it are copied, so that the original tree stays unchanged."""
    for key in path[:-1]:
        below = tree.get(key, {})
        if not isinstance(below, Mapping):
            return False
        tree[key] = dict(below)
        tree = tree[key]
    tree[path[-1]] = value
    return True


_VARIABLE = re.compile(r"\$\{env!?:([^}:]+)")


def _secret_values(document: Document, overrides: Sequence[Override], environ: Mapping[str, str]) -> frozenset[str]:
    """Return the values of the secret-looking variables that a file or an override refers to."""
    texts = [document.source.decode("utf-8", "replace"), *(str(override.value) for override in overrides)]
    texts += [file.read_text("utf-8", "replace") for file in document.files[1:]]
    names = {name.strip() for text in texts for name in _VARIABLE.findall(text)}
    return frozenset(environ[name] for name in names if variable_looks_secret(name) and environ.get(name))


# --- names of overrides


def _resolve_all(
    tree: Mapping[str, Any], overrides: Iterable[Override], registry: Registry | None, problems: list[Problem]
) -> list[Override]:
    """Return the overrides with their full paths; report those that can't be resolved."""
    resolved: list[Override] = []
    for override in overrides:
        found = _resolve(tree, override, registry)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            resolved.append(replace(override, path=found))
    return resolved


def _is_short(tree: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    """Return whether a path begins with the name of a parameter, not of a table."""
    tables = {name for section in SECTIONS for name in _table(tree, section)}
    return len(path) == 1 or path[0] not in {*TOP_LEVEL, *tables, *_SETTINGS}


def _resolve(tree: Mapping[str, Any], override: Override, registry: Registry | None) -> tuple[str, ...] | Problem:
    path = override.path
    if registry is not None and _is_short(tree, path):
        return _resolve_short(tree, override, registry)
    if path[0] in TOP_LEVEL:
        return _spelled(tree, path)
    sections = [section for section in SECTIONS if path[0] in _table(tree, section)]
    if len(sections) == 1:
        return _spelled(tree, (sections[0], *path))
    if sections:
        message = f"{path[0]!r} is a permanence and a process; write permanences.{path[0]} or processes.{path[0]}"
        return Problem(message, override.place)
    return ("pipeline", *path)  # such as checkpoint.every_steps


def _resolve_short(tree: Mapping[str, Any], override: Override, registry: Registry) -> tuple[str, ...] | Problem:
    key, below = override.path[0], override.path[1:]
    fitting: list[tuple[str, ...]] = []
    known: set[str] = set(_SETTINGS)
    for section, kind in SECTIONS.items():
        for name, table in _table(tree, section).items():
            keys = _parameter_names(table, kind, registry)
            known |= keys
            if key in keys:
                fitting.append(_spelled(tree, (section, name, key, *below)))
    if key in _SETTINGS and not below:
        fitting.append(("pipeline", key))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " or ".join(".".join(path) for path in fitting)
        return Problem(f"{key!r} could be {names}", override.place, "write more of the name")
    if not below:
        return Problem(f"no parameter is called {key!r}", override.place, did_you_mean(key, known))
    tables = [name for section in SECTIONS for name in _table(tree, section)]
    hint = did_you_mean(key, [*tables, *TOP_LEVEL, *known])
    return Problem(f"nothing is called {key!r}", override.place, hint or f"there are: {', '.join(tables) or 'none'}")


def _parameter_names(table: Any, kind: Kind, registry: Registry) -> set[str]:
    """Return every parameter that a table has or could have."""
    if not isinstance(table, Mapping):
        return set()
    params = table.get("params", {})
    keys = {*table, *(params if isinstance(params, Mapping) else ())} - _ALL_RESERVED
    target = table.get("type")
    if isinstance(target, str):
        entry = registry.find(kind, target)
        target = entry.target if isinstance(entry, Entry) else None
    if callable(target):
        keys |= {name for name, parameter in signature_of(target).parameters.items() if not parameter.wanted}
    return keys


def _spelled(tree: Mapping[str, Any], path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path as the file spells it: a parameter is in its table or in `params`."""
    if path[0] not in SECTIONS or len(path) < 3:
        return path
    rest = path[3:] if path[2] == "params" else path[2:]
    if not rest or (path[2] != "params" and rest[0] in _ALL_RESERVED):
        return path
    table = _table(tree, path[0]).get(path[1])
    if not isinstance(table, Mapping):
        return path
    flat = rest[0] in table and rest[0] not in _ALL_RESERVED
    inner = table.get("params")
    if flat and not (isinstance(inner, Mapping) and rest[0] in inner):
        return (path[0], path[1], *rest)
    if path[2] == "params" or isinstance(inner, Mapping):
        return (path[0], path[1], "params", *rest)
    return path


def _table(tree: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    table = tree.get(section, {})
    return table if isinstance(table, Mapping) else {}
