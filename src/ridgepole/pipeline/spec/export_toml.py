"""Write a pipeline as a TOML file."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ridgepole.errors import ConfigError, Problem
from ridgepole.pipeline.spec.injection import signature_of
from ridgepole.pipeline.spec.spec import SECTIONS, Path_, PipelineSpec


def to_toml(spec: PipelineSpec) -> str:
    """Write a pipeline as TOML that reads back to the same pipeline; classes become names.

    Raises:
        ConfigError: If a value has no TOML form; every such value is listed.
    """
    import tomli_w

    writer = _Writer(spec)
    tree = writer.plain(spec.tree, ())
    if writer.problems:
        raise ConfigError(writer.problems)
    roots = {module.partition(".")[0] for module in writer.modules} - {"ridgepole"}
    comment = "# a file can't name the types of a script: move them into a package\n" if "__main__" in roots else ""
    packages = sorted(roots - {"__main__"})
    if len(packages) == 1:
        tree["pipeline"].setdefault("package", packages[0])
    ordered = {key: tree[key] for key in ("pipeline", *SECTIONS, "notify", "sweep") if tree.get(key)}
    text: str = tomli_w.dumps(ordered)
    return comment + text


_LEFT_OUT: Any = object()


class _Writer:
    """Converts a pipeline's tree to values that TOML supports."""

    def __init__(self, spec: PipelineSpec) -> None:
        self.spec = spec
        self.problems: list[Problem] = []
        self.modules: set[str] = set()

    def plain(self, value: Any, path: Path_) -> Any:
        if len(path) > 64:
            return self._refuse(path, "it is nested too deep, or contains itself")
        if len(path) == 3 and path[0] in SECTIONS and path[2] == "type" and not isinstance(value, str):
            self.modules.add(value.__module__)
            return value.__name__
        if path in self.spec.secrets:
            return self._refuse(path, "it is a secret from the environment and would be written out")
        if isinstance(value, Mapping):
            items = {str(key): self.plain(item, (*path, str(key))) for key, item in value.items()}
            return {key: item for key, item in items.items() if item is not _LEFT_OUT}
        if isinstance(value, list | tuple):
            return [self.plain(item, (*path, index)) for index, item in enumerate(value)]
        if is_dataclass(value) and not isinstance(value, type):
            return self.plain({item.name: getattr(value, item.name) for item in fields(value)}, path)
        if isinstance(value, enum.Enum):
            return self.plain(value.value, path)
        return self._scalar(value, path)

    def _scalar(self, value: Any, path: Path_) -> Any:
        if value is None:
            return _LEFT_OUT if self._is_default(path) else {"null": True}
        if isinstance(value, Path):
            value = str(value)
        if isinstance(value, str):
            if not value.isprintable() and any("\ud800" <= char <= "\udfff" for char in value):
                return self._refuse(path, "it contains a lone surrogate")
            return value.replace("${", "$${") if path[0] in ("pipeline", *SECTIONS) else value
        if isinstance(value, bool | float | dt.date) or (isinstance(value, dt.time) and value.tzinfo is None):
            return value
        if isinstance(value, int) and -(2**63) <= value < 2**64:
            return value
        kind = "it is an integer of more than 64 bits" if isinstance(value, int) else f"it is a {type(value).__name__}"
        return self._refuse(path, kind)

    def _is_default(self, path: Path_) -> bool:
        """Return whether None is the default of the setting or parameter at a path."""
        if path[0] == "pipeline" and len(path) == 2:
            return True
        target = self.spec.at((*path[:2], "type"))
        name = path[3] if len(path) == 4 and path[2] == "params" else path[2] if len(path) == 3 else None
        if path[0] not in SECTIONS or name is None or target is None or isinstance(target, str):
            return False
        parameter = signature_of(target).parameters.get(str(name))
        return parameter is not None and parameter.default is None

    def _refuse(self, path: Path_, why: str) -> None:
        name = ".".join(str(part) for part in path[:8])
        self.problems.append(Problem(f"{name} has no TOML form: {why}", self.spec.place(path, False)))
