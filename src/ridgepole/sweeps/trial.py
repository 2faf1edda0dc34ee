"""One trial while it runs: what `run_once` gets, what the sweep hears of it, and how it is asked to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import ConfigError, TrialPruned, did_you_mean, text_of, user_traceback
from ridgepole.permanence import Permanence, Stoppable
from ridgepole.pipeline.overlay import Overlay, current_overlay
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.sweeps.executors.base import TrialSpec
from ridgepole.sweeps.objective import Metric
from ridgepole.sweeps.outcome import Ending, Outcome
from ridgepole.sweeps.surroundings import surrounded

if TYPE_CHECKING:
    from ridgepole.sweeps.jobs import Job

_NAMES = 50
"""How many names of other metrics are remembered, for a trial that never logs the one that is wanted."""


class Link:
    """What a trial tells, wherever it runs. This one tells nobody."""

    def bind(self, trial: Trial) -> None:
        """Is given the trial before it begins, to ask it to stop."""

    def started(self, run: Path) -> None:
        """The trial has made a run."""

    def report(self, values: tuple[float, ...], seen: int) -> None:
        """The trial has logged finite values of the metric, and had logged `seen` before."""

    def flush(self) -> None:
        """Whatever was told has to be out now; called at the end of the trial."""

    def user_code(self) -> AbstractContextManager[Any]:
        """Wraps the user's own code, so that a signal may interrupt it and nothing else."""
        return nullcontext()


class GuardedLink(Link):
    """The link of a trial in a process whose signals are guarded: a report is where a plain function obeys them.

    Args:
        guard: The guard, which is installed.
    """

    trial: Trial

    def __init__(self, guard: SignalGuard) -> None:
        self.guard = guard

    def bind(self, trial: Trial) -> None:
        """Keeps the trial."""
        self.trial = trial

    def report(self, values: tuple[float, ...], seen: int) -> None:
        """From here on a first Ctrl-C waits for the next report."""
        del values, seen
        self.guard.ticking = True
        if self.guard.requested is not None:
            self.trial.ask_to_stop(self.guard.requested)

    def user_code(self) -> AbstractContextManager[Any]:
        """Lets signals interrupt the user's code alone."""
        return self.guard.user_code()


class Trial:
    """One trial of a sweep, as `run_once` gets it.

    ```python
    def run_once(trial):
        model = train(trial.params["lr"])
        return validate(model)
    ```

    Attributes:
        number: Its number in the sweep, from 0.
        attempt: 1, or one more for each retry and each resume.
        params: Its parameters by flat name.
        count: How many finite values of the metric there were.
        best: The best of them.
        latest: The last of them.
    """

    def __init__(self, spec: TrialSpec, metric: Metric | None, link: Link) -> None:
        self.number = spec.number
        self.attempt = spec.attempt
        self.params: dict[str, Any] = dict(spec.values)
        self.count = 0
        self.best: float | None = None
        self.latest: float | None = None
        self.runs: list[Path] = []
        self._metric = metric
        self._link = link
        self._odd = 0
        self._others: dict[str, None] = {}
        self._inside: list[Stoppable] = []
        self._asked: KeyboardInterrupt | None = None
        self._earlier = [Path(spec.resume)] if spec.resume else []

    # --- for run_once

    def report(self, value: float) -> None:
        """Reports a value of the metric, as logging it does.

        In a plain function this is a step boundary, where a stop is obeyed. In a pipeline that is a tick.

        Args:
            value: A number; one that is not finite is not compared.

        Raises:
            TypeError: If it is no number.
            TrialPruned: If the sweep's pruner wants this trial to stop, and no pipeline is running in it.
            KeyboardInterrupt: If the sweep is to stop, likewise.
        """
        self._take(as_number(value, "what is reported"))
        self.boundary()

    def should_prune(self) -> bool:
        """Whether the sweep's pruner has asked this trial to stop."""
        return isinstance(self._asked, TrialPruned)

    # --- for what listens to the loggers

    def note(self, name: str, value: object) -> None:
        """Hears of one value that was logged."""
        metric = self._metric
        if metric is None or name != metric.name:
            if not self.count and len(self._others) < _NAMES:
                self._others[name] = None
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self._take(float(value))

    def boundary(self) -> None:
        """A step boundary of a plain function: a stop is obeyed here, unless a run is going on, which obeys it itself.

        Raises:
            KeyboardInterrupt: If there is a stop to obey.
        """
        if self._asked is not None and not self._inside:
            raise self._asked

    def enter(self, run: Stoppable) -> None:
        """A run begins inside the trial."""
        self._inside.append(run)
        if self._asked is not None:
            run.ask_to_stop(self._asked)

    def leave(self, run: Stoppable) -> None:
        """It has ended."""
        self._inside = [other for other in self._inside if other is not run]

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint: what was logged after it doesn't count."""
        self.count = int(state.get("count", 0))
        self.best, self.latest = state.get("best"), state.get("latest")

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"count": self.count, "best": self.best, "latest": self.latest}

    # --- for who runs it

    def ask_to_prune(self) -> None:
        """Asks it to stop at its next tick, as pruned. From any thread."""
        self.ask_to_stop(TrialPruned("pruned by the sweep"))

    def ask_to_stop(self, stop: KeyboardInterrupt | None = None) -> None:
        """Asks it to stop at its next tick. From any thread."""
        self._asked = self._asked or stop or KeyboardInterrupt()
        for run in list(self._inside):
            run.ask_to_stop(self._asked)

    def overlay(self, job: Job, spec: TrialSpec) -> Overlay:
        """What lies over every pipeline that the trial plans."""
        label = {"id": spec.sweep, "trial": self.number, "attempt": self.attempt, "values": dict(spec.values)}
        return Overlay(
            spec.values,
            label,
            job.places,
            _listener,
            Path(job.root),
            self._has_started,
            lambda: self._earlier.pop() if self._earlier else None,
            _say,
        )

    def _has_started(self, run: Path) -> None:
        self._earlier.clear()
        self.runs.append(run)
        self._link.started(run)

    def _take(self, value: float) -> None:
        if not math.isfinite(value):
            self._odd += 1
            return
        if self.best is None or self._metric is None or self._metric.better(value, self.best):
            self.best = value
        self.latest = value
        self.count += 1
        self._link.report((value,), self.count - 1)

    def objective(self, returned: object) -> tuple[float | None, str]:
        """The objective, or why there is none: what was returned, else the best that was logged."""
        if returned is not None:
            value = as_number(returned, "what run_once returns")
            return (
                (value, "") if math.isfinite(value) else (None, f"run_once returned {value}, which can't be compared")
            )
        if self.best is not None or self._metric is None:
            return self.best, ""
        name = self._metric.name
        if self._odd:
            return None, f"the metric {name!r} was logged {self._odd} times, but never as a finite number"
        there = ", ".join(self._others) or "nothing"
        hint = did_you_mean(name, self._others)
        return None, f"the metric {name!r} was never logged; logged was: {there}{'; ' + hint if hint else ''}"


current_trial: ContextVar[Trial | None] = ContextVar("ridgepole_trial", default=None)
"""The trial that is running."""


def perform(job: Job, spec: TrialSpec, link: Link) -> Outcome:
    """Runs one attempt of a trial in this process.

    Args:
        job: What it runs.
        spec: Which one.
        link: Who is told.

    Returns:
        How it went; errors and stops are in it, and are never raised.
    """
    clock = time.monotonic()
    trial = Trial(spec, job.metric, link)
    link.bind(trial)
    tokens = current_overlay.set(trial.overlay(job, spec)), current_trial.set(trial)
    try:
        with surrounded(spec.environ), link.user_code():
            returned = job(trial)
        value, why = trial.objective(returned)
        ending: Ending = "failed" if why else "finished"
        error: BaseException | None = None
    except BaseException as raised:  # noqa: BLE001 - whatever a trial raises is how it ended
        error, value = raised, None
        ending, why = _ending(raised), f"{type(raised).__name__}: {text_of(raised)}"
        if ending == "pruned":
            value = trial.best
    finally:
        current_overlay.reset(tokens[0])
        current_trial.reset(tokens[1])
        link.flush()
    return Outcome(
        ending,
        value,
        trial.count,
        trial.best,
        trial.latest,
        tuple(run.name for run in trial.runs),
        why if ending == "failed" else "",
        user_traceback(error) if error is not None and ending == "failed" else "",
        error.problems if isinstance(error, ConfigError) else (),
        time.monotonic() - clock,
    )


def first_cause(error: BaseException) -> BaseException:
    """The error that began it: that of a group is its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _ending(error: BaseException) -> Ending:
    cause = first_cause(error)
    if isinstance(cause, TrialPruned):
        return "pruned"
    return "interrupted" if isinstance(cause, KeyboardInterrupt) else "failed"


def as_number(value: object, what: str) -> float:
    """A number that a user gave, numpy's and torch's included.

    Raises:
        TypeError: If it is none.
    """
    item: Callable[[], object] | None = getattr(value, "item", None)
    if item is not None and all(size == 1 for size in getattr(value, "shape", (0,))):
        value = item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number, not {type(value).__name__}")
    return float(value)


def _listener() -> type[Permanence]:
    from ridgepole.sweeps.listener import TrialListener  # not for a function that never plans a pipeline

    return TrialListener


def _say(line: str) -> None:
    import logging

    logging.getLogger("ridgepole.sweeps").warning("%s", line)
