"""Find the class or function behind a type name in a pipeline's file.

A config file can't name a dotted path, only a registered type. Registered are Ridgepole's own
types, the entry points of installed plugins, and the classes and functions that the pipeline's own
package defines.
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
from ridgepole.extras import install_command
from ridgepole.permanence import Permanence
from ridgepole.processes import is_process

Kind = Literal["permanence", "process"]

_BUILT_IN: dict[Kind, dict[str, str]] = {
    "permanence": {
        "BasicLogger": "ridgepole.loggers.local.logger:BasicLogger",
        "Device": "ridgepole.devices:Device",
        "NullLogger": "ridgepole.loggers.composite:NullLogger",
        "NullProgressManager": "ridgepole.progress:NullProgressManager",
        "ProgressManager": "ridgepole.progress:ProgressManager",
        "WandBLogger": "ridgepole.loggers.wandb:WandBLogger",
        "MLflowLogger": "ridgepole.loggers.mlflow:MLflowLogger",
        "TensorBoardLogger": "ridgepole.loggers.tensorboard:TensorBoardLogger",
        "TrackioLogger": "ridgepole.loggers.trackio:TrackioLogger",
    },
    "process": {},
}

_EXTRAS = {"torch": "torch", "numpy": "torch", "matplotlib": "plots", "seaborn": "plots", "polars": "plots"}
_EXTRAS |= {"tensorboard": "tensorboard", "wandb": "wandb", "optuna": "sweep", "ray": "ray", "submitit": "slurm"}
"""The extra that installs a module that a user's package may import."""

_GROUPS: dict[Kind, str] = {"permanence": "ridgepole.permanences", "process": "ridgepole.processes"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered type.

    Attributes:
        name: The name that a config file uses.
        target: The class or function.
        origin: Its origin, for messages: `"Ridgepole"`, `"plugin foo"`, or `"digits/model.py:12"`.
    """

    name: str
    target: Any
    origin: str


@dataclass(slots=True, kw_only=True)
class Registry:
    """The types that one pipeline may name.

    Attributes:
        package: The pipeline's own package, or None.
        own: The types that the package defines, by kind and name.
        problems: The problems of importing the package.
        rejected: Public classes and functions of the package that can't be named, and why.
    """

    package: str | None = None
    own: dict[Kind, dict[str, Entry]] = field(default_factory=lambda: {"permanence": {}, "process": {}})
    problems: list[Problem] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, package: str | None, directory: Path, place: Place | None = None) -> Registry:
        """Import a pipeline's own package and register its types; errors become `problems`.

        Args:
            package: One identifier, found only in `directory`; None for built-in types and plugins
                alone.
            directory: The directory of the pipeline's file.
            place: Where the package is named, for problems.
        """
        registry = cls(package=package)
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
        except BaseException as error:  # noqa: BLE001 - any error of a user's module is shown to the user
            message = f"package {package!r} failed to import: {type(error).__name__}: {error}"
            extra = _EXTRAS.get(error.name or "") if isinstance(error, ModuleNotFoundError) else None
            hint = install_command(extra) if extra else ""
            registry.problems.append(Problem(message, place, hint, detail=user_traceback(error)))
            return registry
        for module in modules:
            registry._collect(module, place)
        return registry

    def find(self, kind: Kind, name: str) -> Entry | str | None:
        """Return the registered type of a name; a plugin's or built-in class is imported now.

        Returns:
            The entry, or why a plugin's type can't be used, or None for an unknown name.
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
        """Return all registered names of one kind, sorted."""
        plugins = (point.name for point in metadata.entry_points(group=_GROUPS[kind]))
        return sorted({*self.own[kind], *_BUILT_IN[kind], *plugins})

    def unknown(self, kind: Kind, name: str, place: Place | None) -> Problem:
        """Return the problem of an unregistered name, with similar names and places."""
        searched = ["Ridgepole's own types", "installed plugins"]
        searched += [f"the package {self.package!r}"] if self.package else ["no package (none is set in [pipeline])"]
        names = self.names(kind)
        hint = did_you_mean(name, names)
        other: Kind = "process" if kind == "permanence" else "permanence"
        if name in self.names(other):
            hint = f"{name!r} is a {other}"
        hint = self.rejected.get(name, hint)
        detail = f"searched {', '.join(searched)}; known: {', '.join(names) or 'none'}"
        if "." in name:
            detail += "\na type must be a registered name, not a dotted path"
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
    """Load a plugin's type, or return why it can't be used."""
    origin = f"plugin {point.dist.name if point.dist else point.value}"
    try:
        target = point.load()
    except Exception as error:  # noqa: BLE001 - any error of another package
        return f"the {origin} failed to import: {type(error).__name__}: {error}"
    if _kind_of(target) != kind:
        return f"the {origin} registers {point.value!r} as a {kind}, but it is not one"
    return Entry(point.name, target, origin)


def _why_not(value: Any) -> str:
    """Return why a class or function of the user's package can't be named in a pipeline."""
    lacking = ", ".join(sorted(getattr(value, "__abstractmethods__", ())))
    if lacking:
        return f"{value.__name__} still lacks {lacking}"
    if isinstance(value, type):
        return f"{value.__name__} is neither a Permanence nor a PipelineProcess"
    return f"{value.__name__} is not decorated with @process"


def _origin(value: Callable[..., Any]) -> str:
    try:
        return f"{os.path.relpath(inspect.getsourcefile(value) or '?')}:{inspect.getsourcelines(value)[1]}"
    except (OSError, TypeError):  # defined in a notebook or by exec
        return value.__module__


def _not_importable(package: str, directory: Path) -> tuple[str, str] | None:
    """Return why a package can't be imported from a directory, with a hint; None if it can."""
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
    """Import a package and its public submodules."""
    # The directory stays on the path, as that of a script does: worker processes must find the
    # package too.
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
