"""Parameters that a sweep searches, and their counterparts in Optuna.

Optuna stores the values of a trial as they are wherever it has the distribution: integers, floats,
logarithmic floats, steps and choices. It has no normal, log-normal and beta distributions, no
choice with probabilities, and no rounding of logarithmic floats. A random sweep draws these itself
(`Parameter.draw`) and stores them as they are, too. For a model they are stored as the number that
was drawn before it was transformed, so that every sampler of Optuna can search them.
`Parameter.decode` gives the value that a trial is run with.
"""

from __future__ import annotations

import copy
import json
import math
import random
from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from itertools import accumulate
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, TypeAlias

from ridgepole.sweeps.spec.distributions import Beta, LogNormal, decimal, multiple, quantise

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

Json: TypeAlias = Any
"""A value that JSON can hold: None, bool, int, float, str, and lists and dicts of these."""

_EDGE = 2.0**-53
"""The distance of u from 0 and 1, where a quantile may be infinite."""
_MOST_STEPS = 10**7
"""With more steps, rounding errors make Optuna refuse floats that are a step."""


def canonical(value: Json) -> str:
    """Return a text that only equal JSON shares, types included: 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def is_number(value: object) -> bool:
    """Return whether a value is a number; a boolean is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Parameter(ABC):
    """A parameter that is searched.

    Attributes:
        name: Its flat name: nested names are joined by dots.
    """

    name: str

    @abstractmethod
    def optuna_distribution(self) -> BaseDistribution:
        """Return the distribution that Optuna draws from."""

    @abstractmethod
    def decode(self, stored: Any) -> Json:
        """Return the value that stands for what Optuna has drawn."""

    @abstractmethod
    def encode(self, value: Json) -> Any:
        """Return what `decode` turns into this value.

        Raises:
            ValueError: If the parameter can't have this value.
        """

    def draw(self, rng: random.Random) -> Any:
        """Return what Optuna stores for a value that is drawn by the law of the parameter."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        drawn = self.optuna_distribution()
        if isinstance(drawn, CategoricalDistribution):
            return rng.choice(drawn.choices)
        assert isinstance(drawn, IntDistribution | FloatDistribution)
        if drawn.step is not None:
            return multiple(rng.randint(0, round((drawn.high - drawn.low) / drawn.step)), drawn.step, drawn.low)
        if drawn.log:
            value = math.exp(rng.uniform(math.log(drawn.low), math.log(drawn.high)))
            return min(max(value, drawn.low), drawn.high)  # exp and log round
        return rng.uniform(drawn.low, drawn.high)

    def restore_type(self, value: Json) -> Json:
        """Return a value that JSON has carried, where 1.0 may have become 1, with its own type.

        A value that this parameter can't have stays as it is.
        """
        others: list[Json] = []
        if is_number(value) and math.isfinite(value):
            others = [float(value)] if isinstance(value, int) else [int(value)] if value.is_integer() else []
        for each in [value, *others]:
            try:
                decoded = self.decode(self.encode(each))
            except ValueError:
                continue
            return decoded if decoded == each else each  # a quantile may differ in the last digits
        return value

    def suggest(self, trial: optuna.trial.BaseTrial) -> Json:
        """Draw the value for a trial."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        drawn = self.optuna_distribution()
        if isinstance(drawn, IntDistribution):
            return self.decode(trial.suggest_int(self.name, drawn.low, drawn.high, step=drawn.step))
        if isinstance(drawn, FloatDistribution):
            stored = trial.suggest_float(self.name, drawn.low, drawn.high, step=drawn.step, log=drawn.log)
            return self.decode(stored)
        assert isinstance(drawn, CategoricalDistribution)
        return self.decode(trial.suggest_categorical(self.name, drawn.choices))

    def _not_a_value(self, value: Json) -> ValueError:
        return ValueError(f"{value!r} is not a value of the parameter {self.name!r}")


@dataclass(frozen=True, slots=True)
class FiniteParameter(Parameter):
    """A parameter of finitely many values in an order, as a grid needs it."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of values."""

    @abstractmethod
    def at(self, position: int) -> Json:
        """Return the value at a position, counted from 0."""

    @abstractmethod
    def position(self, value: Json) -> int:
        """Return the position of a value; errors as `encode`."""


@dataclass(frozen=True, slots=True)
class Choice(FiniteParameter):
    """`categorical`: one of several JSON values, each as likely as the others.

    Optuna stores the value itself. Where it can't tell values apart, such as 1 and true, or does
    not take one, such as a list, it stores their JSON texts.
    """

    values: tuple[Json, ...]
    _positions: dict[str, int] = field(init=False, repr=False, compare=False)
    _plain: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions: dict[str, int] = {}
        for index, value in enumerate(self.values):
            positions.setdefault(canonical(value), index)
        plain = all(value is None or isinstance(value, str | bool | int | float) for value in self.values)
        object.__setattr__(self, "_positions", positions)
        object.__setattr__(self, "_plain", plain and len(set(self.values)) == len(positions))

    @property
    def size(self) -> int:
        """The number of values, repeated ones included."""
        return len(self.values)

    def at(self, position: int) -> Json:
        """Return the value at a position; a list or a dict is a copy."""
        return copy.deepcopy(self.values[position])

    def position(self, value: Json) -> int:
        """Return the position of a value, compared by its JSON text."""
        try:
            return self._positions[canonical(value)]
        except (KeyError, TypeError, ValueError):  # another value, or not JSON
            raise self._not_a_value(value) from None

    def optuna_distribution(self) -> BaseDistribution:
        """Return a choice between the values, or their texts."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values if self._plain else [canonical(value) for value in self.values])

    def decode(self, stored: Any) -> Json:
        """Return the value itself, or the one with the stored text."""
        return self.at(self._positions[canonical(stored) if self._plain else stored])

    def encode(self, value: Json) -> Json:
        """Return the value itself, or its text."""
        position = self.position(value)
        return self.values[position] if self._plain else canonical(value)

    def distinct(self) -> Choice:
        """Return the same choice with each value once."""
        return Choice(self.name, tuple(self.values[index] for index in self._positions.values()))


@dataclass(frozen=True, slots=True)
class Steps(FiniteParameter):
    """`int_uniform` and `q_uniform`: `start + k * q` for `count` integers k from `first` on.

    They are ints where `start` and `q` are ints. A model may take each. All are equally likely in a
    random sweep, unless `rounded` has the range that is drawn from before rounding: of `q_uniform`,
    whose ends are then rarer than the others, as at W&B.
    """

    start: int | float
    q: int | float
    first: int
    count: int
    rounded: tuple[float, float] | None = None

    @property
    def size(self) -> int:
        """The number of steps."""
        return self.count

    @property
    def _exact(self) -> bool:
        """True if Optuna counts the same steps; with floats of 17 digits it loses the last one."""
        if isinstance(self.start, int) and isinstance(self.q, int):
            return True
        steps = (decimal(self.start) + (self.first + k) * decimal(self.q) for k in (0, self.count - 1))
        return self.count <= _MOST_STEPS and all(step == decimal(float(step)) for step in steps)

    def at(self, position: int) -> int | float:
        """Return the value at a step, computed in decimals."""
        return multiple(self.first + position, self.q, self.start)

    def position(self, value: Json) -> int:
        """Return the step of a value; 3.0 counts as 3."""
        position = self._nearest(value) if is_number(value) and math.isfinite(value) else -1
        if not 0 <= position < self.count or self.at(position) != value:
            raise self._not_a_value(value)
        return position

    def draw(self, rng: random.Random) -> Any:
        """Return a step that is drawn by the law of the parameter."""
        if self.rounded is None:
            return Parameter.draw(self, rng)
        return self.encode(quantise(rng.uniform(*self.rounded), self.q))

    def _nearest(self, value: int | float) -> int:
        return round((decimal(value) - decimal(self.start)) / decimal(self.q)) - self.first

    def optuna_distribution(self) -> BaseDistribution:
        """Return the steps, or their numbers where Optuna would count others."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if not self._exact:
            return IntDistribution(self.first, self.first + self.count - 1)
        low, high = self.at(0), self.at(self.count - 1)
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, step=int(self.q))
        return FloatDistribution(low, high, step=float(self.q))

    def decode(self, stored: Any) -> int | float:
        """Return the step next to what is stored, without Optuna's rounding errors."""
        number = stored if isinstance(stored, int) else float(stored)
        return self.at(self._nearest(number) if self._exact else int(number) - self.first)

    def encode(self, value: Json) -> int | float:
        """Return the value itself, or the number of its step."""
        position = self.position(value)
        return self.at(position) if self._exact else self.first + position


@dataclass(frozen=True, slots=True)
class FloatRange(Parameter):
    """`uniform` and the `log_uniform` family: a float from `low` to `high`.

    It, or with `log` its logarithm, is uniform.
    Where `q` is given, the value is rounded to a multiple of it, and Optuna stores it as it was
    before, unless `as_is`.
    """

    low: float
    high: float
    log: bool = False
    q: int | float | None = None
    as_is: bool = False

    def optuna_distribution(self) -> BaseDistribution:
        """Return the floats, before they are rounded unless `as_is`."""
        from optuna.distributions import FloatDistribution

        if not self.as_is:
            return FloatDistribution(self.low, self.high, log=self.log)
        low, high = self.decode(self.low), self.decode(self.high)
        return FloatDistribution(low, high, log=self.log and low > 0)

    def draw(self, rng: random.Random) -> Any:
        """Return a float that is drawn by the law of the parameter."""
        if not self.as_is:
            return Parameter.draw(self, rng)
        return float(self.decode(replace(self, as_is=False).draw(rng)))

    def decode(self, stored: Any) -> int | float:
        """Return the float itself, or the multiple of q next to it."""
        return float(stored) if self.q is None else quantise(float(stored), self.q)

    def encode(self, value: Json) -> float:
        """Return the value itself, or the end that was rounded out of the range."""
        stored = min(max(float(value), self.low), self.high)
        if self.decode(stored) != value:
            raise self._not_a_value(value)
        return float(value) if self.as_is else stored


@dataclass(frozen=True, slots=True)
class Quantile(Parameter):
    """The `normal`, `log_normal` and `beta` families: the quantile at u, rounded to `q`.

    Optuna stores u in (0, 1), or with `as_is` the value itself.
    """

    distribution: NormalDist | LogNormal | Beta
    q: int | float | None = None
    as_is: bool = False

    def optuna_distribution(self) -> BaseDistribution:
        """Return a float between 0 and 1, both excluded, or with `as_is` the quantiles there."""
        from optuna.distributions import FloatDistribution

        low, high = _EDGE, 1 - _EDGE
        return FloatDistribution(self._at(low), self._at(high)) if self.as_is else FloatDistribution(low, high)

    def draw(self, rng: random.Random) -> Any:
        """Return u, or with `as_is` the quantile there."""
        u = rng.uniform(_EDGE, 1 - _EDGE)
        return float(self._at(u)) if self.as_is else u

    def decode(self, stored: Any) -> int | float:
        """Return the quantile at u, or the value itself."""
        return self._rounded(float(stored)) if self.as_is else self._at(float(stored))

    def encode(self, value: Json) -> float:
        """Return the share of the distribution below a value, or with `as_is` the value."""
        u = min(max(self.distribution.cdf(float(value)), _EDGE), 1 - _EDGE)
        if abs(self._at(u) - value) > (1e-6 * (abs(value) + 1) if self.q is None else 0):
            raise self._not_a_value(value)
        return float(value) if self.as_is else u

    def _at(self, u: float) -> int | float:
        return self._rounded(self.distribution.inv_cdf(u))

    def _rounded(self, value: float) -> int | float:
        return value if self.q is None else quantise(value, self.q)


@dataclass(frozen=True, slots=True)
class WeightedChoice(Parameter):
    """`categorical` with `probabilities`.

    Optuna stores u in (0, 1), which falls into the value's share, or with `as_is` what it stores of
    a `Choice`.
    """

    values: tuple[Json, ...]
    probabilities: tuple[float, ...]
    as_is: bool = False

    @property
    def _choice(self) -> Choice:
        return Choice(self.name, self.values).distinct()

    def optuna_distribution(self) -> BaseDistribution:
        """Return a float between 0 and 1, both excluded, or with `as_is` the choice."""
        from optuna.distributions import FloatDistribution

        return self._choice.optuna_distribution() if self.as_is else FloatDistribution(_EDGE, 1 - _EDGE)

    def draw(self, rng: random.Random) -> Any:
        """Return u, or with `as_is` what stands for the value whose share u falls into."""
        u = rng.uniform(_EDGE, 1 - _EDGE)
        return self._choice.encode(self._at(u)) if self.as_is else u

    def decode(self, stored: Any) -> Json:
        """Return the value whose share u falls into, or the one that is stored."""
        return self._choice.decode(stored) if self.as_is else self._at(float(stored))

    def _at(self, u: float) -> Json:
        ends = list(accumulate(self.probabilities))
        index = bisect_right(ends, u)
        if index == len(ends):  # the sum of the probabilities may be slightly below 1
            index = max(i for i, share in enumerate(self.probabilities) if share > 0)
        return copy.deepcopy(self.values[index])

    def encode(self, value: Json) -> Any:
        """Return the middle of a value's share, or with `as_is` what stands for the value."""
        start = 0.0
        for each, share in zip(self.values, self.probabilities, strict=True):
            if share > 0 and canonical(each) == canonical(value):
                return self._choice.encode(value) if self.as_is else start + share / 2
            start += share
        raise self._not_a_value(value)


def stored_as_is(parameter: Parameter) -> Parameter:
    """Return a parameter of which Optuna stores the values themselves, as no model searches it."""
    if isinstance(parameter, Quantile | WeightedChoice) or (
        isinstance(parameter, FloatRange) and parameter.q is not None
    ):
        return replace(parameter, as_is=True)
    return parameter
