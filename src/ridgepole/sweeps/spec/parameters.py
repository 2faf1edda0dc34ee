"""The `parameters` table of a sweep: the distribution of each parameter, and its checks.

The distributions, their defaults, and the distribution of an entry that names none are those of the
JSON schema in W&B's package `sweeps` (https://github.com/wandb/sweeps). `when` is Ridgepole's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Annotated, Any, NoReturn

from ridgepole.errors import did_you_mean
from ridgepole.sweeps.spec.checker import EXACT, Checker, KeyPath, Range, describe
from ridgepole.sweeps.spec.conditions import When, check_conditions
from ridgepole.sweeps.spec.distributions import Beta, LogNormal, decimal, quantise
from ridgepole.sweeps.spec.parameter_types import (
    Choice,
    FloatRange,
    Json,
    Parameter,
    Quantile,
    Steps,
    WeightedChoice,
    canonical,
    is_number,
    stored_as_is,
)
from ridgepole.sweeps.spec.space import Space

_RANGE = ("min", "max")
_MAX_EXPONENT = 700.0  # e**709 is the largest float, and e**-700 is well above the smallest
_FAR = 8.3  # no u that a trial can have is as many standard deviations away
_NUMBER_TEXT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")

_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
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
    "beta": ((), ("a", "b")),
    "q_beta": ((), ("a", "b", "q")),
}
"""The distributions; for each the keys that it must and may have."""

_OTHERS_NAMES = {
    "loguniform": "write log_uniform_values; min and max of log_uniform are exponents of e",
    "qloguniform": "write q_log_uniform_values; min and max of q_log_uniform are exponents of e",
    "choice": "write values alone, such as values: [16, 32]",
    "randint": "write int_uniform, whose max is included",
    "int": "write int_uniform",
    "float": "write uniform, or log_uniform_values",
}
"""The hint for a distribution's name in Optuna, Ray or Hyperopt."""

_ALL_KEYS = ("value", "values", "probabilities", "distribution", *_RANGE, "mu", "sigma", "a", "b", "q", "parameters")
_WHEN = "when"
_DEFAULTS = {"mu": 0, "sigma": 1, "q": 1, "a": 1, "b": 1}
_INTEGER = Annotated[int, Range(-EXACT, EXACT)]
_NUMBER = int | float
_NUMBERS: dict[str, Any] = {"q": Annotated[_NUMBER, Range(above=0)]} | dict.fromkeys(
    ("sigma", "a", "b"), Annotated[_NUMBER, Range(0)]
)
_SUM_TOLERANCE = 1e-5 + 1e-8  # of numpy.isclose, which W&B asks
_NAME_AT_WANDB = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class _InvalidEntry(Exception):  # noqa: N818 - never leaves this module
    """The entry has an error, which has been reported."""


@dataclass(slots=True)
class ParameterReader:
    """Reads the `parameters` table and the tables that are nested in it.

    Args:
        check: Takes the problems.
        method: The method of the sweep: every parameter of a grid must have finitely many values.
    """

    check: Checker
    method: object
    _searched: list[Parameter] = field(default_factory=list)
    _constants: dict[str, Json] = field(default_factory=dict)
    _paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _whens: list[When] = field(default_factory=list)

    def read(self, table: Any, path: KeyPath) -> Space:
        """Return the space of all parameters that are right."""
        if self.check.table(table, path):
            self._read(table, path, (), [])
        searched = {each.name: each for each in self._searched}
        conditions = check_conditions(self.check, self._whens, self._paths, searched, self._constants)
        return Space(self._searched, self._constants, self._paths, conditions)

    def _read(
        self,
        table: Mapping[str, Any],
        path: KeyPath,
        names: tuple[str, ...],
        whens: list[tuple[Mapping[str, Any], KeyPath]],
    ) -> None:
        check = self.check
        if not table:
            check.wrong(path, "is empty", "a sweep needs a parameter")
        for name, entry in table.items():
            where = (*path, name)
            if not name:
                check.error(where, f"{check.name(path)} has a parameter without a name", key=True)
            elif not isinstance(entry, Mapping):
                hint = "write { value = … } for a constant, { values = […] } for a choice, or { min = …, max = … }"
                check.wrong(where, f"must be a table, not {describe(entry)}", hint)
            else:
                if not _NAME_AT_WANDB.fullmatch(name):
                    check.warn(where, "is a name that W&B refuses", "it takes letters, digits, '_', '-' and '.'")
                own = list(whens)
                if _WHEN in entry and check.table(entry[_WHEN], (*where, _WHEN)):
                    own.append((entry[_WHEN], (*where, _WHEN)))
                entry = {key: value for key, value in entry.items() if key != _WHEN}  # noqa: PLW2901
                if "parameters" in entry:
                    check.known(entry, where, ("parameters",), f"{check.name(where)}, which nests parameters,")
                    if check.table(entry["parameters"], (*where, "parameters")):
                        self._read(entry["parameters"], (*where, "parameters"), (*names, name), own)
                else:
                    flat = ".".join((*names, name))
                    self._whens += [When(name=flat, table=when, path=at) for when, at in own]
                    self._add(entry, where, (*names, name))

    def _add(self, table: Mapping[str, Any], path: KeyPath, names: tuple[str, ...]) -> None:
        flat = ".".join(names)
        if flat in self._paths:
            hint = "one is nested, the other has a dot in its name"
            self.check.error(path, f"there are two parameters {flat!r}", hint, key=True)
            return
        self._paths[flat] = names
        try:
            entry = _Entry(self.check, table, path, flat)
            if entry.distribution == "constant":
                self._constants[flat] = table["value"]
                _lint(self.check, table["value"], (*path, "value"))
            else:
                built = entry.build()
                if self.method == "grid":
                    built = entry.in_grid(built)
                self._searched.append(stored_as_is(built) if self.method == "random" else built)
        except _InvalidEntry:
            pass


class _Entry:
    """One entry of the table, whose keys fit its distribution; _InvalidEntry where they don't.

    Every method raises _InvalidEntry after reporting an error.
    """

    def __init__(self, check: Checker, table: Mapping[str, Any], path: KeyPath, name: str) -> None:
        self.check, self.table, self.path, self.name = check, table, path, name
        self.distribution = self._find_distribution()
        must, may = _KEYS[self.distribution]
        before = check.errors
        owner = f"{check.name(path)}, a {self.distribution} parameter,"
        if "probabilities" in table and table.get("distribution") == "categorical":
            hint = "write categorical_w_probabilities, or leave distribution out"
            check.warn((*path, "distribution"), "has no probabilities at W&B, which refuses the parameter", hint)
        if "q" in table and "distribution" not in table and "min" in must:
            hint = "with q, write the distribution: q_uniform"
            check.error((*path, "q"), f"{owner} has no key 'q'", hint, key=True)
            may = ("q",)
        check.known(table, path, (*must, *may, "distribution"), owner)
        if missing := [key for key in must if key not in table]:
            message = f"{check.name(path)} lacks {' and '.join(missing)}, which {self.distribution} needs"
            check.error(path, message, key=True)
        if check.errors > before:
            raise _InvalidEntry

    def _find_distribution(self) -> str:
        """Return the distribution that the entry names, or that follows from its keys."""
        table = self.table
        if "distribution" in table:
            given = table["distribution"]
            hint = _OTHERS_NAMES.get(str(given).lower().replace("_", "").replace("-", ""), "")
            if self.check.word(tuple(_KEYS), given, (*self.path, "distribution"), hint) is None:
                raise _InvalidEntry
            return str(given)
        if "value" in table:
            return "constant"
        if "values" in table:
            return "categorical"
        ends = [table[key] for key in _RANGE if key in table]
        if not ends:
            self._report_no_distribution()
        return "int_uniform" if all(type(end) is int for end in ends) else "uniform"

    def _report_no_distribution(self) -> NoReturn:
        table, path, last = self.table, self.path, self.path[-1]
        name = self.check.name(path)
        message, hint = f"{name} gives no value, no values, and no min and max", "a parameter has one of them"
        strange = [key for key in table if key not in _ALL_KEYS]
        fitting = [
            each for each in ("normal", "log_normal", "beta") if table and set(table) <= set(sum(_KEYS[each], ()))
        ]
        if fitting:
            message = f"{name} has no distribution, and its keys don't tell which one is meant"
            hint = f"write distribution: {' or '.join(fitting)}"
        elif strange and all(isinstance(table[key], Mapping) for key in strange):
            # TOML: train.lr = {…}
            nested, quoted = f"{last}.parameters.{strange[0]}", f'"{last}.{strange[0]}"'
            hint = f"to nest, put 'parameters' between: {nested}; or quote the name: {quoted}"
        elif strange and (near := did_you_mean(strange[0], _ALL_KEYS)):
            path, hint = (*path, strange[0]), near
        self.check.error(path, message, hint, key=True)
        raise _InvalidEntry

    def _wrong(self, key: str, message: str, hint: str = "") -> NoReturn:
        self.check.wrong((*self.path, key), message, hint)
        raise _InvalidEntry

    # --- build

    def build(self) -> Parameter:
        """Return the parameter."""
        if self.distribution.startswith("categorical"):
            return self._choice()
        numbers = self._numbers()
        kind, q = self.distribution.removeprefix("q_"), numbers.get("q")
        if kind == "beta":
            return self._beta(numbers["a"], numbers["b"], q)
        if kind.endswith("normal"):
            return self._normal(numbers["mu"], numbers["sigma"], q)
        low, high = numbers["min"], numbers["max"]
        if low > high:
            self._wrong("min", f"is {low}, which is above max, {high}", "swap them")
        if low == high:
            self.check.warn(self.path, f"has the one value {low}, and W&B refuses that", "write value in place of min")
        if kind.endswith("log_uniform_values") and low <= 0:
            self._wrong("min", f"must be above 0 for {self.distribution}, not {low}", "a logarithm needs it")
        if kind.endswith("log_uniform"):
            low, high = self._powers(low, high)
        if q is not None and max(abs(low), abs(high)) / q > EXACT:
            self._wrong("q", f"is too small for numbers up to {high:.6g}")
        if "log" in kind:
            return FloatRange(self.name, float(low), float(high), log=True, q=q)
        if kind == "int_uniform":
            return self._integers(int(low), int(high))
        return FloatRange(self.name, float(low), float(high)) if q is None else self._steps(low, high, q)

    def _numbers(self) -> dict[str, int | float]:
        """Return the numbers of the entry, with their defaults."""
        found = {}
        for key in sum(_KEYS[self.distribution], ()):
            ends = _INTEGER if self.distribution == "int_uniform" else _NUMBER
            annotation = ends if key in _RANGE else _NUMBERS.get(key, _NUMBER)
            value, where = self.table.get(key, _DEFAULTS.get(key)), (*self.path, key)
            if annotation is _INTEGER and isinstance(value, float):  # which W&B refuses, too
                hint = f"write {value:.0f}" if value.is_integer() else ""
                self.check.wrong(where, f"must be an integer, not {value}", hint)
                raise _InvalidEntry
            found[key] = self.check.value(annotation, value, where)
        if None in found.values():
            raise _InvalidEntry
        return found

    def _integers(self, low: int, high: int) -> Steps:
        if (low, high) == (0, 1) and "distribution" not in self.table:
            message = "is 0 or 1 and nothing between, as both ends are integers"
            self.check.warn(self.path, message, "for anything between write 0.0 and 1.0")
        return Steps(self.name, low, 1, 0, high - low + 1)

    def _steps(self, low: int | float, high: int | float, q: int | float) -> Steps:
        first, last = round(low / q), round(high / q)
        if first == last and low != high:
            self.check.warn(self.path, f"has only one value, as q is {q}", "give a smaller q")
        return Steps(self.name, 0, q, first, last - first + 1, (low, high))

    def _powers(self, low: int | float, high: int | float) -> tuple[float, float]:
        """Return the ends of an entry that gives exponents of e."""
        kind = self.distribution
        if max(-low, high) > _MAX_EXPONENT:
            key = "max" if high > _MAX_EXPONENT else "min"
            message = f"is an exponent of e for {kind}, and {self.table[key]} is too far"
            self._wrong(key, message, f"{kind}_values takes values")
        ends = (math.exp(-high), math.exp(-low)) if kind.startswith("inv") else (math.exp(low), math.exp(high))
        message = f"takes exponents of e, so it goes from {ends[0]:.6g} to {ends[1]:.6g}; W&B advises against it"
        self.check.warn(self.path, message, f"{kind}_values takes the values themselves")
        return ends

    def _normal(self, mu: float, sigma: float, q: int | float | None) -> Parameter:
        log = "log" in self.distribution
        if log and abs(mu) + _FAR * sigma > _MAX_EXPONENT:
            key = "sigma" if "sigma" in self.table and _FAR * sigma > abs(mu) else "mu"
            self._wrong(key, "is too large: it is in the exponent of e")
        if sigma:
            return Quantile(self.name, LogNormal(mu, sigma) if log else NormalDist(mu, sigma), q)
        only: int | float = math.exp(mu) if log else float(mu)
        only = only if q is None else quantise(only, q)
        self.check.warn(self.path, f"has the one value {only}, as sigma is 0", "write value")
        return Choice(self.name, (only,))

    def _beta(self, a: float, b: float, q: int | float | None) -> Parameter:
        if not (a and b):
            self.check.warn(self.path, "gives only 0 and 1, as a or b is 0", "give both above 0")
        return Quantile(self.name, Beta(a, b), q)

    def _choice(self) -> Parameter:
        values, path = self.table["values"], (*self.path, "values")
        if not isinstance(values, list):
            self._wrong("values", f"must be an array, not {describe(values)}", "a single one is a 'value'")
        if not values:
            self._wrong("values", "is empty")
        first: dict[str, int] = {}
        for index, value in enumerate(values):
            where = (*path, index)
            _lint(self.check, value, where, among_numbers=any(map(is_number, values)))
            before = first.setdefault(canonical(value), index)
            if before != index:
                self.check.warn(where, f"is the same as [{before}]", "a grid takes it once", at_value=where)
        if "probabilities" not in self.table:
            return Choice(self.name, tuple(values))
        return WeightedChoice(self.name, tuple(values), self._probabilities(len(values)))

    def _probabilities(self, count: int) -> tuple[float, ...]:
        shares, before = self.table["probabilities"], self.check.errors
        if not isinstance(shares, list):
            self._wrong("probabilities", f"must be an array, not {describe(shares)}")
        for index, share in enumerate(shares):
            where = (*self.path, "probabilities", index)
            if not is_number(share):
                self.check.error(where, f"a probability must be a number, not {describe(share)}")
            elif share < 0:
                self.check.error(where, f"a probability can't be negative, as {share} is")
        if len(shares) != count:
            self._wrong("probabilities", f"has {len(shares)} entries for {count} values")
        if self.check.errors > before:
            raise _InvalidEntry
        total = math.fsum(shares)
        if abs(total - 1) > _SUM_TOLERANCE:
            self._wrong("probabilities", f"sums to {total:.6g}, not to 1")
        return tuple(share / total for share in shares)

    # --- grid

    def in_grid(self, parameter: Parameter) -> Parameter:
        """Return a parameter with the values that a grid takes of it."""
        check, path = self.check, self.path
        if isinstance(parameter, WeightedChoice):
            message = "have no effect on a grid, which takes each value once; W&B refuses them there"
            check.warn((*path, "probabilities"), message)
            return Choice(parameter.name, parameter.values).distinct()
        if isinstance(parameter, Choice):
            return parameter.distinct()
        if isinstance(parameter, Steps):
            return parameter if self.distribution == "int_uniform" else self._steps_in_grid(parameter.q)
        hint = "give values, integers as min and max, or a q_uniform; or take method random or bayes"
        message = f"{check.name(path)} is continuous ({self.distribution}), so a grid over it never ends"
        check.error(path, message, hint, key=True)
        raise _InvalidEntry

    def _steps_in_grid(self, q: int | float) -> Steps:
        """Return min, min + q, min + 2q, … below max; 0.3 is three steps of 0.1 from 0."""
        low, high = self.table["min"], self.table["max"]
        count = math.ceil((decimal(high) - decimal(low)) / decimal(q))
        if not count:
            self.check.error(
                self.path, f"{self.check.name(self.path)} has no value: a grid's q_uniform ends below max", key=True
            )
            raise _InvalidEntry
        steps = Steps(self.name, low, q, 0, count)
        if steps.at(count) == high:
            hint = f"for {high} too, write max = {steps.at(count + 1)}"
            message = f"goes up to {steps.at(count - 1)} in a grid"
            self.check.warn(self.path, message, hint, at_value=(*self.path, "max"))
        return steps


def _lint(check: Checker, value: Json, path: KeyPath, *, among_numbers: bool = False) -> None:
    """Warn of a value that looks as if another type was meant."""
    word, hint = value.lower() if isinstance(value, str) else "", "leave the quotes out"
    if path in check.hints:
        check.warn(path, "may not be what was meant", check.hints[path], at_value=path)
    elif _NUMBER_TEXT.fullmatch(word) and (among_numbers or "e" in word):
        check.warn(path, f"is the text {value!r}, not a number", hint, at_value=path)
    elif word in ("null", "none", "true", "false"):
        hint = "TOML writes { null = true }, YAML and JSON write null" if word[0] == "n" else hint
        check.warn(path, f"is the text {value!r}", hint, at_value=path)
    elif among_numbers and isinstance(value, bool):
        check.warn(path, f"is the boolean {describe(value)} among numbers", at_value=path)
