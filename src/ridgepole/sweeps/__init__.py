"""Sweeps: one file in W&B's schema, run by Optuna anywhere; names are resolved when first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import resolver

if TYPE_CHECKING:
    from ridgepole.sweeps.engine import load_sweep as load_sweep
    from ridgepole.sweeps.engine import resume_sweep as resume_sweep
    from ridgepole.sweeps.engine import run_sweep as run_sweep
    from ridgepole.sweeps.engine import sweep_pipeline as sweep_pipeline
    from ridgepole.sweeps.grid import Grid as Grid
    from ridgepole.sweeps.objective import Metric as Metric
    from ridgepole.sweeps.objective import Tally as Tally
    from ridgepole.sweeps.objective import impute as impute
    from ridgepole.sweeps.options import Options as Options
    from ridgepole.sweeps.pruner import Hyperband as Hyperband
    from ridgepole.sweeps.pruner import make_pruner as make_pruner
    from ridgepole.sweeps.pruner import should_stop as should_stop
    from ridgepole.sweeps.result import SweepResult as SweepResult
    from ridgepole.sweeps.result import TrialResult as TrialResult
    from ridgepole.sweeps.samplers import make_sampler as make_sampler
    from ridgepole.sweeps.samplers import sampler_name as sampler_name
    from ridgepole.sweeps.space import Space as Space
    from ridgepole.sweeps.spec import SweepSpec as SweepSpec
    from ridgepole.sweeps.spec import check_sweep as check_sweep
    from ridgepole.sweeps.spec import parse_sweep as parse_sweep
    from ridgepole.sweeps.spec import read_sweep as read_sweep
    from ridgepole.sweeps.trial import Trial as Trial

_HOMES = {
    "Grid": "ridgepole.sweeps.grid",
    "Hyperband": "ridgepole.sweeps.pruner",
    "Metric": "ridgepole.sweeps.objective",
    "Options": "ridgepole.sweeps.options",
    "Space": "ridgepole.sweeps.space",
    "SweepResult": "ridgepole.sweeps.result",
    "SweepSpec": "ridgepole.sweeps.spec",
    "Tally": "ridgepole.sweeps.objective",
    "Trial": "ridgepole.sweeps.trial",
    "TrialResult": "ridgepole.sweeps.result",
    "check_sweep": "ridgepole.sweeps.spec",
    "impute": "ridgepole.sweeps.objective",
    "load_sweep": "ridgepole.sweeps.engine",
    "make_pruner": "ridgepole.sweeps.pruner",
    "make_sampler": "ridgepole.sweeps.samplers",
    "parse_sweep": "ridgepole.sweeps.spec",
    "read_sweep": "ridgepole.sweeps.spec",
    "resume_sweep": "ridgepole.sweeps.engine",
    "run_sweep": "ridgepole.sweeps.engine",
    "sampler_name": "ridgepole.sweeps.samplers",
    "should_stop": "ridgepole.sweeps.pruner",
    "sweep_pipeline": "ridgepole.sweeps.engine",
}

__all__ = [
    "Grid",
    "Hyperband",
    "Metric",
    "Options",
    "Space",
    "SweepResult",
    "SweepSpec",
    "Tally",
    "Trial",
    "TrialResult",
    "check_sweep",
    "impute",
    "load_sweep",
    "make_pruner",
    "make_sampler",
    "parse_sweep",
    "read_sweep",
    "resume_sweep",
    "run_sweep",
    "sampler_name",
    "should_stop",
    "sweep_pipeline",
]


__getattr__ = resolver(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
