"""What each trial of a sweep runs: a pipeline's file, or a function."""

from __future__ import annotations

import inspect
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import Place, SweepError
from ridgepole.sweeps.objective import Metric
from ridgepole.sweeps.trial import Trial

if TYPE_CHECKING:
    from ridgepole.permanences.loggers.base import BaseLoggerManager


@dataclass(frozen=True)
class Job:
    """What each trial runs.

    Attributes:
        root: The directory that holds the runs, absolute.
        metric: What is optimised; None where nothing is.
        places: Where the parameters stand in the sweep's file.
    """

    root: str
    metric: Metric | None = None
    places: Mapping[str, Place] = field(default_factory=dict)

    def __call__(self, trial: Trial) -> object:
        """Runs one trial; gives the objective, or None where that is what was logged."""
        raise NotImplementedError


@dataclass(frozen=True)
class PipelineJob(Job):
    """Runs a pipeline's file.

    Attributes:
        file: The file, absolute.
        overrides: `-s` values, below the sweep's parameters.
        described: What the pipeline is, to compare on a resume.
        allow: What of it may differ then.
    """

    file: str = ""
    overrides: Sequence[str] = ()
    described: Mapping[str, Any] = field(default_factory=dict)
    allow: Sequence[str] = ()

    def __call__(self, trial: Trial) -> object:
        """Runs the pipeline; its objective is what it logs."""
        from ridgepole.pipeline.api import Pipeline

        del trial  # its parameters lie over every pipeline that is planned now
        Pipeline.from_toml(self.file, self.overrides).run(self.root)
        return None


@dataclass(frozen=True)
class FunctionJob(Job):
    """Calls a function, with the trial where it wants it.

    Attributes:
        function: The function.
        logger: A logger whose metrics count as the trial's; only in this process.
    """

    function: Callable[..., object] = lambda: None
    logger: BaseLoggerManager | None = None

    def __call__(self, trial: Trial) -> object:
        """Calls it."""
        if self.logger is None:
            return self._call(trial)
        from ridgepole.sweeps.listener import overheard

        with overheard(self.logger):
            return self._call(trial)

    def _call(self, trial: Trial) -> object:
        returned = self.function(trial) if takes_trial(self.function) else self.function()
        runner = sys.modules.get("ridgepole.pipeline.runner")  # without it nobody can have run a pipeline
        return None if runner is not None and isinstance(returned, runner.RunResult) else returned


def takes_trial(function: Callable[..., object]) -> bool:
    """Whether a function wants the trial: it has a parameter without a default, or one called `trial`.

    Raises:
        SweepError: If it needs more than that.
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


def pickled(job: Job, dumps: Callable[[Job], bytes] | None = None) -> bytes:
    """A job as bytes for another process; a logger from outside stays behind.

    Args:
        job: The job.
        dumps: What writes it. When None, by name what a process of ours that has loaded the main script too can import,
            and by its code the rest.

    Raises:
        SweepError: If it can't be sent there.
    """
    if isinstance(job, FunctionJob) and job.logger is not None:
        job = replace(job, logger=None)
    try:
        return (dumps or _dumps)(job)
    except Exception as error:
        hint = "define run_once at the top level of a module, or use the executor 'inline'"
        raise SweepError(f"run_once can't be sent to another process: {error}; {hint}") from error


def _dumps(job: Job) -> bytes:
    function: Any = getattr(job, "function", None)
    if function is not None and _needs_its_code(function):
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]

        return bytes(cloudpickle.dumps(job))
    return pickle.dumps(job)


def _needs_its_code(function: Any) -> bool:
    """Whether another process can't import a function by its name: a closure, or a notebook's."""
    main = sys.modules.get("__main__")
    typed_in = (
        getattr(function, "__module__", None) == "__main__" and not Path(getattr(main, "__file__", "") or "").is_file()
    )
    return typed_in or "<" in getattr(function, "__qualname__", "")
