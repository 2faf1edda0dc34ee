"""The `parameters` table of a sweep: which law each parameter has, and everything that can be wrong with it.

Laws, defaults, and how the law follows from the keys where `distribution` is left out, are those of W&B's page "Sweep
configuration options" (https://docs.wandb.ai/models/sweeps/sweep-config-keys); that page has no `beta`, whose `a` and
`b` are the usual ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ridgepole.errors import did_you_mean
from ridgepole.sweeps.building import RANGE, Builder
from ridgepole.sweeps.checker import Checker, bare, plain, shown
from ridgepole.sweeps.doubts import doubt_scalar
from ridgepole.sweeps.kinds import Axis, Choice, IntRange, Json, Multiples, Parameter, Steps, WeightedChoice
from ridgepole.sweeps.laws import steps_below
from ridgepole.sweeps.reading import Path_
from ridgepole.sweeps.space import Space

KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ("probabilities",)),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (RANGE, ()),
    "uniform": (RANGE, ()),
    "q_uniform": (RANGE, ("q",)),
    "log_uniform": (RANGE, ()),
    "log_uniform_values": (RANGE, ()),
    "q_log_uniform": (RANGE, ("q",)),
    "q_log_uniform_values": (RANGE, ("q",)),
    "inv_log_uniform": (RANGE, ()),
    "inv_log_uniform_values": (RANGE, ()),
    "normal": ((), ("mu", "sigma")),
    "q_normal": ((), ("mu", "sigma", "q")),
    "log_normal": ((), ("mu", "sigma")),
    "q_log_normal": ((), ("mu", "sigma", "q")),
    "beta": (("a", "b"), ()),
    "q_beta": (("a", "b"), ("q",)),
}
"""The distributions; for each the keys that it must and may have."""

_ALL_KEYS = ("value", "values", "probabilities", "distribution", *RANGE, "mu", "sigma", "a", "b", "q", "parameters")


@dataclass(slots=True)
class _Found:
    """The parameters found so far."""

    searched: list[Parameter] = field(default_factory=list)
    constants: dict[str, Json] = field(default_factory=dict)
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)


def parse_parameters(check: Checker, table: Any, path: Path_, *, grid: bool) -> Space:
    """Reads the `parameters` table; what is wrong goes to the checker.

    Args:
        check: Takes the problems.
        table: The table.
        path: Where it stands.
        grid: Whether the sweep is a grid: every parameter must have finitely many values then.

    Returns:
        The space of all parameters that are right.
    """
    found = _Found()
    if check.table(table, path):
        _walk(check, table, path, (), grid, found)
    return Space(found.searched, found.constants, found.paths)


def _walk(
    check: Checker, table: Mapping[Any, Any], path: Path_, names: tuple[str, ...], grid: bool, found: _Found
) -> None:
    if not table:
        check.error(path, f"{check.name(path)} is empty", "a sweep needs a parameter")
    for name, entry in table.items():
        where, full = (*path, name), (*names, name)
        if not isinstance(name, str) or not name:
            check.error(where, f"{check.name(path)} has a parameter without a name", key=True)
            continue
        if not isinstance(entry, Mapping):
            hint = "write { value = … } for a constant, { values = […] } for a choice, or { min = …, max = … }"
            check.error(where, f"{check.name(where)} must be a table, not {shown(entry)}", hint)
        elif "parameters" in entry:
            check.known(entry, where, ("parameters",), f"{check.name(where)}, which nests parameters,")
            if check.table(entry["parameters"], (*where, "parameters")):
                _walk(check, entry["parameters"], (*where, "parameters"), full, grid, found)
        else:
            _one(check, entry, where, full, grid, found)


def _one(
    check: Checker, entry: Mapping[Any, Any], path: Path_, names: tuple[str, ...], grid: bool, found: _Found
) -> None:
    flat = ".".join(names)
    if flat in found.paths:
        check.error(
            path, f"there are two parameters {flat!r}", "one is nested, the other has a dot in its name", key=True
        )
        return
    found.paths[flat] = names
    kind = _kind(check, entry, path)
    if kind is None:
        return
    before = len(check.problems)
    if kind == "constant":
        found.constants[flat] = plain(check, entry["value"], (*path, "value"))
        doubt_scalar(check, found.constants[flat], (*path, "value"))
        return
    parameter = Builder(check, entry, path, flat).build(kind)
    if parameter is None or any(problem.severity == "error" for problem in check.problems[before:]):
        return
    if grid:
        parameter = _axis(check, entry, path, kind, parameter)
    if parameter is not None:
        found.searched.append(parameter)


def _kind(check: Checker, entry: Mapping[Any, Any], path: Path_) -> str | None:
    """The distribution, given or inferred, once the keys fit it."""
    kind = check.one_of(entry, path, "distribution", tuple(KEYS)) if "distribution" in entry else _inferred(entry)
    if kind is None:
        if "distribution" not in entry:
            _report_no_kind(check, entry, path)
        return None
    must, may = KEYS[kind]
    given = "distribution" in entry
    allowed = (*must, *may, "distribution")
    for key in entry:
        if key not in allowed:
            hint = did_you_mean(key, allowed) if isinstance(key, str) else ""
            if not given and kind in ("uniform", "int_uniform") and key == "q":
                hint = "with q, write the distribution: q_uniform"
            what = f"{check.name(path)}, a {kind} parameter," if key in _ALL_KEYS else check.name(path)
            check.error((*path, key), f"{what} has no key {key!r}", hint or f"it takes {', '.join(allowed)}", key=True)
    missing = [key for key in must if key not in entry]
    if missing:
        check.error(path, f"{check.name(path)} lacks {' and '.join(missing)}, which {kind} needs", key=True)
    return kind if not missing and all(key in allowed for key in entry) else None


def _inferred(entry: Mapping[Any, Any]) -> str | None:
    """The distribution of an entry without one: by `value`, `values`, or `min` and `max`, ints or not."""
    if "value" in entry:
        return "constant"
    if "values" in entry:
        return "categorical"
    if "min" in entry or "max" in entry:
        ends = [bare(entry[key]) for key in RANGE if key in entry]
        whole = all(isinstance(end, int) and not isinstance(end, bool) for end in ends)
        return "int_uniform" if whole else "uniform"
    return None


def _report_no_kind(check: Checker, entry: Mapping[Any, Any], path: Path_) -> None:
    unclear = [name for name in KEYS if name.endswith(("normal", "beta")) and not name.startswith("q_")]
    if laws := [name for name in unclear if entry and set(entry) <= {key for keys in KEYS[name] for key in keys}]:
        hint = f"write distribution: {' or '.join(laws)}"
        check.error(path, f"{check.name(path)} has no distribution, and its keys don't tell", hint, key=True)
        return
    message = f"{check.name(path)} gives no value, no values, and no min and max"
    strange = [key for key in entry if key not in _ALL_KEYS]
    if strange and all(isinstance(entry[key], Mapping) for key in strange):  # TOML: train.lr = {…}
        name = f"{path[-1]}.{strange[0]}"
        hint = f"to nest, put 'parameters' between: {path[-1]}.parameters.{strange[0]}; or quote the name: \"{name}\""
    elif strange and (near := did_you_mean(strange[0], _ALL_KEYS)):
        path, hint = (*path, strange[0]), near
    else:
        hint = "a parameter has one of them"
    check.error(path, message, hint, key=True)


def _axis(check: Checker, entry: Mapping[Any, Any], path: Path_, kind: str, parameter: Parameter) -> Axis | None:
    """A parameter as a grid goes through it."""
    if isinstance(parameter, WeightedChoice):
        where = (*path, "probabilities")
        check.warn(where, f"{check.name(where)} have no effect on a grid, which takes each value once", key=True)
        return Choice(parameter.name, parameter.values).distinct()
    if isinstance(parameter, Choice):
        return parameter.distinct()
    if isinstance(parameter, IntRange):
        return parameter
    if isinstance(parameter, Multiples):
        low, high, q = entry["min"], entry["max"], entry.get("q", 1)
        steps = Steps(parameter.name, low, q, steps_below(low, high, q))
        if not steps.size:
            check.error(path, f"{check.name(path)} has no value: a grid's q_uniform ends below max", key=True)
            return None
        if steps.at(steps.size) == high:
            hint = f"for {high} too, write max = {steps.at(steps.size + 1)}"
            check.warn((*path, "max"), f"{check.name(path)} goes up to {steps.at(steps.size - 1)} in a grid", hint)
        return steps
    hint = "give values, integers as min and max, or a q_uniform; or take method random or bayes"
    check.error(path, f"{check.name(path)} is continuous ({kind}), so a grid over it never ends", hint, key=True)
    return None
