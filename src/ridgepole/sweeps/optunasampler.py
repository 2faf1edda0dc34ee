"""A random sampler of Optuna whose draws depend on the trial alone. Imported only where Optuna is needed."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial


def derived(*parts: object) -> int:
    """A 32-bit seed that depends on all parts, the same in every process."""
    text = "/".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")


class PerTrialRandomSampler(BaseSampler):
    """Independent random draws, each from a generator that is seeded by seed, trial number and parameter name.

    Args:
        seed: The seed; a fresh one when None.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._seed = secrets.randbits(63) if seed is None else seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: no parameter depends on another."""
        del study, trial
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing, likewise."""
        del study, trial, search_space
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """One draw."""
        sampler = RandomSampler(derived(self._seed, trial.number, param_name))
        return sampler.sample_independent(study, trial, param_name, param_distribution)
