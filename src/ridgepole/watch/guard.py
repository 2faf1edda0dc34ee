"""Notice metrics that are no numbers any more, or jump."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from ridgepole import rundir
from ridgepole.metrics.codec import decode
from ridgepole.metrics.summary import goal_of
from ridgepole.watch.policy import MetricFault, Nan, Spike

_TAIL_BYTES = 1 << 20
_LEAST_VALUES = 30
_NORMAL = 1.4826  # the standard deviation of a normal distribution, in median absolute deviations
_FLOOR = 0.01  # of the median: values that hardly vary don't make a small change a jump


class Metrics(Protocol):
    """The metrics that a run has logged so far."""

    def metric_names(self) -> Sequence[str]:
        """Return their names."""

    def tally(self, name: str) -> tuple[int, int, Any]:
        """Return how many values a metric has, how many are not finite, and the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A fault of a metric.

    Attributes:
        kind: `nan` or `spike`.
        title: One line about it.
        text: The details.
        policy: The table of this fault.
        clean: The last step at which the metric was sound.
    """

    kind: str
    title: str
    text: str
    policy: MetricFault
    clean: int


class _Watched:
    """The values of one metric."""

    def __init__(self, window: int, clean: int) -> None:
        self.count = self.bad = self.row = 0
        self.clean = clean
        self.told = False
        self.values: deque[float] = deque(maxlen=window)


class MetricGuard:
    """Looks at the metrics of a run now and then.

    Args:
        nan: When a metric counts as broken; None does not look.
        spike: When a metric counts as jumping; None does not look.
        ranked: The metric that ranks checkpoints, which is watched too.
        directory: The run directory, where the first broken value is looked up.
    """

    def __init__(self, nan: Nan | None, spike: Spike | None, ranked: str | None, directory: Path) -> None:
        self._nan, self._spike, self._ranked, self._directory = nan, spike, ranked, directory
        self._known = self._start = 0
        self._watched: dict[str, tuple[_Watched, bool, bool]] = {}

    def restart(self, step: int) -> None:
        """Forget what was seen, and regard an earlier step than this as the last sound one."""
        self._watched.clear()
        self._known, self._start = 0, step

    def sound_until(self, step: int) -> int:
        """Return the last step at which no metric was broken, at most a step."""
        return min([step, *(watched.clean for watched, _, _ in self._watched.values() if watched.row)])

    def policy_of(self, kind: str) -> MetricFault:
        """Return the table of a kind of fault."""
        return (self._nan if kind == "nan" else self._spike) or MetricFault()

    def look(self, metrics: Metrics, step: int) -> Found | None:
        """Return a fault that was not there before.

        Args:
            metrics: The metrics of the run.
            step: The step of the run.
        """
        names = metrics.metric_names()
        if len(names) != self._known:
            self._known = len(names)
            self._choose(names)
        for name, (watched, for_nan, for_spike) in self._watched.items():
            count, bad, value = metrics.tally(name)
            if count == watched.count:
                continue
            found = self._broken(name, watched, count, bad, step) if for_nan and self._nan else None
            if found is None and for_spike and bad == watched.bad and isinstance(value, int | float):
                found = self._jumped(name, watched, float(value), step)
            watched.count, watched.bad = count, bad
            if found is not None:
                return found
            if not watched.row:
                watched.clean = step
        return None

    def _choose(self, names: Sequence[str]) -> None:
        for name in names:
            chosen = [self._is_watched(name, fault) for fault in (self._nan, self._spike)]
            if any(chosen) and name not in self._watched:
                window = self._spike.window if self._spike is not None else 1
                self._watched[name] = (_Watched(window, self._start), chosen[0], chosen[1])

    def _is_watched(self, name: str, fault: Nan | Spike | None) -> bool:
        if fault is None:
            return False
        if fault.metrics is not None:
            return any(fnmatchcase(name, pattern) for pattern in fault.metrics)
        return name == self._ranked or goal_of(name) == "min"

    def _broken(self, name: str, watched: _Watched, count: int, bad: int, step: int) -> Found | None:
        assert self._nan is not None
        new, new_bad = count - watched.count, bad - watched.bad
        watched.row = watched.row + new if new == new_bad else min(new_bad, 1)
        if not new_bad:
            watched.told = False
        if watched.row < self._nan.count or watched.told:
            return None
        watched.told = True
        at, logged = first_broken(self._directory / rundir.METRICS, name)
        where = f"since step {step if at is None else at}"
        others = ", ".join(f"{key} = {value}" for key, value in list(logged.items())[:8])
        text = f"{watched.row} values in a row are not finite" + (f"; logged at that step: {others}" if others else "")
        return Found(
            kind="nan", title=f"{name} is not finite {where}", text=text, policy=self._nan, clean=watched.clean
        )

    def _jumped(self, name: str, watched: _Watched, value: float, step: int) -> Found | None:
        assert self._spike is not None
        values, policy = watched.values, self._spike
        found = None
        if len(values) >= min(_LEAST_VALUES, policy.window) and value > max(values):
            middle = median(values)
            spread = _NORMAL * median(abs(each - middle) for each in values)
            score = (value - middle) / max(spread, _FLOOR * abs(middle), 1e-12)
            if score > policy.z:
                text = (
                    f"the median of the {len(values)} values before is {middle:.4g}; the jump is {score:.0f} deviations"
                )
                title = f"{name} jumps to {value:.4g} at step {step}"
                found = Found(kind="spike", title=title, text=text, policy=policy, clean=watched.clean)
                values.clear()  # the next one is told of when there is something to compare with
        values.append(value)
        return found


def first_broken(path: Path, name: str) -> tuple[int | None, dict[str, Any]]:
    """Return the first step of the last values of a metric that are not finite, and its record.

    Only the end of the file is read.
    """
    step, logged = None, {}
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return None, {}
    for line in reversed(lines):
        try:
            record = decode(line)
        except (ValueError, TypeError, IndexError):
            continue
        value = record["metrics"].get(name)
        if not isinstance(value, int | float):
            continue
        if value - value == 0.0:
            break
        step, logged = record["step"], record["metrics"]
    return step, logged
