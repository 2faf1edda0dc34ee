"""What is doubtful in a recipe but does not stop a run."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from ridgepole.config import looks_secret
from ridgepole.pipeline.drafts import Draft
from ridgepole.pipeline.plan import Part
from ridgepole.pipeline.recipe import Path_, Recipe
from ridgepole.pipeline.report import Report


def warn_of_unused(report: Report, drafts: Sequence[Draft], parts: Iterable[Part], kept: Iterable[str]) -> None:
    """Warns of permanences that nothing in the pipeline asks for.

    Args:
        report: Where the warnings go.
        drafts: The permanences.
        parts: Whatever may ask for one.
        kept: Names that the framework itself uses.
    """
    parts = list(parts)
    needed = {name for part in parts for name in part.depends_on} | set(kept)
    # controller.get_permanence("name") can't be seen in a signature, but it can be seen in the source.
    modules = {inspect.getmodule(part.target) for part in parts if part.target is not None}
    asked = {name for module in modules if module is not None for name in _asked_for(module)}
    for draft in drafts:
        if draft.name not in needed | asked and draft.target is not None:
            report.add(draft.path, f"nothing in the pipeline uses the permanence {draft.name!r}", severity="warning")


def warn_of_secrets(report: Report) -> None:
    """Warns of secrets that are written out in the file."""
    for path, value in _scalars(report.recipe.tree):
        if value != "" and path not in report.recipe.secrets and _is_secret(path):
            message = f"{'.'.join(str(part) for part in path)} looks like a secret written out"
            report.add(path, message, "take it from the environment: ${env:NAME}", severity="warning")


def secrets_of(recipe: Recipe) -> frozenset[str]:
    """The values, as text, that must be written nowhere but into `config.toml`."""
    found = {str(value) for path, value in _scalars(recipe.tree) if path in recipe.secrets or _is_secret(path)}
    return frozenset(found - {""}) | recipe.secret_values


def _is_secret(path: Path_) -> bool:
    """Whether a key of a path, below the name of its table, looks like a secret's."""
    return any(isinstance(part, str) and looks_secret(part) for part in path[2:])


def _scalars(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every text and number of a tree with its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _scalars(item, (*path, key))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _scalars(item, (*path, index))
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield path, value


LOOK_UP = re.compile(r"""get_permanence\(\s*["']([^"']+)["']""")
"""A permanence that code asks for by a name that can be read off it."""


@functools.lru_cache(maxsize=256)
def _asked_for(module: ModuleType) -> frozenset[str]:
    """The names that a module looks up."""
    try:
        return frozenset(LOOK_UP.findall(inspect.getsource(module)))
    except (OSError, TypeError):  # a notebook, or a module written in C
        return frozenset()
