"""Parameters that exist only for some values of others: `when = { optimizer = "sgd" }`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ridgepole.errors import did_you_mean
from ridgepole.sweeps.spec.checker import Checker, KeyPath, describe
from ridgepole.sweeps.spec.parameter_types import FiniteParameter, Json, Parameter, WeightedChoice, canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """The `when` table of a parameter, or of a table that it is nested in.

    Attributes:
        name: The flat name of the parameter.
        table: The values by the name of another parameter: one, or a list of them.
        path: The path of the table.
    """

    name: str
    table: Mapping[str, Any]
    path: KeyPath


def check_conditions(
    check: Checker,
    whens: Collection[When],
    names: Collection[str],
    searched: Mapping[str, Parameter],
    constants: Mapping[str, Json],
) -> dict[str, dict[str, tuple[Json, ...]]]:
    """Return the values that other parameters must have, by the name of each parameter.

    Args:
        check: Takes the problems.
        whens: The conditions.
        names: The flat names of all parameters, those with errors included.
        searched: The searched parameters by flat name.
        constants: The constants by flat name.
    """
    found: dict[str, dict[str, tuple[Json, ...]]] = {}
    for when in whens:
        for named, wanted in when.table.items():
            where = (*when.path, named)
            # A sibling of the same table goes before a parameter of the whole sweep
            sibling = ".".join((*when.name.split(".")[:-1], named))
            parent = next((each for each in (sibling, named) if each in names and each != when.name), None)
            if parent is None:
                hint = did_you_mean(named, set(names) - {when.name}) or "it names another parameter"
                check.error(where, f"no other parameter is called {named!r}", hint, key=True)
                continue
            values = tuple(wanted) if isinstance(wanted, list) else (wanted,)
            for value in values:
                if message := _never(parent, value, searched, constants):
                    check.error(where, message)
            found.setdefault(when.name, {})[parent] = values
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        circle = sorted(set(error.args[1]))
        path = next(when.path for when in whens if when.name in circle)
        check.error(path, f"circular conditions: {' and '.join(circle)} depend on each other", key=True)
        return {}
    return found


def _never(parent: str, value: Json, searched: Mapping[str, Parameter], constants: Mapping[str, Json]) -> str:
    """Return why a parameter never has a value; an empty text if it may, or is wrong itself."""
    refused = f"{parent} never has the value {describe(value)}"
    if parent in constants:
        return "" if canonical(constants[parent]) == canonical(value) else refused
    each = searched.get(parent)
    if each is None:
        return ""
    if not isinstance(each, FiniteParameter | WeightedChoice):
        return f"{parent} is continuous, and a condition needs a parameter with separate values"
    try:
        each.encode(value)
    except ValueError:
        return refused
    return ""
