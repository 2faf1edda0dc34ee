"""A pipeline as the text of a TOML file."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ridgepole.errors import ConfigError, Problem
from ridgepole.pipeline.recipe import SECTIONS, Path_, Recipe


def to_toml(recipe: Recipe) -> str:
    """Writes a recipe as TOML that reads back to the same pipeline.

    Args:
        recipe: The recipe; classes are written by their names.

    Returns:
        The text. Classes that no package offers by name are named in a comment at its top.

    Raises:
        ConfigError: If a value has no TOML form; every such value is listed.
    """
    import tomli_w

    problems: list[Problem] = []
    homes: set[str] = set()

    def plain(value: Any, path: Path_) -> Any:
        if len(path) == 3 and path[0] in SECTIONS and path[2] == "type" and not isinstance(value, str):
            homes.add(value.__module__)
            return value.__name__
        if isinstance(value, Mapping):
            items = {str(key): plain(item, (*path, str(key))) for key, item in value.items()}
            return {key: item for key, item in items.items() if item is not None}
        if isinstance(value, list | tuple):
            return [plain(item, (*path, index)) for index, item in enumerate(value)]
        if is_dataclass(value) and not isinstance(value, type):
            return plain({item.name: getattr(value, item.name) for item in fields(value)}, path)
        if isinstance(value, enum.Enum):
            return plain(value.value, path)
        if isinstance(value, Path):
            return str(value)
        if value is not None and not isinstance(value, str | int | float | dt.date | dt.time):
            name = ".".join(str(part) for part in path)
            problems.append(
                Problem(f"{name} has no TOML form: it is a {type(value).__name__}", recipe.place(path, False))
            )
        # TOML has no null: a key whose value is None is left out, which is what None means for most constructors.
        return value

    tree = plain(recipe.tree, ())
    if problems:
        raise ConfigError(problems)
    roots = {home.partition(".")[0] for home in homes} - {"ridgepole"}
    comment = "# types of a script can't be named in a file: move them into a package\n" if "__main__" in roots else ""
    packages = sorted(roots - {"__main__"})
    if len(packages) == 1:
        tree["pipeline"].setdefault("package", packages[0])
    ordered = {key: tree[key] for key in ("pipeline", *SECTIONS, "sweep") if tree.get(key)}
    text: str = tomli_w.dumps(ordered)
    return comment + text
