"""Run one attempt of a trial in this process, wherever that is."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from ridgepole.errors import ConfigError, Problem, TrialPruned, text_of, user_traceback
from ridgepole.permanence import Permanence
from ridgepole.pipeline.trial_hook import TrialHook, current_hook
from ridgepole.sweeps.run.environ import scoped_environ
from ridgepole.sweeps.run.targets import Target
from ridgepole.sweeps.run.trial import Trial, TrialLink, TrialSpec, current_trial
from ridgepole.sweeps.study.outcome import Ending, TrialOutcome


def run_trial(target: Target, spec: TrialSpec, link: TrialLink) -> TrialOutcome:
    """Run one attempt of a trial in this process.

    Returns:
        The outcome. Errors and stops are part of it, and never raised.
    """
    clock = time.monotonic()
    trial = Trial(spec, target.metric, link, target.metrics)
    link.bind(trial)
    tokens = current_hook.set(_PipelineHook(trial, target, spec)), current_trial.set(trial)
    value: float | None = None
    values: Mapping[str, float] = {}
    message = traceback = ""
    problems: tuple[Problem, ...] = ()
    try:
        with scoped_environ(spec.environ), link.guard.user_code():
            returned = target(trial)
        if target.metrics:
            values, message = trial.objectives(returned)
        else:
            value, message = trial.objective(returned)
        ending: Ending = "failed" if message else "finished"
    except BaseException as error:  # noqa: BLE001 - whatever a trial raises is how it ended
        ending = _ending(error)
        value = trial.best if ending == "pruned" else None
        if ending == "failed":
            message, traceback = f"{type(error).__name__}: {text_of(error)}", user_traceback(error)
        if isinstance(error, ConfigError):
            problems = error.problems
    finally:
        current_hook.reset(tokens[0])
        current_trial.reset(tokens[1])
        link.flush()
    return TrialOutcome(
        ending,
        value,
        values=values,
        count=trial.count,
        best=trial.best,
        latest=trial.latest,
        runs=tuple(run.name for run in trial.runs),
        error=message,
        traceback=traceback,
        problems=problems,
        seconds=time.monotonic() - clock,
    )


def _ending(error: BaseException) -> Ending:
    while isinstance(error, BaseExceptionGroup):  # that of a group is its first
        error = error.exceptions[0]
    if isinstance(error, TrialPruned):
        return "pruned"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


class _PipelineHook(TrialHook):
    """The part that a running trial takes in every pipeline that it plans."""

    def __init__(self, trial: Trial, target: Target, spec: TrialSpec) -> None:
        label = {"id": spec.sweep, "trial": spec.number, "attempt": spec.attempt, "values": dict(spec.values)}
        super().__init__(spec.values, label=label, places=target.places, root=Path(target.root))
        self._trial = trial
        self._earlier = Path(spec.resume) if spec.resume else None

    def listener(self) -> type[Permanence]:
        # Not for a function that never plans a pipeline
        from ridgepole.sweeps.run.listener import TrialListener

        return TrialListener

    def earlier_run(self) -> Path | None:
        earlier, self._earlier = self._earlier, None
        return earlier

    def run_started(self, run: Path) -> None:
        self._earlier = None
        self._trial.run_started(run)

    def warn(self, message: str) -> None:
        logging.getLogger("ridgepole.sweeps").warning("%s", message)
