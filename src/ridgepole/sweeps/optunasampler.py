"""A random sampler of Optuna whose draws depend on the trial alone. Imported only where Optuna is needed."""

from __future__ import annotations

import math
import random
import secrets
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial


class PerTrialRandomSampler(BaseSampler):
    """Independent random draws, each from a generator that is seeded by seed, trial number and parameter name.

    Optuna's `RandomSampler` draws from one stream: after a resume the stream begins again, and with it the trials. To
    make one of it for each draw costs three times what everything else about a trial does.

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
        key = f"{self._seed}/{trial.number}/{param_name}"
        rng = random.Random(key)  # noqa: S311 - no secret; Python promises that a text seeds the same everywhere
        law = param_distribution
        if isinstance(law, CategoricalDistribution):
            return rng.choice(law.choices)
        if isinstance(law, IntDistribution) and law.step == 1 and not law.log:
            return rng.randint(law.low, law.high)
        if isinstance(law, FloatDistribution) and law.step is None:
            if law.log:
                drawn = math.exp(rng.uniform(math.log(law.low), math.log(law.high)))
                return min(max(drawn, law.low), law.high)  # what the logarithm and back may miss the ends by
            return rng.uniform(law.low, law.high)
        sampler = RandomSampler(rng.getrandbits(32))  # none of ours
        return sampler.sample_independent(study, trial, param_name, law)


def derived(seed: int, first: int) -> int:
    """A 32-bit seed for a sampler that starts at a trial."""
    return random.Random(f"{seed}/{first}").getrandbits(32)  # noqa: S311 - as above
