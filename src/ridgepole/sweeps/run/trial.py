"""One trial while it runs, as `run_once` gets it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgepole.errors import TrialPruned, did_you_mean
from ridgepole.permanence import Stoppable
from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.sweeps.spec.objective import Metric

_NAMES = 50  # the most names of other metrics to list in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec:
    """One attempt of a trial, as plain JSON values."""

    sweep: str  # its id
    number: int  # from 0
    attempt: int  # 1, or one more for each retry and each resume
    values: Mapping[str, Any]  # the parameters by flat name
    directory: str  # the sweep's, absolute
    resume: str | None = None  # the directory of an earlier attempt's run
    environ: Mapping[str, str] = field(default_factory=dict)


class TrialLink(ABC):
    """The way from a running trial to the driver.

    Args:
        guard: The signal guard of this process, which is installed.
    """

    trial: Trial

    def __init__(self, guard: SignalGuard) -> None:
        self.guard = guard

    def bind(self, trial: Trial) -> None:
        """Take the trial before it begins, to ask it to stop."""
        self.trial = trial

    @abstractmethod
    def started(self, run: Path) -> None:
        """Take note of a run that the trial has made."""

    @abstractmethod
    def report(self, values: tuple[float, ...], seen: int) -> None:
        """Take finite values of the metric; the trial had logged `seen` before.

        A plain function obeys signals here: after this a first Ctrl-C waits for the next report.
        """
        self.guard.ticking = True
        if self.guard.requested is not None:
            self.trial.ask_to_stop(self.guard.requested)

    def flush(self) -> None:
        """Send what was held back; called at the end of the trial."""


class Trial:
    """One trial of a sweep, as `run_once` gets it.

    ```python
    def run_once(trial):
        model = train(trial.params["lr"])
        return validate(model)
    ```

    Attributes:
        spec: The attempt as the driver has given it.
        number: Its number in the sweep, from 0.
        attempt: 1, or one more for each retry and each resume.
        params: Its parameters by flat name.
        count: The number of finite values of the metric so far.
        best: The best of them.
        latest: The last of them.
    """

    def __init__(self, spec: TrialSpec, metric: Metric | None, link: TrialLink, metrics: Sequence[Metric] = ()) -> None:
        self.spec = spec
        self.number = spec.number
        self.attempt = spec.attempt
        self.params: dict[str, Any] = dict(spec.values)
        self.count = 0
        self.best: float | None = None
        self.latest: float | None = None
        self.runs: list[Path] = []
        # Of several metrics, the first is the one that is watched while the trial runs
        self._metric = metrics[0] if metrics else metric
        self._lasts: dict[str, float | None] = {each.name: None for each in metrics}
        self._link = link
        self._nonfinite = 0
        self._other_metrics: dict[str, None] = {}
        self._active_runs: list[Stoppable] = []
        self._stop: KeyboardInterrupt | None = None

    # --- for run_once

    def report(self, value: float, name: str | None = None) -> None:
        """Report a value of the metric, as logging it does.

        In a plain function this is a step, where a stop is obeyed. In a pipeline a tick is.

        Args:
            value: A number. A value that is not finite is not compared.
            name: The name of the metric, where the sweep has several.

        Raises:
            TypeError: If the value is not a number.
            ValueError: If the sweep has several metrics, and none of this name.
            TrialPruned: If the sweep's pruner wants this trial to stop, and no pipeline runs in it.
            KeyboardInterrupt: If the sweep is to stop, likewise.
        """
        number = as_number(value, "trial.report takes")
        if self._lasts and name not in self._lasts:
            raise ValueError(
                f"trial.report takes the name of one of the metrics {', '.join(self._lasts)}, not {name!r}"
            )
        if name is None:
            self._add(number)
        else:
            self.note(name, number)
        self.obey_stop()

    def should_prune(self) -> bool:
        """Return whether the sweep's pruner has asked this trial to stop."""
        return isinstance(self._stop, TrialPruned)

    # --- for what listens to the loggers

    def note(self, name: str, value: object) -> None:
        """Take one logged value."""
        metric = self._metric
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        if name in self._lasts and number is not None and math.isfinite(number):
            self._lasts[name] = number
        if metric is None or name != metric.name:
            if not self.count and len(self._other_metrics) < _NAMES:
                self._other_metrics[name] = None
        elif number is not None:
            self._add(number)

    def obey_stop(self) -> None:
        """Obey a requested stop in a plain function; a run inside the trial obeys it itself.

        Raises:
            KeyboardInterrupt: The requested stop.
        """
        if self._stop is not None and not self._active_runs:
            raise self._stop

    def pending_stop(self) -> KeyboardInterrupt | None:
        """Return a requested stop, for code that has a process to end first.

        From the first call on, a signal is such a request, and does not interrupt the code.
        """
        guard = self._link.guard
        guard.ticking = True
        return self._stop or guard.requested

    def enter(self, run: Stoppable) -> None:
        """Pass requests to stop on to a run that begins inside the trial."""
        self._active_runs.append(run)
        if self._stop is not None:
            run.ask_to_stop(self._stop)

    def leave(self, run: Stoppable) -> None:
        """Drop a run that has ended."""
        self._active_runs = [other for other in self._active_runs if other is not run]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Return to a checkpoint's state: values that were logged after it don't count."""
        self.count = int(state.get("count", 0))
        self.best, self.latest = state.get("best"), state.get("latest")
        self._lasts |= {name: value for name, value in state.get("lasts", {}).items() if name in self._lasts}

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        several = {"lasts": dict(self._lasts)} if self._lasts else {}
        return {"count": self.count, "best": self.best, "latest": self.latest} | several

    # --- for the process that runs it

    def ask_to_prune(self) -> None:
        """Ask the trial to stop at its next tick, as pruned. From any thread."""
        self.ask_to_stop(TrialPruned("pruned by the sweep"))

    def ask_to_stop(self, stop: KeyboardInterrupt | None = None) -> None:
        """Ask the trial to stop at its next tick. From any thread."""
        self._stop = self._stop or stop or KeyboardInterrupt()
        for run in list(self._active_runs):
            run.ask_to_stop(self._stop)

    def run_started(self, run: Path) -> None:
        """Take note of a run that the trial has made."""
        self.runs.append(run)
        self._link.started(run)

    def objective(self, returned: object) -> tuple[float | None, str]:
        """Return the objective, returned or the best logged one; or None and the reason."""
        if returned is not None:
            value = as_number(returned, "run_once must return")
            return (value, "") if math.isfinite(value) else (None, f"run_once returned {value}, not a finite number")
        if self.best is not None or self._metric is None:
            return self.best, ""
        name = self._metric.name
        if self._nonfinite:
            return None, f"the metric {name!r} was logged {self._nonfinite} times, but never as a finite number"
        logged = ", ".join(self._other_metrics) or "nothing"
        hint = did_you_mean(name, self._other_metrics)
        return None, f"{never_logged(name)}; logged was: {logged}{'; ' + hint if hint else ''}"

    def objectives(self, returned: object) -> tuple[dict[str, float], str]:
        """Return the last value of each metric, returned or logged; or none and the reason."""
        found = dict(self._lasts)
        if isinstance(returned, Mapping):
            found |= {name: as_number(value, f"run_once must return as {name!r}") for name, value in returned.items()}
        elif returned is not None:
            return {}, f"run_once must return the values of {', '.join(found)} by their names"
        values = {name: value for name, value in found.items() if name in self._lasts and value is not None}
        missing = [name for name in self._lasts if not math.isfinite(values.get(name, math.nan))]
        if not missing:
            return values, ""
        logged = ", ".join([*(name for name in values if name not in missing), *self._other_metrics]) or "nothing"
        names = " and ".join(map(repr, missing))
        return {}, f"no finite value of the metric {names} was logged; logged was: {logged}"

    def _add(self, value: float) -> None:
        if not math.isfinite(value):
            self._nonfinite += 1
            return
        if self.best is None or self._metric is None or self._metric.better(value, self.best):
            self.best = value
        self.latest = value
        self.count += 1
        self._link.report((value,), self.count - 1)


current_trial: ContextVar[Trial | None] = ContextVar("ridgepole_trial", default=None)
"""The trial that is running."""


def never_logged(metric: str) -> str:
    """Return the beginning of the error of a trial that never logged the metric."""
    return f"the metric {metric!r} was never logged"


def as_number(value: object, demand: str) -> float:
    """Return a user's number as a float, numpy's and torch's included.

    Raises:
        TypeError: If it is not a number, with `demand` as the beginning of the message.
    """
    item: Callable[[], object] | None = getattr(value, "item", None)
    if item is not None and all(size == 1 for size in getattr(value, "shape", (0,))):
        value = item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{demand} a number, not {type(value).__name__}")
    return float(value)
