"""A pipeline as the text of a TOML file."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ridgepole.errors import ConfigError, Problem
from ridgepole.pipeline.injection import signature_of
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

    writer = _Writer(recipe)
    tree = writer.plain(recipe.tree, ())
    if writer.problems:
        raise ConfigError(writer.problems)
    homes = writer.homes
    roots = {home.partition(".")[0] for home in homes} - {"ridgepole"}
    comment = "# types of a script can't be named in a file: move them into a package\n" if "__main__" in roots else ""
    packages = sorted(roots - {"__main__"})
    if len(packages) == 1:
        tree["pipeline"].setdefault("package", packages[0])
    ordered = {key: tree[key] for key in ("pipeline", *SECTIONS, "sweep") if tree.get(key)}
    text: str = tomli_w.dumps(ordered)
    return comment + text


class _Writer:
    """Turns a recipe's tree into values that TOML knows."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.problems: list[Problem] = []
        self.homes: set[str] = set()

    def plain(self, value: Any, path: Path_) -> Any:
        if len(path) > 64:
            return self._refuse(path, "it is nested too deep, or in itself")
        if len(path) == 3 and path[0] in SECTIONS and path[2] == "type" and not isinstance(value, str):
            self.homes.add(value.__module__)
            return value.__name__
        if path in self.recipe.secrets:
            return self._refuse(path, "it came from the environment and would be written out")
        if isinstance(value, Mapping):
            items = {str(key): self.plain(item, (*path, str(key))) for key, item in value.items()}
            return {key: item for key, item in items.items() if item is not None}
        if isinstance(value, list | tuple):
            return [self._in_array(item, (*path, index)) for index, item in enumerate(value)]
        if is_dataclass(value) and not isinstance(value, type):
            return self.plain({item.name: getattr(value, item.name) for item in fields(value)}, path)
        if isinstance(value, enum.Enum):
            return self.plain(value.value, path)
        return self._scalar(value, path)

    def _scalar(self, value: Any, path: Path_) -> Any:
        if value is None:
            # TOML has no null: the key is left out, which says the same only where None is the default.
            return None if self._default(path) is None else self._refuse(path, "it is None, and TOML has no null")
        if isinstance(value, Path):
            value = str(value)
        if isinstance(value, str):
            if not value.isprintable() and any("\ud800" <= char <= "\udfff" for char in value):
                return self._refuse(path, "it holds half a character")
            return value.replace("${", "$${") if path[0] in ("pipeline", *SECTIONS) else value
        if isinstance(value, bool | float | dt.date) or (isinstance(value, dt.time) and value.tzinfo is None):
            return value
        if isinstance(value, int) and -(2**63) <= value < 2**64:
            return value
        kind = "it is an integer of more than 64 bits" if isinstance(value, int) else f"it is a {type(value).__name__}"
        return self._refuse(path, kind)

    def _in_array(self, item: Any, path: Path_) -> Any:
        return self._refuse(path, "it is None, and TOML has no null") if item is None else self.plain(item, path)

    def _default(self, path: Path_) -> Any:
        """The default of the parameter that a path names; None where there is none to be known."""
        target = self.recipe.at((*path[:2], "type"))
        name = path[3] if len(path) == 4 and path[2] == "params" else path[2] if len(path) == 3 else None
        if path[0] not in SECTIONS or name is None or target is None or isinstance(target, str):
            return None
        parameter = signature_of(target).parameters.get(str(name))
        return None if parameter is None or parameter.required else parameter.default

    def _refuse(self, path: Path_, why: str) -> None:
        name = ".".join(str(part) for part in path[:8])
        self.problems.append(Problem(f"{name} has no TOML form: {why}", self.recipe.place(path, False)))
