"""The target of a sweep, which each trial runs: a pipeline's file, or a function."""

from __future__ import annotations

import contextlib
import inspect
import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import Place, SweepError
from ridgepole.sweeps.run.trial import Trial
from ridgepole.sweeps.spec.objective import Metric

if TYPE_CHECKING:
    from ridgepole.loggers.base import BaseLoggerManager


@dataclass(frozen=True, kw_only=True)
class Target(ABC):
    """The code that each trial runs."""

    root: str  # the directory that holds the runs, absolute
    metric: Metric | None = None  # to optimise
    metrics: Sequence[Metric] = ()  # in its place, for a search for trade-offs
    # Of the parameters in the sweep's file
    places: Mapping[str, Place] = field(default_factory=dict)

    @abstractmethod
    def __call__(self, trial: Trial) -> object:
        """Run one trial; return the objective, or None to take it from the logged metric."""


@dataclass(frozen=True, kw_only=True)
class PipelineTarget(Target):
    """A pipeline's file."""

    file: str  # absolute
    overrides: Sequence[str] = ()  # `-s` values, below the sweep's parameters
    description: Mapping[str, Any] = field(default_factory=dict)  # to compare on a resume
    allow_change: Sequence[str] = ()  # keys that may differ then

    def __call__(self, trial: Trial) -> object:
        """Run the pipeline; its objective is the logged metric."""
        from ridgepole.pipeline.api import Pipeline

        del trial  # its parameters apply to every pipeline that is planned now
        Pipeline.from_toml(self.file, self.overrides).run(self.root)
        return None


@dataclass(frozen=True, kw_only=True)
class FunctionTarget(Target):
    """A function, which is called with the trial if it takes one."""

    function: Callable[..., object]
    # Its metrics count as the trial's, in this process only
    logger: BaseLoggerManager | None = None

    def __call__(self, trial: Trial) -> object:
        """Call the function."""
        if self.logger is None:
            return self._call(trial)
        from ridgepole.sweeps.run.listener import tap_logger

        with tap_logger(self.logger):
            return self._call(trial)

    def _call(self, trial: Trial) -> object:
        from ridgepole.sweeps.run.wandb_function import uses_wandb, wandb_trial

        # With an environment of its own, W&B's service has chosen the trial
        wandb = uses_wandb(self.function) and not trial.spec.environ
        with wandb_trial(trial) if wandb else contextlib.nullcontext():
            returned = self.function(trial) if takes_trial(self.function) else self.function()
        # Loaded if the function ran a pipeline
        runner = sys.modules.get("ridgepole.pipeline.run.attempt")
        return None if runner is not None and isinstance(returned, runner.RunResult) else returned


def takes_trial(function: Callable[..., object]) -> bool:
    """Return whether a function takes the trial: it needs an argument, or has one called `trial`.

    Raises:
        SweepError: If it needs more arguments.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a callable written in C
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(needed) > 1 or any(p.kind is p.KEYWORD_ONLY for p in needed):
        names = ", ".join(p.name for p in needed)
        raise SweepError(f"run_once takes no argument, or the trial; this one needs {names}")
    return bool(needed) or bool(parameters and parameters[0].name == "trial")


def pickled(target: Target, dumps: Callable[[Target], bytes] | None = None) -> bytes:
    """Return a target as bytes for another process; an outer logger stays behind.

    Args:
        target: The target.
        dumps: The pickler. By default a function goes by name where a process of ours, which has
            loaded the main script too, can import it, and by its code elsewhere.

    Raises:
        SweepError: If it can't be pickled.
    """
    if isinstance(target, FunctionTarget) and target.logger is not None:
        target = replace(target, logger=None)
    try:
        return (dumps or _dumps)(target)
    except Exception as error:
        hint = "define run_once at the top level of a module, or use the executor 'inline'"
        raise SweepError(f"run_once can't be sent to another process: {error}; {hint}") from error


def _dumps(target: Target) -> bytes:
    if isinstance(target, FunctionTarget) and _needs_its_code(target.function):
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]

        return bytes(cloudpickle.dumps(target))
    return pickle.dumps(target)


def _needs_its_code(function: Any) -> bool:
    """Return whether other processes can't import a function: a closure, or a notebook's."""
    main = sys.modules.get("__main__")
    typed_in = (
        getattr(function, "__module__", None) == "__main__" and not Path(getattr(main, "__file__", "") or "").is_file()
    )
    return typed_in or "<" in getattr(function, "__qualname__", "")
