"""Makes one parameter of its entry in the `parameters` table, once the keys are known to fit its distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ridgepole.sweeps.checker import EXACT, Checker, plain, shown
from ridgepole.sweeps.doubts import doubt
from ridgepole.sweeps.kinds import Choice, FloatRange, IntRange, Multiples, Parameter, Quantile, WeightedChoice
from ridgepole.sweeps.laws import Beta, Law, LogNormal, Normal
from ridgepole.sweeps.reading import Path_

RANGE = ("min", "max")
_MAX_EXPONENT = 700.0  # e**709 is the largest float, and e**-700 is well above the smallest
_FAR = 8.3  # no u that a trial can have is as many standard deviations away


class Builder:
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
            ends = [self.check.integer(self.entry, self.path, key, -EXACT, EXACT) for key in RANGE]
        else:
            ends = [self.check.number(self.entry, self.path, key) for key in RANGE]  # type: ignore[misc]
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
        if all(0 < self.entry[key] <= 1 for key in RANGE):
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
        doubt(self.check, values, where)
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
