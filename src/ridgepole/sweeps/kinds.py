"""The kinds of parameters that a sweep searches, and how Optuna stores what it draws of each.

Optuna knows uniform integers, uniform or log-uniform floats, and choices of simple values. Everything else is
expressed in these, so that every sampler can search it: a choice of any JSON values by its index, a normal law by a
u in (0, 1) that goes through the inverse of its distribution function. What Optuna stores is therefore an encoding;
`Parameter.decode` gives the values that a trial is run with.
"""

from __future__ import annotations

import copy
import json
import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

from ridgepole.sweeps.laws import Law, multiple, quantise

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

Json: TypeAlias = Any
"""What JSON can hold: None, bool, int, float, str, and lists and dicts of these."""

_EDGE = 2.0**-53
"""How far u keeps away from 0 and 1, where the inverse of a distribution function may be infinite."""


def canonical(value: Json) -> str:
    """A text that two values share only if they are the same JSON, types included: 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Parameter(ABC):
    """A parameter that is searched.

    Attributes:
        name: Its flat name: nested names are joined by dots.
    """

    name: str

    @abstractmethod
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""

    @abstractmethod
    def decode(self, stored: Any) -> Json:
        """The value that stands for what Optuna has drawn."""

    @abstractmethod
    def encode(self, value: Json) -> Any:
        """Something that `decode` turns into this value; ValueError where nothing does."""

    def settle(self, value: Json) -> Json:
        """A value that JSON has carried, where 1.0 may have become 1 and back; one that is none stays as it is."""
        others: list[Json] = []
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            others = [float(value)] if isinstance(value, int) else [int(value)] if value.is_integer() else []
        for each in [value, *others]:
            try:
                mine = self.decode(self.encode(each))
            except ValueError:
                continue
            return mine if mine == each else each  # a law's inverse may leave dust in the last digits
        return value

    def suggest(self, trial: optuna.trial.BaseTrial) -> Json:
        """The value for a trial."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        law = self.distribution()
        if isinstance(law, IntDistribution):
            return self.decode(trial.suggest_int(self.name, law.low, law.high))
        if isinstance(law, FloatDistribution):
            return self.decode(trial.suggest_float(self.name, law.low, law.high, log=law.log))
        assert isinstance(law, CategoricalDistribution)
        return self.decode(trial.suggest_categorical(self.name, law.choices))

    def _refuse(self, value: Json) -> ValueError:
        return ValueError(f"{value!r} is no value of the parameter {self.name!r}")


@dataclass(frozen=True, slots=True)
class Axis(Parameter):
    """A parameter of finitely many values in an order, as a grid needs it; Optuna stores the position."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many values there are."""

    @abstractmethod
    def at(self, position: int) -> Json:
        """The value at a position, counted from 0."""

    @abstractmethod
    def position(self, value: Json) -> int | None:
        """Where a value stands; None where it is none of them."""

    def decode(self, stored: Any) -> Json:
        """The value at the stored position."""
        return self.at(int(stored))

    def place(self, value: Json) -> int:
        """The position of a value; ValueError where it is none."""
        position = self.position(value)
        if position is None:
            raise self._refuse(value)
        return position

    def encode(self, value: Json) -> int:
        """The position of a value."""
        return self.place(value)


@dataclass(frozen=True, slots=True)
class Choice(Axis):
    """`categorical`: one of several JSON values, each as likely as the others.

    Attributes:
        values: The values.
    """

    values: tuple[Json, ...]
    _positions: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions: dict[str, int] = {}
        for index, value in enumerate(self.values):
            positions.setdefault(canonical(value), index)
        object.__setattr__(self, "_positions", positions)

    @property
    def size(self) -> int:
        """How many values there are, repeated ones included."""
        return len(self.values)

    def at(self, position: int) -> Json:
        """The value at a position; a list or a dict is the caller's own."""
        return copy.deepcopy(self.values[position])

    def position(self, value: Json) -> int | None:
        """Where a value stands, compared by its JSON text."""
        try:
            return self._positions.get(canonical(value))
        except (TypeError, ValueError):  # no JSON
            return None

    def distribution(self) -> BaseDistribution:
        """A choice between the indexes."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(range(self.size))

    def distinct(self) -> Choice:
        """The same choice with each value once."""
        return Choice(self.name, tuple(self.values[index] for index in self._positions.values()))


@dataclass(frozen=True, slots=True)
class WeightedChoice(Parameter):
    """`categorical` with `probabilities`: Optuna stores u, which falls into the value's share of [0, 1].

    Attributes:
        values: The values.
        probabilities: How likely each is; they sum to 1.
    """

    values: tuple[Json, ...]
    probabilities: tuple[float, ...]

    def distribution(self) -> BaseDistribution:
        """A float between 0 and 1."""
        return _unit()

    def decode(self, stored: Any) -> Json:
        """The value whose share u falls into."""
        ends = list(accumulate(self.probabilities))
        index = bisect_right(ends, float(stored))
        if index == len(ends):  # the sum of the probabilities may be a hair below 1
            index = max(i for i, share in enumerate(self.probabilities) if share > 0)
        return copy.deepcopy(self.values[index])

    def encode(self, value: Json) -> float:
        """The middle of a value's share."""
        start = 0.0
        for each, share in zip(self.values, self.probabilities, strict=True):
            if share > 0 and canonical(each) == canonical(value):
                return start + share / 2
            start += share
        raise self._refuse(value)


@dataclass(frozen=True, slots=True)
class IntRange(Axis):
    """`int_uniform`: every integer from `low` to `high`, both included; Optuna stores it as it is."""

    low: int
    high: int

    @property
    def size(self) -> int:
        """How many integers there are."""
        return self.high - self.low + 1

    def at(self, position: int) -> int:
        """The integer at a position."""
        return self.low + position

    def position(self, value: Json) -> int | None:
        """Where an integer stands; 3.0 counts as 3."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
            return None
        return int(value) - self.low if self.low <= value <= self.high else None

    def distribution(self) -> BaseDistribution:
        """The integers."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high)

    def decode(self, stored: Any) -> int:
        """The integer itself."""
        return int(stored)

    def encode(self, value: Json) -> int:
        """The integer itself."""
        return self.at(super(IntRange, self).encode(value))


@dataclass(frozen=True, slots=True)
class Steps(Axis):
    """`q_uniform` in a grid: `low`, `low + q`, `low + 2q`, … below the end."""

    low: int | float
    q: int | float
    count: int

    @property
    def size(self) -> int:
        """How many steps there are."""
        return self.count

    def at(self, position: int) -> int | float:
        """The value at a step, without the dust of adding floats up."""
        return multiple(position, self.q, self.low)

    def position(self, value: Json) -> int | None:
        """The step at which a value stands."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        step = round((value - self.low) / self.q)
        return step if 0 <= step < self.count and self.at(step) == value else None

    def distribution(self) -> BaseDistribution:
        """The numbers of the steps."""
        from optuna.distributions import IntDistribution

        return IntDistribution(0, self.count - 1)


@dataclass(frozen=True, slots=True)
class Multiples(Parameter):
    """`q_uniform`: k * q for an integer k from round(min / q) to round(max / q), each as likely as the others."""

    first: int
    last: int
    q: int | float

    def distribution(self) -> BaseDistribution:
        """The integers k."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.first, self.last)

    def decode(self, stored: Any) -> int | float:
        """The multiple of q: an int where q is one."""
        return multiple(int(stored), self.q)

    def encode(self, value: Json) -> int:
        """The k of a value."""
        k = round(float(value) / self.q)
        if not self.first <= k <= self.last or self.decode(k) != value:
            raise self._refuse(value)
        return k


@dataclass(frozen=True, slots=True)
class FloatRange(Parameter):
    """`uniform` and the `log_uniform` family: a float between `low` and `high`, uniform itself or in its logarithm.

    Attributes:
        low: The smallest value.
        high: The largest value.
        log: Whether the logarithm is uniform.
        q: Where given, what was drawn is rounded to a multiple of it.
    """

    low: float
    high: float
    log: bool = False
    q: int | float | None = None

    def distribution(self) -> BaseDistribution:
        """The floats, before they are rounded."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log)

    def decode(self, stored: Any) -> int | float:
        """The float itself, or the multiple of q next to it."""
        return float(stored) if self.q is None else quantise(float(stored), self.q)

    def encode(self, value: Json) -> float:
        """The value itself; one that rounding has moved out of the range comes from the end next to it."""
        stored = min(max(float(value), self.low), self.high)
        if self.decode(stored) != value:
            raise self._refuse(value)
        return stored


@dataclass(frozen=True, slots=True)
class Quantile(Parameter):
    """The `normal`, `log_normal` and `beta` families: a u in (0, 1) and the inverse distribution function of the law.

    Attributes:
        law: The law.
        q: Where given, the value is rounded to a multiple of it.
    """

    law: Law
    q: int | float | None = None

    def distribution(self) -> BaseDistribution:
        """A float between 0 and 1, neither included."""
        return _unit()

    def decode(self, stored: Any) -> int | float:
        """The value below which a share u of the law lies."""
        value = self.law.inverse(float(stored))
        return value if self.q is None else quantise(value, self.q)

    def encode(self, value: Json) -> float:
        """The share of the law that lies below a value."""
        stored = min(max(self.law.share(float(value)), _EDGE), 1 - _EDGE)
        decoded = self.decode(stored)
        if abs(decoded - value) > (1e-6 * (abs(value) + 1) if self.q is None else 0):
            raise self._refuse(value)
        return stored


def _unit() -> BaseDistribution:
    from optuna.distributions import FloatDistribution

    return FloatDistribution(_EDGE, 1 - _EDGE)
