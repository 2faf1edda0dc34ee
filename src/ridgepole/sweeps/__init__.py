"""Sweeps: one file in W&B's schema, run by Optuna anywhere. Names are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import exports

if TYPE_CHECKING:
    from ridgepole.sweeps.api import load_sweep as load_sweep
    from ridgepole.sweeps.api import resume_sweep as resume_sweep
    from ridgepole.sweeps.api import run_sweep as run_sweep
    from ridgepole.sweeps.api import sweep_pipeline as sweep_pipeline
    from ridgepole.sweeps.api import sweep_program as sweep_program
    from ridgepole.sweeps.result import SweepResult as SweepResult
    from ridgepole.sweeps.run.trial import Trial as Trial
    from ridgepole.sweeps.spec.hyperband import Hyperband as Hyperband
    from ridgepole.sweeps.spec.hyperband import should_stop as should_stop
    from ridgepole.sweeps.spec.objective import Metric as Metric
    from ridgepole.sweeps.spec.options import Options as Options
    from ridgepole.sweeps.spec.space import Grid as Grid
    from ridgepole.sweeps.spec.space import Space as Space
    from ridgepole.sweeps.spec.spec import SweepSpec as SweepSpec
    from ridgepole.sweeps.spec.spec import check_sweep as check_sweep
    from ridgepole.sweeps.spec.spec import read_sweep as read_sweep
    from ridgepole.sweeps.spec.spec import sampler_name as sampler_name
    from ridgepole.sweeps.study.outcome import TrialResult as TrialResult

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ridgepole.sweeps.api": ("load_sweep", "resume_sweep", "run_sweep", "sweep_pipeline", "sweep_program"),
        "ridgepole.sweeps.result": ("SweepResult",),
        "ridgepole.sweeps.run.trial": ("Trial",),
        "ridgepole.sweeps.spec.hyperband": ("Hyperband", "should_stop"),
        "ridgepole.sweeps.spec.objective": ("Metric",),
        "ridgepole.sweeps.spec.options": ("Options",),
        "ridgepole.sweeps.spec.space": ("Grid", "Space"),
        "ridgepole.sweeps.spec.spec": ("SweepSpec", "check_sweep", "read_sweep", "sampler_name"),
        "ridgepole.sweeps.study.outcome": ("TrialResult",),
    },
)
