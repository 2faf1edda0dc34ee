"""Find the permanence that fills a parameter: by name first, by type second."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from ridgepole.errors import did_you_mean
from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.composite import NullLogger
from ridgepole.permanence import Permanence
from ridgepole.pipeline.spec.components import ComponentSpec
from ridgepole.pipeline.spec.injection import EMPTY, Parameter
from ridgepole.pipeline.spec.plan import LOGGER, PROGRESS, View
from ridgepole.pipeline.spec.report import Report
from ridgepole.progress import NullProgressManager, ProgressManager


def in_order(edges: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """Sort names so that each comes after what it needs; otherwise the given order is kept.

    Args:
        edges: Name to the names that it needs.

    Returns:
        The order and an empty list, or an empty order and a cycle. The first and last names of a
        cycle are the same, and each needs the next.
    """
    position = {name: index for index, name in enumerate(edges)}
    names = list(edges)
    sorter = TopologicalSorter({name: [n for n in needs if n in position] for name, needs in edges.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        return [], list(reversed(error.args[1]))  # graphlib lists dependencies first
    ready = [position[name] for name in sorter.get_ready()]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        sorter.done(name)
        for following in sorter.get_ready():
            heapq.heappush(ready, position[following])
    return order, []


Given = tuple[Any, tuple[str | int, ...]] | None


class Bound(NamedTuple):
    """The result of a search; not `found` if a problem was reported, or the default applies."""

    name: str | View | None
    found: bool


class Binder:
    """Finds the permanences that one permanence or process asks for."""

    def __init__(
        self, user: ComponentSpec, permanences: Sequence[ComponentSpec], progress: str, report: Report
    ) -> None:
        self.user = user
        self.others = [other for other in permanences if other is not user]
        self.progress = progress
        self.problem = report.add

    @staticmethod
    def is_reference(parameter: Parameter, given: Given) -> bool:
        """Return whether a permanence is meant: by annotation, else by `{ ref = "name" }`."""
        if parameter.wanted:
            return True
        return parameter.annotation in (EMPTY, Any, object) and given is not None and _reference(given[0]) is not None

    def bind(self, parameter: Parameter, given: Given) -> Bound:
        """Find the permanence for a parameter, or report why it is missing."""
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
        # Else the unknown type is the one thing to fix
        if all(other.target is not None for other in self.others):
            wanted = _names(parameter.wanted)
            message = f"{self.user.name!r} asks for a {wanted} as {parameter.name!r}, and no permanence is one"
            hint = f'declare one: [permanences.{parameter.name}] type = "{parameter.wanted[0].__name__}"'
            self.problem(self.user.path, message, hint)
        return Bound(None, found=False)

    def _wants_all_loggers(self, parameter: Parameter) -> bool:
        return BaseLoggerManager in parameter.wanted

    @staticmethod
    def _fits(other: ComponentSpec, parameter: Parameter) -> bool:
        return other.target is not None and any(_can_replace(other.target, wanted) for wanted in parameter.wanted)

    def _wrong_type(self, parameter: Parameter, other: ComponentSpec, path: tuple[str | int, ...]) -> None:
        message = (
            f"{self.user.name}.{parameter.name} asks for a {_names(parameter.wanted)}, "
            f"but the permanence {other.name!r} is a {other.target.__name__}"
        )
        self.problem(path, message)


def _can_replace(target: type[Permanence], wanted: type[Permanence]) -> bool:
    """Return whether a class may be given where another is asked for; null objects may."""
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
