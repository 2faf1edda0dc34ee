"""From a type name in a pipeline's file to the class or function behind it.

Nothing in a config file can name a dotted path: only what is registered here can be asked for. That is what ships
with Ridgepole, what installed plugins announce by entry point, and what the pipeline's own package defines.
"""

from __future__ import annotations

import importlib
import inspect
import keyword
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from ridgepole.errors import Place, Problem, did_you_mean, user_traceback
from ridgepole.permanence import Permanence
from ridgepole.processes import is_process

Kind = Literal["permanence", "process"]

_BUILT_IN: dict[Kind, dict[str, str]] = {
    "permanence": {
        "BasicLogger": "ridgepole.permanences.loggers.basic:BasicLogger",
        "Device": "ridgepole.permanences.device:Device",
        "NullLogger": "ridgepole.permanences.loggers.group:NullLogger",
        "NullProgressManager": "ridgepole.permanences.progress:NullProgressManager",
        "ProgressManager": "ridgepole.permanences.progress:ProgressManager",
        "WandBLogger": "ridgepole.permanences.loggers.wandb:WandBLogger",
        "TensorBoardLogger": "ridgepole.permanences.loggers.tensorboard:TensorBoardLogger",
    },
    "process": {},
}

_GROUPS: dict[Kind, str] = {"permanence": "ridgepole.permanences", "process": "ridgepole.processes"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered type.

    Attributes:
        name: The name that a config file uses.
        target: The class or function.
        origin: Where it came from, for messages: `"Ridgepole"`, `"plugin foo"`, or `"digits/model.py:12"`.
    """

    name: str
    target: Any
    origin: str


@dataclass(slots=True)
class Registry:
    """The types that one pipeline may name.

    Attributes:
        package: The pipeline's own package, or None.
        directory: The directory that holds it.
        own: What the package defines, by kind and name.
        problems: What went wrong while the package was imported.
        rejected: Public classes and functions of the package that can't be named, and why.
    """

    package: str | None = None
    directory: Path | None = None
    own: dict[Kind, dict[str, Entry]] = field(default_factory=lambda: {"permanence": {}, "process": {}})
    problems: list[Problem] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, package: str | None, directory: Path, place: Place | None = None) -> Registry:
        """Imports a pipeline's own package and registers what it defines.

        Args:
            package: One identifier, found only in `directory`; None for built-in types and plugins alone.
            directory: The directory of the pipeline's file.
            place: Where the package is named, for problems.

        Returns:
            The registry; what went wrong stands in its `problems`.
        """
        registry = cls(package, directory)
        if package is None:
            return registry
        fault = _not_importable(package, directory)
        if fault:
            registry.problems.append(Problem(fault[0], place, fault[1]))
            return registry
        try:
            modules = list(_import_all(package, directory))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a user's module raises is the user's to see
            message = f"package {package!r} failed to import: {type(error).__name__}: {error}"
            registry.problems.append(Problem(message, place, detail=user_traceback(error)))
            return registry
        for module in modules:
            registry._collect(module, place)
        return registry

    def find(self, kind: Kind, name: str) -> Entry | str | None:
        """The registered type of that name.

        Args:
            kind: What to look for.
            name: Its name in the config file.

        Returns:
            The entry; a plugin's or built-in class is imported now. A text says why a plugin's can't be used. None
            where there is no such name.
        """
        if name in self.own[kind]:
            return self.own[kind][name]
        if name in _BUILT_IN[kind]:
            module, _, attribute = _BUILT_IN[kind][name].partition(":")
            return Entry(name, getattr(importlib.import_module(module), attribute), "Ridgepole")
        for point in metadata.entry_points(group=_GROUPS[kind]):
            if point.name == name:
                return _load(kind, point)
        return None

    def names(self, kind: Kind) -> list[str]:
        """All registered names of one kind, sorted."""
        plugins = (point.name for point in metadata.entry_points(group=_GROUPS[kind]))
        return sorted({*self.own[kind], *_BUILT_IN[kind], *plugins})

    def unknown(self, kind: Kind, name: str, place: Place | None) -> Problem:
        """The problem of a name that is not registered: what is near, and where was looked."""
        looked = ["Ridgepole's own types", "installed plugins"]
        looked += [f"the package {self.package!r}"] if self.package else ["no package (none is set in [pipeline])"]
        names = self.names(kind)
        hint = did_you_mean(name, names)
        other: Kind = "process" if kind == "permanence" else "permanence"
        if name in self.names(other):
            hint = f"{name!r} is a {other}"
        hint = self.rejected.get(name, hint)
        detail = f"looked in {', '.join(looked)}; known: {', '.join(names) or 'none'}"
        if "." in name:
            detail += "\na type is a registered name, never a dotted path"
        return Problem(f"no {kind} type is called {name!r}", place, hint, detail)

    def _collect(self, module: ModuleType, place: Place | None) -> None:
        for name, value in vars(module).items():
            if name.startswith("_") or not (isinstance(value, type) or inspect.isfunction(value)):
                continue
            if value.__module__ != module.__name__:
                continue
            kind = _kind_of(value)
            if kind is None:
                self.rejected.setdefault(name, _why_not(value))
                continue
            entry = Entry(value.__name__, value, _origin(value))
            other = self.own[kind].get(entry.name)
            if other is not None and other.target is value:
                continue
            if other is None and entry.name in _BUILT_IN[kind]:
                other = Entry(entry.name, None, "Ridgepole")
            if other is not None:
                message = f"the {kind} type {entry.name!r} is defined twice: in {other.origin} and in {entry.origin}"
                self.problems.append(Problem(message, place, "rename one of them"))
                continue
            self.own[kind][entry.name] = entry


def _kind_of(value: object) -> Kind | None:
    if isinstance(value, type) and issubclass(value, Permanence):
        return None if inspect.isabstract(value) else "permanence"
    return "process" if is_process(value) else None


def _load(kind: Kind, point: metadata.EntryPoint) -> Entry | str:
    """A plugin's type, or why it can't be used."""
    origin = f"plugin {point.dist.name if point.dist else point.value}"
    try:
        target = point.load()
    except Exception as error:  # noqa: BLE001 - somebody else's package
        return f"the {origin} failed to import: {type(error).__name__}: {error}"
    if _kind_of(target) != kind:
        return f"the {origin} announces {point.value!r} as a {kind}, and it is none"
    return Entry(point.name, target, origin)


def _why_not(value: Any) -> str:
    """Why a class or function of the user's package can't be named in a pipeline."""
    lacking = ", ".join(sorted(getattr(value, "__abstractmethods__", ())))
    if lacking:
        return f"{value.__name__} still lacks {lacking}"
    if isinstance(value, type):
        return f"{value.__name__} is no Permanence and no PipelineProcess"
    return f"{value.__name__} is not under @process"


def _origin(value: Callable[..., Any]) -> str:
    try:
        return f"{os.path.relpath(inspect.getsourcefile(value) or '?')}:{inspect.getsourcelines(value)[1]}"
    except (OSError, TypeError):  # defined in a notebook or by exec
        return value.__module__


def _not_importable(package: str, directory: Path) -> tuple[str, str] | None:
    """Why a package can't be taken from a directory, with a hint; None where it can."""
    if not package.isidentifier() or keyword.iskeyword(package):
        return f"package must be one Python identifier, not {package!r}", "name the package, not a path"
    if not ((directory / package / "__init__.py").is_file() or (directory / f"{package}.py").is_file()):
        beside = [p.stem for p in directory.glob("*.py")] + [p.parent.name for p in directory.glob("*/__init__.py")]
        return f"no package {package!r} beside the pipeline's file, in {directory}", did_you_mean(package, beside)
    loaded = sys.modules.get(package)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        ours = ((directory / package / "__init__.py").resolve(), (directory / f"{package}.py").resolve())
        if file is None or Path(file).resolve() not in ours:
            where = file or "Python itself"
            return f"package {package!r} is already imported from {where}", "rename the pipeline's package"
    return None


def _import_all(package: str, directory: Path) -> Iterator[ModuleType]:
    """Imports a package and its public submodules."""
    # The directory stays on the path, as a script's own does: worker processes must find the package too.
    home = str(directory.resolve())
    if home not in sys.path:
        sys.path.insert(0, home)
    importlib.invalidate_caches()
    root = importlib.import_module(package)
    yield root
    pending = [root]
    while pending:
        parent = pending.pop()
        for info in pkgutil.iter_modules(getattr(parent, "__path__", ()), parent.__name__ + "."):
            if info.name.rpartition(".")[2].startswith("_"):
                continue
            module = importlib.import_module(info.name)
            pending.append(module)
            yield module
