"""Which permanence fills a parameter: by name first, by type second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ridgepole.errors import did_you_mean
from ridgepole.permanence import Permanence
from ridgepole.permanences.loggers.base import BaseLoggerManager
from ridgepole.permanences.loggers.group import NullLogger
from ridgepole.permanences.progress import NullProgressManager, ProgressManager
from ridgepole.pipeline.drafts import Draft
from ridgepole.pipeline.injection import EMPTY, Parameter
from ridgepole.pipeline.plan import LOGGER, PROGRESS, View
from ridgepole.pipeline.report import Report

Given = tuple[Any, tuple[str | int, ...]] | None


class Bound(NamedTuple):
    """The outcome of a search: `found` is False where a problem was noted, or the default is to stand."""

    name: str | View | None
    found: bool


class Binder:
    """Finds the permanences that one permanence or process asks for."""

    def __init__(self, user: Draft, permanences: Sequence[Draft], progress: str, report: Report) -> None:
        self.user = user
        self.others = [other for other in permanences if other is not user]
        self.progress = progress
        self.problem = report.add

    @staticmethod
    def is_reference(parameter: Parameter, given: Given) -> bool:
        """Whether a permanence is meant: by the annotation, or by `{ ref = "name" }` where there is none."""
        if parameter.wanted:
            return True
        return parameter.annotation in (EMPTY, Any, object) and given is not None and _reference(given[0]) is not None

    def bind(self, parameter: Parameter, given: Given) -> Bound:
        """Finds the permanence for a parameter, or notes why there is none."""
        if given is not None:
            return self._named(parameter, given[0], given[1])
        if self._wants_all_loggers(parameter):
            return Bound(View.ALL_LOGGERS, found=True)
        named = [other for other in self.others if other.name == parameter.name]
        if named:
            if named[0].target is None or self._fits(named[0], parameter):
                return Bound(named[0].name, found=True)
            self._wrong_type(parameter, named[0], self.user.path)
            return Bound(None, found=False)
        return self._by_type(parameter)

    def _named(self, parameter: Parameter, value: Any, path: tuple[str | int, ...]) -> Bound:
        name = _reference(value)
        if name is None:
            message = f"{self.user.name}.{parameter.name} is filled with a permanence ({_names(parameter.wanted)})"
            self.problem(path, message, 'leave it out, or name one: { ref = "name" }', key=True)
            return Bound(None, found=False)
        if name == LOGGER and (not parameter.wanted or self._wants_all_loggers(parameter)):
            return Bound(View.ALL_LOGGERS, found=True)
        if name == PROGRESS:
            name = self.progress
        named = [other for other in self.others if other.name == name]
        if not named:
            hint = did_you_mean(name, [other.name for other in self.others])
            self.problem((*path, "ref"), f"no permanence is called {name!r}", hint)
            return Bound(None, found=False)
        if named[0].target is not None and parameter.wanted and not self._fits(named[0], parameter):
            self._wrong_type(parameter, named[0], path)
            return Bound(None, found=False)
        return Bound(name, found=True)

    def _by_type(self, parameter: Parameter) -> Bound:
        fitting = [other for other in self.others if self._fits(other, parameter)]
        declared = [other for other in fitting if not other.default] or fitting
        if len(declared) == 1:
            return Bound(declared[0].name, found=True)
        if declared:
            names = ", ".join(repr(other.name) for other in declared)
            message = f"{self.user.name}.{parameter.name} could be any of the permanences {names}"
            self.problem(self.user.path, message, f'say which: {parameter.name} = {{ ref = "{declared[0].name}" }}')
            return Bound(None, found=False)
        if not parameter.required:
            return Bound(None, found=False)
        if parameter.optional:
            return Bound(None, found=True)
        if all(other.target is not None for other in self.others):  # else the unknown type is the thing to mend
            wanted = _names(parameter.wanted)
            message = f"{self.user.name!r} asks for a {wanted} as {parameter.name!r}, and no permanence is one"
            hint = f'declare one: [permanences.{parameter.name}] type = "{parameter.wanted[0].__name__}"'
            self.problem(self.user.path, message, hint)
        return Bound(None, found=False)

    def _wants_all_loggers(self, parameter: Parameter) -> bool:
        return BaseLoggerManager in parameter.wanted

    @staticmethod
    def _fits(other: Draft, parameter: Parameter) -> bool:
        return other.target is not None and any(stands_in(other.target, wanted) for wanted in parameter.wanted)

    def _wrong_type(self, parameter: Parameter, other: Draft, path: tuple[str | int, ...]) -> None:
        message = (
            f"{self.user.name}.{parameter.name} asks for a {_names(parameter.wanted)}, "
            f"but the permanence {other.name!r} is a {other.target.__name__}"
        )
        self.problem(path, message)


def stands_in(target: type[Permanence], wanted: type[Permanence]) -> bool:
    """Whether an object of a class may be given where another class is asked for; null objects may."""
    if issubclass(target, wanted):
        return True
    if issubclass(target, NullProgressManager):
        return issubclass(wanted, ProgressManager)
    return issubclass(target, NullLogger) and issubclass(wanted, BaseLoggerManager)


def _reference(value: Any) -> str | None:
    if isinstance(value, Mapping) and set(value) == {"ref"} and isinstance(value["ref"], str):
        return value["ref"]
    return None


def _names(classes: tuple[type[Permanence], ...]) -> str:
    return " or ".join(cls.__name__ for cls in classes)
