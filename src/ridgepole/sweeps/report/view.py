"""What a report shows of a sweep, worked out once for the page and the pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ridgepole.errors import RidgepoleError
from ridgepole.sweeps.objective import Metric
from ridgepole.sweeps.report.axes import Axis, make_axes, masked
from ridgepole.sweeps.report.importances import Importances, importances
from ridgepole.sweeps.report.scale import Scale, Tick, objective_scale
from ridgepole.sweeps.result import SweepResult, TrialResult
from ridgepole.sweeps.space import Space
from ridgepole.sweeps.spec import read_sweep
from ridgepole.sweeps.sweepdir import SweepDir


@dataclass(frozen=True, slots=True)
class View:
    """A sweep as it is shown.

    Attributes:
        result: The sweep.
        metric: What is optimised; an `objective` that is to be small where the sweep names none.
        values: For each trial, its finite objective; None where it has none.
        best: For each trial, the best objective of the finished trials up to it; None before the first.
        scale: The axis of the objective.
        axes: Those of the parameters that are searched.
        constants: The other parameters, as texts.
        importances: How much each parameter matters.
        command: What reproduces the best trial: a command, or the parameters as JSON where the sweep runs a function;
            empty where no trial is the best.
    """

    result: SweepResult
    metric: Metric
    values: tuple[float | None, ...]
    best: tuple[float | None, ...]
    scale: Scale
    axes: tuple[Axis, ...]
    constants: dict[str, str]
    importances: Importances
    command: str = field(repr=False)

    @property
    def title(self) -> str:
        """The sweep's name, or its id."""
        return self.result.name or f"sweep {self.result.id}"

    @property
    def trials(self) -> Sequence[TrialResult]:
        """The trials, by number."""
        return self.result.trials

    @property
    def ticks(self) -> list[Tick]:
        """What is written beside the axis of the objective; nothing where no trial has one."""
        return self.scale.ticks() if any(value is not None for value in self.values) else []

    def place(self, value: float | None) -> float | None:
        """Where an objective stands on its axis, from 0 to 1."""
        return None if value is None else self.scale.place(value)

    def is_beyond(self, value: float | None) -> bool:
        """Whether an objective lies beyond its axis, at the end of which it is drawn."""
        return value is not None and not self.scale.low <= value <= self.scale.high


def make_view(result: SweepResult) -> View:
    """Works out what is shown of a sweep."""
    metric = result.metric or Metric("objective")
    values = tuple(None if trial.status == "failed" else _finite(trial.value) for trial in result.trials)
    axes, constants = make_axes([trial.params for trial in result.trials], _space(result))
    finished = [
        value if trial.status == "finished" else None for trial, value in zip(result.trials, values, strict=True)
    ]
    scale = objective_scale((value for value in values if value is not None), metric.goal, metric.target)
    found = importances(axes, finished, metric.goal)
    best = tuple(_best_so_far(finished, metric))
    return View(result, metric, values, best, scale, tuple(axes), constants, found, _command(result))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _best_so_far(values: Sequence[float | None], metric: Metric) -> list[float | None]:
    best: float | None = None
    found = []
    for value in values:
        if value is not None and (best is None or metric.better(value, best)):
            best = value
        found.append(best)
    return found


def _space(result: SweepResult) -> Space | None:
    try:
        return read_sweep(SweepDir(result.path).spec()).space
    except (RidgepoleError, OSError):  # a result whose directory is gone: the trials tell enough
        return None


def _command(result: SweepResult) -> str:
    """The command, without what a parameter's name says is secret."""
    best = result.best
    if best is None:
        return ""
    params = {name: masked(name, value) for name, value in best.params.items()}
    return result.command(replace(best, params=params)) or json.dumps(params, ensure_ascii=False)
