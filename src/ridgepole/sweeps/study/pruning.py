"""Stop trials early: by W&B's Hyperband over all trials of a sweep, or by a pruner of Optuna."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping

from optuna.pruners import BasePruner
from optuna.study import Study

from ridgepole.sweeps.spec.hyperband import Hyperband
from ridgepole.sweeps.spec.objective import Metric
from ridgepole.sweeps.study.trial_record import TrialRecord

_MOST_VALUES = 2**63


class Pruning(ABC):
    """Decides which trials stop early, by the history of each record."""

    @abstractmethod
    def cut(self, row: TrialRecord, seen: int) -> None:
        """Forget the values of a trial above a number: it went back to a checkpoint."""

    @abstractmethod
    def judge(self, row: TrialRecord, running: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Return the trials that must stop, after one more value of a trial.

        Args:
            row: The trial; its last value is new.
            running: All trials that run; `row` is judged with or without being one of them.
        """


class Rungs(Pruning):
    """Hyperband over all trials of a sweep: decides as `should_stop`, and sorts nothing twice.

    Args:
        rule: The bands, and the share of trials that continue.
        metric: Which values are good.
        rows: The trials; more may come.
    """

    def __init__(self, rule: Hyperband, metric: Metric, rows: Mapping[int, TrialRecord]) -> None:
        self._rule, self._sign = rule, metric.sign
        self._bands = rule.bands(_MOST_VALUES)
        # Of all trials, sorted, by band; small values are good
        self._at_band: dict[int, list[float]] = {band: [] for band in self._bands}
        self._best: dict[int, float] = {}
        self._moved = False
        for row in rows.values():
            for band in self._at_band:
                if band <= len(row.history):
                    insort(self._at_band[band], self._sign * row.history[band - 1])
            self._note_best(row)

    def cut(self, row: TrialRecord, seen: int) -> None:
        """Forget the values of a trial above a number."""
        for band, values in self._at_band.items():
            if seen < band <= len(row.history):
                del values[bisect_left(values, self._sign * row.history[band - 1])]
                self._moved = True
        if seen < len(row.history):
            del row.history[seen:]
            self._note_best(row)

    def judge(self, row: TrialRecord, running: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Return the trials that must stop: a value at a band may change the threshold of all."""
        new = self._sign * row.history[-1]
        self._best[row.number] = min(new, self._best.get(row.number, new))
        at_band = self._at_band.get(len(row.history))
        if at_band is not None:
            insort(at_band, new)
        elif not self._moved:
            return [row] if self._is_behind(row) else []
        self._moved = False
        return [
            each
            for each in {row.number: row, **{each.number: each for each in running}}.values()
            if self._is_behind(each)
        ]

    def _is_behind(self, row: TrialRecord) -> bool:
        reached = bisect_right(self._bands, len(row.history))
        if not reached:
            return False
        band = self._bands[reached - 1]
        values = self._at_band[band]
        own = self._sign * row.history[band - 1] if self._rule.strict else self._best[row.number]
        return own > values[self._rule.place(len(values))]

    def _note_best(self, row: TrialRecord) -> None:
        self._best.pop(row.number, None)
        if row.history:
            self._best[row.number] = min(self._sign * value for value in row.history)


class OptunaPruning(Pruning):
    """A pruner of Optuna, which is asked after each value of a trial.

    Args:
        pruner: The pruner.
        study: The study, which has all values.
    """

    def __init__(self, pruner: BasePruner, study: Study) -> None:
        self._pruner, self._study = pruner, study
        study.pruner = pruner

    def cut(self, row: TrialRecord, seen: int) -> None:
        """Forget the values of a trial above a number."""
        del row.history[seen:]

    def judge(self, row: TrialRecord, running: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Return the trial, if the pruner wants it to stop."""
        del running
        trial = copy.copy(self._study._storage.get_trial(row.trial_id))  # noqa: SLF001 - as Optuna's Trial does
        # The storage still has values from before a trial went back to a checkpoint
        trial.intermediate_values = dict(enumerate(row.history, start=1))
        return [row] if self._pruner.prune(self._study, trial) else []
