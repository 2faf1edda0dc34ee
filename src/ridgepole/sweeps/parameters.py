"""The `parameters` table of a sweep: which law each parameter has, and everything that can be wrong with it.

Laws, defaults, and how the law follows from the keys where `distribution` is left out, are those of W&B's page "Sweep
configuration options" (https://docs.wandb.ai/models/sweeps/sweep-config-keys); that page has no `beta`, whose `a` and
`b` are the usual ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ridgepole.errors import did_you_mean
from ridgepole.sweeps.checker import EXACT, Checker, bare, plain, shown
from ridgepole.sweeps.laws import Beta, Law, LogNormal, Normal, steps_below
from ridgepole.sweeps.reading import Path_
from ridgepole.sweeps.space import (
    Axis,
    Choice,
    FloatRange,
    IntRange,
    Json,
    Multiples,
    Parameter,
    Quantile,
    Space,
    Steps,
    WeightedChoice,
    canonical,
)

_RANGE = ("min", "max")
KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ("probabilities",)),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (_RANGE, ()),
    "uniform": (_RANGE, ()),
    "q_uniform": (_RANGE, ("q",)),
    "log_uniform": (_RANGE, ()),
    "log_uniform_values": (_RANGE, ()),
    "q_log_uniform": (_RANGE, ("q",)),
    "q_log_uniform_values": (_RANGE, ("q",)),
    "inv_log_uniform": (_RANGE, ()),
    "inv_log_uniform_values": (_RANGE, ()),
    "normal": ((), ("mu", "sigma")),
    "q_normal": ((), ("mu", "sigma", "q")),
    "log_normal": ((), ("mu", "sigma")),
    "q_log_normal": ((), ("mu", "sigma", "q")),
    "beta": (("a", "b"), ()),
    "q_beta": (("a", "b"), ("q",)),
}
"""The distributions; for each the keys that it must and may have."""

_ALL_KEYS = ("value", "values", "probabilities", "distribution", *_RANGE, "mu", "sigma", "a", "b", "q", "parameters")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_MAX_EXPONENT = 700.0  # e**709 is the largest float, and e**-700 is well above the smallest
_FAR = 8.3  # no u that a trial can have is as many standard deviations away


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
        _doubt_scalar(check, found.constants[flat], (*path, "value"))
        return
    parameter = _Builder(check, entry, path, flat).build(kind)
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
        ends = [bare(entry[key]) for key in _RANGE if key in entry]
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


class _Builder:
    """Makes one parameter of its entry."""

    def __init__(self, check: Checker, entry: Mapping[Any, Any], path: Path_, name: str) -> None:
        self.check = check
        self.entry = entry
        self.path = path
        self.name = name

    def build(self, kind: str) -> Parameter | None:
        """The parameter; None where something is wrong with it."""
        if kind.startswith("categorical"):
            return self._choice()
        q = self._q() if kind.startswith("q_") else None
        if kind.startswith("q_") and q is None:
            return None
        if kind.endswith(("normal", "beta")):
            law = self._beta() if kind.endswith("beta") else self._normal(log="log" in kind)
            return Quantile(self.name, law, q) if law else None
        ends = self._ends(whole=kind == "int_uniform")
        if ends is None:
            return None
        if kind == "int_uniform":
            return self._int(*ends)
        if kind == "q_uniform":
            assert q is not None
            return self._multiples(*ends, q)
        if kind == "uniform":
            return FloatRange(self.name, float(ends[0]), float(ends[1]))
        return self._log(kind, *ends, q)

    def _q(self) -> int | float | None:
        if "q" not in self.entry:
            return 1
        q = self.check.number(self.entry, self.path, "q")
        if q is not None and q <= 0:
            self._wrong("q", f"must be above 0, not {q}")
            return None
        return q

    def _wrong(self, key: str, message: str, hint: str = "") -> None:
        where = (*self.path, key)
        self.check.error(where, f"{self.check.name(where)} {message}", hint)

    def _ends(self, *, whole: bool) -> tuple[int | float, int | float] | None:
        if whole:
            ends = [self.check.integer(self.entry, self.path, key, -EXACT, EXACT) for key in _RANGE]
        else:
            ends = [self.check.number(self.entry, self.path, key) for key in _RANGE]  # type: ignore[misc]
        low, high = ends
        if low is None or high is None:
            return None
        if low > high:
            self._wrong("min", f"is {low}, which is above max, {high}", "swap them")
            return None
        return low, high

    def _int(self, low: int | float, high: int | float) -> IntRange:
        if (low, high) == (0, 1) and "distribution" not in self.entry:
            message = f"{self.check.name(self.path)} is 0 or 1 and nothing between, as both ends are integers"
            self.check.warn(self.path, message, "for anything between write 0.0 and 1.0", key=True)
        return IntRange(self.name, int(low), int(high))

    def _multiples(self, low: int | float, high: int | float, q: int | float) -> Multiples | None:
        if max(abs(low), abs(high)) / q > EXACT:
            self._wrong("q", f"is too small for numbers up to {high}")
            return None
        first, last = round(low / q), round(high / q)
        if first == last and low != high:
            message = f"{self.check.name(self.path)} has only one value, as q is {q}"
            self.check.warn(self.path, message, "give a smaller q", key=True)
        return Multiples(self.name, first, last, q)

    def _log(self, kind: str, low: int | float, high: int | float, q: int | float | None) -> FloatRange | None:
        if kind.endswith("_values"):
            if low <= 0:
                self._wrong("min", f"must be above 0 for {kind}, not {low}", "a logarithm needs it")
                return None
            return self._rounded(FloatRange(self.name, float(low), float(high), log=True, q=q))
        if max(-low, high) > _MAX_EXPONENT:
            key = "max" if high > _MAX_EXPONENT else "min"
            self._wrong(
                key, f"is an exponent of e for {kind}, and {self.entry[key]} is too far", f"{kind}_values takes values"
            )
            return None
        low, high = (math.exp(-high), math.exp(-low)) if kind.startswith("inv") else (math.exp(low), math.exp(high))
        if all(0 < self.entry[key] <= 1 for key in _RANGE):
            message = f"{self.check.name(self.path)} takes exponents of e, so it goes from {low:.6g} to {high:.6g}"
            self.check.warn(self.path, message, f"{kind}_values takes the values themselves", key=True)
        return self._rounded(FloatRange(self.name, low, high, log=True, q=q))

    def _rounded(self, found: FloatRange) -> FloatRange | None:
        if found.q is not None and found.high / found.q > EXACT:
            self._wrong("q", f"is too small for numbers up to {found.high:.6g}")
            return None
        return found

    def _normal(self, *, log: bool) -> Law | None:
        mu = self.check.number(self.entry, self.path, "mu") if "mu" in self.entry else 0
        sigma = self.check.number(self.entry, self.path, "sigma") if "sigma" in self.entry else 1
        if mu is None or sigma is None:
            return None
        if sigma <= 0:
            self._wrong("sigma", f"must be above 0, not {sigma}")
            return None
        if log and abs(mu) + _FAR * sigma > _MAX_EXPONENT:
            key = "sigma" if "sigma" in self.entry and _FAR * sigma > abs(mu) else "mu"
            self._wrong(key, "is too large: it is in the exponent of e")
            return None
        return (LogNormal if log else Normal)(float(mu), float(sigma))

    def _beta(self) -> Law | None:
        shape = {key: self.check.number(self.entry, self.path, key) for key in ("a", "b")}
        for key, value in shape.items():
            if value is not None and value <= 0:
                self._wrong(key, f"must be above 0, not {value}")
                shape[key] = None
        a, b = shape.values()
        return Beta(float(a), float(b)) if a is not None and b is not None else None

    def _choice(self) -> Parameter | None:
        where = (*self.path, "values")
        values = plain(self.check, self.entry["values"], where)
        if not isinstance(values, list):
            self._wrong("values", f"must be an array, not {shown(values)}", "a single one is a 'value'")
            return None
        if not values:
            self._wrong("values", "is empty")
            return None
        _doubt(self.check, values, where)
        if "probabilities" not in self.entry:
            return Choice(self.name, tuple(values))
        shares = self._shares(len(values))
        return WeightedChoice(self.name, tuple(values), shares) if shares else None

    def _shares(self, count: int) -> tuple[float, ...] | None:
        where = (*self.path, "probabilities")
        shares = plain(self.check, self.entry["probabilities"], where)
        if not isinstance(shares, list):
            self._wrong("probabilities", f"must be an array, not {shown(shares)}")
            return None
        wrong = False
        for index, share in enumerate(shares):
            if isinstance(share, bool) or not isinstance(share, int | float):
                self.check.error((*where, index), f"a probability must be a number, not {shown(share)}")
                wrong = True
            elif share < 0:
                self.check.error((*where, index), f"a probability can't be negative, as {share} is")
                wrong = True
        if len(shares) != count:
            self._wrong("probabilities", f"has {len(shares)} entries for {count} values")
        elif not wrong and abs(math.fsum(shares) - 1) > 1e-6:
            self._wrong("probabilities", f"sums to {math.fsum(shares):.6g}, not to 1")
        elif not wrong:
            total = math.fsum(shares)
            return tuple(share / total for share in shares)
        return None


def _doubt(check: Checker, values: list[Json], path: Path_) -> None:
    """Warns of values that look as if another type was meant, and of repeated ones."""
    numbers = any(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        where = (*path, index)
        if not _doubt_scalar(check, value, where, numbers=numbers) and numbers and isinstance(value, bool):
            check.warn(where, f"{check.name(where)} is the boolean {shown(value)} among numbers")
        text = canonical(value)
        if text in first:
            check.warn(where, f"{check.name(where)} is the same as [{first[text]}]", "a grid takes it once")
        first.setdefault(text, index)


def _doubt_scalar(check: Checker, value: Json, path: Path_, *, numbers: bool = False) -> bool:
    """Warns of a single value that looks as if another type was meant; says whether it did."""
    if path in check.odd:
        check.warn(path, f"{check.name(path)} may not be what was meant", check.odd[path])
    elif isinstance(value, str) and _NUMBER.fullmatch(value) and (numbers or "e" in value.lower()):
        check.warn(path, f"{check.name(path)} is the text {value!r}, not a number", "leave the quotes out")
    elif isinstance(value, str) and value.lower() in ("null", "none", "true", "false"):
        word = value.lower()
        hint = "leave the quotes out" if word in ("true", "false") else "TOML has no null; YAML and JSON write null"
        check.warn(path, f"{check.name(path)} is the text {value!r}", hint)
    else:
        return False
    return True
