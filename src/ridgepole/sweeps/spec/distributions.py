"""Continuous distributions that Optuna does not have, and rounding to multiples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist

from ridgepole.sweeps.extras import need


@dataclass(frozen=True, slots=True)
class LogNormal:
    """The natural logarithm is normal with mean `mu` and standard deviation `sigma`."""

    mu: float
    sigma: float

    def inv_cdf(self, p: float) -> float:
        """Return the value below which a share p of the distribution lies; p is in (0, 1)."""
        return math.exp(NormalDist(self.mu, self.sigma).inv_cdf(p))

    def cdf(self, x: float) -> float:
        """Return the share of the distribution that lies below a value."""
        return NormalDist(self.mu, self.sigma).cdf(math.log(x)) if x > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Beta:
    """On [0, 1], with density proportional to x**(a - 1) * (1 - x)**(b - 1). SciPy computes it.

    If a or b is 0, it is the limit: all at 0, all at 1, or a half at each.
    """

    a: float
    b: float

    @property
    def _at_zero(self) -> float | None:
        """The share of the value 0 where only 0 and 1 are possible."""
        if self.a and self.b:
            return None
        return 0.5 if self.a == self.b else float(self.a == 0)

    def inv_cdf(self, p: float) -> float:
        """Return the value below which a share p of the distribution lies; p is in (0, 1).

        Raises:
            MissingExtraError: If SciPy is not installed.
        """
        if self._at_zero is not None:
            return 0.0 if p < self._at_zero else 1.0
        need("scipy", "a beta distribution")
        from scipy.special import betaincinv

        return float(betaincinv(self.a, self.b, p))

    def cdf(self, x: float) -> float:
        """Return the share of the distribution that lies below a value; errors as `inv_cdf`."""
        if self._at_zero is not None:  # the middle of the share that a value has
            return self._at_zero / 2 if x < 0.5 else (1 + self._at_zero) / 2
        need("scipy", "a beta distribution")
        from scipy.special import betainc

        return float(betainc(self.a, self.b, min(max(x, 0.0), 1.0)))


def decimal(value: int | float) -> Decimal:
    """Return a number as people write it: 0.1 is one tenth."""
    return Decimal(repr(value))


def multiple(k: int, q: int | float, start: int | float = 0) -> int | float:
    """Return start + k * q, for floats in decimals: 3 * 0.1 is 0.3."""
    if isinstance(q, int) and isinstance(start, int):
        return start + k * q
    return float(decimal(start) + k * decimal(q))


def quantise(value: float, q: int | float) -> int | float:
    """Return round(value / q) * q; a value half way goes to the even multiple."""
    return multiple(round(value / q), q)
