"""Axes of numbers: positions between their ends, and round numbers as ticks."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ridgepole.sweeps.spec.objective import Goal

Tick = tuple[float, str]
"""A position from 0 to 1, and its label."""

_DECADES = 100.0
"""Least ratio of the 90th to the 10th percentile for a logarithmic axis of the objective."""
_FENCE = 4.0  # the end of a linear axis, in distances of the 75th percentile from the best


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis of numbers."""

    low: float
    high: float  # larger than `low`
    log: bool = False  # `low` is above 0 then
    whole: bool = False  # whether only integers are on it

    def place(self, value: float) -> float:
        """Return the position of a number, from 0 to 1; a number beyond an end is at that end."""
        if value <= self.low:
            return 0.0
        if value >= self.high:
            return 1.0
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        # Halved, so that the length of an axis of huge numbers does not overflow.
        return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)

    def ticks(self, count: int = 5) -> list[Tick]:
        """Return about so many ticks at round numbers."""
        numbers = self._log_numbers(count) if self.log else []
        if len(numbers) < 2:
            numbers = self._numbers(count)
        if len(numbers) < 2:
            numbers = [self.low, self.high]
        gap = min(abs(after - before) for before, after in pairwise(numbers))
        return [(self.place(number), format_number(number, 0.0 if self.log else gap)) for number in numbers]

    def _numbers(self, count: int) -> list[float]:
        rough = (self.high / 2 - self.low / 2) / count * 2
        if not 0 < rough < math.inf:
            return []
        size = 10.0 ** math.floor(math.log10(rough))
        step = size * next(factor for factor, end in ((1, 1.5), (2, 3.5), (5, 7.5), (10, 10)) if rough <= size * end)
        step = max(step, 1.0) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)] if last - first <= 4 * count else []

    def _log_numbers(self, count: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for factors in ((1,), (1, 3), (1, 2, 5)):
            stride = max(1, math.ceil((last - first) / count)) if factors == (1,) else 1
            numbers = [
                float(f"{factor}e{power}")
                for power in range(first, min(last, 308) + 1)
                if power % stride == 0
                for factor in factors
            ]
            inside = [number for number in numbers if self.low * 0.999 <= number <= self.high * 1.001]
            if len(inside) >= 3:
                return inside
        return inside


def around(values: Sequence[float], *, log: bool = False, whole: bool = False) -> Scale:
    """Return the scale of finite numbers, from the least to the largest, or around a single one."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    log = log and low > 0
    if low == high:
        room = abs(low) / 2 if low else 0.5
        low, high = (low / 2, high * 2) if log else (low - room, high + room)
        low, high = max(low, -sys.float_info.max), min(high, sys.float_info.max)
        if not low < high or (log and low <= 0):  # as small or as large as numbers get
            low, high, log = low - 1.0, high + 1.0, False
    return Scale(low=float(low), high=float(high), log=log, whole=whole)


def objective_scale(values: Iterable[float], goal: Goal, target: float | None) -> Scale:
    """Return the scale of the objective, on which its best values differ visibly.

    It is logarithmic if the values are positive and span decades. Otherwise values that are far
    worse than the rest are beyond its end.

    Args:
        values: Finite values.
        goal: Which of them are good.
        target: The target of the sweep; on the scale unless it is far away.
    """
    ordered = sorted(values, reverse=goal == "maximize")  # the best first
    if not ordered:
        return around([] if target is None else [target])
    if min(ordered) > 0 and _ratio(_at(ordered, 0.1), _at(ordered, 0.9)) >= _DECADES:
        return around(ordered, log=True)
    best = ordered[0]
    fence = _FENCE * abs(_at(ordered, 0.75) / 2 - best / 2)
    if fence > 0 and abs(ordered[-1] / 2 - best / 2) > 2 * fence:
        ordered = [value for value in ordered if abs(value / 2 - best / 2) <= fence]
    span = abs(ordered[-1] - best)
    if target is not None and min(abs(target - best), abs(target - ordered[-1])) <= 2 * span:
        ordered.append(target)
    return around(ordered)


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]


def _ratio(one: float, other: float) -> float:
    """Return the ratio of the larger to the smaller."""
    low, high = min(one, other), max(one, other)
    return high / low if low > high * 1e-300 else math.inf


def format_number(value: float, gap: float = 0.0) -> str:
    """Return a number as short text, with enough digits to differ from one that is `gap` away."""
    if not math.isfinite(value):
        return str(value)
    digits = 4
    if gap > 0 and value:
        digits = max(1, math.floor(math.log10(abs(value)) - math.log10(gap) + 1e-9) + 2)
    text = f"{value:.{min(digits, 15)}g}" if abs(value) > gap * 1e-6 else "0"
    mantissa, e, power = text.partition("e")
    if e and 0 <= int(power) < 6:
        return str(round(float(text)))
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(power)}" if e else mantissa
