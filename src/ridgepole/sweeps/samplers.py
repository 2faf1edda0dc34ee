"""Who proposes trials: Optuna's samplers, seeded so that a sweep that goes on does not repeat itself."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from ridgepole.sweeps.extras import need

if TYPE_CHECKING:
    import optuna

    from ridgepole.sweeps.spec import SweepSpec


def sampler_name(spec: SweepSpec) -> Literal["grid", "random", "tpe", "gp"]:
    """What proposes the trials of a sweep.

    For a bayes sweep without `sampler` that is Optuna's Gaussian process where torch and SciPy
    are installed, else TPE. The Gaussian process gets further in few trials and needs far longer for a proposal
    (`benchmarks/sweep_samplers.py`). A driver records the name, and goes on with it after a resume.
    """
    if spec.method != "bayes":
        return spec.method
    if spec.options.sampler is not None:
        return spec.options.sampler
    return "gp" if all(importlib.util.find_spec(package) for package in ("torch", "scipy")) else "tpe"


def make_sampler(
    spec: SweepSpec, seed: int | None = None, *, first: int = 0, name: str | None = None
) -> optuna.samplers.BaseSampler:
    """The sampler of a sweep.

    What a random sweep draws depends on the seed, the number of the trial and the name of the parameter, and on
    nothing else: on every executor, and after every resume, trial 17 of a seed is the same. A bayes sweep searches the
    same space with a model of Optuna's; its sequence is not that of W&B.

    Args:
        spec: The sweep.
        seed: The seed; that of the sweep's options where None, and a fresh one where it has none.
        first: The number of the next trial. A driver that goes on gives it, so that a model's random numbers don't
            start again from the beginning.
        name: What `sampler_name` said when the sweep was started; asked again where None.

    Raises:
        MissingExtraError: If Optuna, or what its Gaussian process needs, is not installed.
    """
    need("optuna", "a sweep")
    from ridgepole.sweeps.optunasampler import PerTrialRandomSampler, derived

    if seed is None:
        seed = spec.options.seed
    if spec.method != "bayes":
        return PerTrialRandomSampler(seed)
    own = None if seed is None else derived(seed, first)
    startup = spec.options.startup_trials
    if (name or sampler_name(spec)) == "gp":
        for package in ("torch", "scipy"):
            need(package, "the sampler 'gp'")
        from optuna.samplers import GPSampler

        return GPSampler(seed=own, n_startup_trials=startup)
    from optuna.samplers import TPESampler

    return TPESampler(seed=own, n_startup_trials=startup, constant_liar=True)
