"""Laws by their inverse distribution function, and rounding to multiples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist


class Law(ABC):
    """A continuous law of one number."""

    __slots__ = ()

    @abstractmethod
    def inverse(self, u: float) -> float:
        """The value below which a share u of the law lies; u is in (0, 1)."""

    @abstractmethod
    def share(self, value: float) -> float:
        """The share of the law below a value: the distribution function."""


@dataclass(frozen=True, slots=True)
class Normal(Law):
    """Mean `mu`, standard deviation `sigma`."""

    mu: float = 0.0
    sigma: float = 1.0

    def inverse(self, u: float) -> float:
        """Algorithm AS241 (Wichura 1988), as Python's statistics has it."""
        return NormalDist(self.mu, self.sigma).inv_cdf(u)

    def share(self, value: float) -> float:
        """By the error function."""
        return NormalDist(self.mu, self.sigma).cdf(value)


@dataclass(frozen=True, slots=True)
class LogNormal(Law):
    """The natural logarithm is normal with mean `mu` and standard deviation `sigma`."""

    mu: float = 0.0
    sigma: float = 1.0

    def inverse(self, u: float) -> float:
        """The exponential of the normal quantile."""
        return math.exp(NormalDist(self.mu, self.sigma).inv_cdf(u))

    def share(self, value: float) -> float:
        """The normal share of the logarithm; 0 up to 0."""
        return NormalDist(self.mu, self.sigma).cdf(math.log(value)) if value > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Beta(Law):
    """On [0, 1], with density proportional to x**(a - 1) * (1 - x)**(b - 1)."""

    a: float
    b: float

    def inverse(self, u: float) -> float:
        """The inverse of the regularised incomplete beta function, by SciPy.

        Raises:
            MissingExtraError: If SciPy is not installed.
        """
        from ridgepole.sweeps.extras import need

        need("scipy", "a beta distribution")
        from scipy.special import betaincinv

        return float(betaincinv(self.a, self.b, u))

    def share(self, value: float) -> float:
        """The regularised incomplete beta function, by SciPy."""
        from ridgepole.sweeps.extras import need

        need("scipy", "a beta distribution")
        from scipy.special import betainc

        return float(betainc(self.a, self.b, min(max(value, 0.0), 1.0)))


def multiple(k: int, q: int | float, start: int | float = 0) -> int | float:
    """The sum start + k * q as one would write it: an int where both are, else a float without the dust of 3 * 0.1."""
    if isinstance(q, int) and isinstance(start, int):
        return start + k * q
    return float(Decimal(repr(start)) + k * Decimal(repr(q)))


def quantise(value: float, q: int | float) -> int | float:
    """round(value / q) * q; a value half way goes to the even multiple."""
    return multiple(round(value / q), q)


def steps_below(low: int | float, high: int | float, q: int | float) -> int:
    """How many of low, low + q, low + 2q, … lie below high, reckoned in decimals: 0.3 is three steps of 0.1 from 0."""
    span = (Decimal(repr(high)) - Decimal(repr(low))) / Decimal(repr(q))
    return max(0, math.ceil(span))
