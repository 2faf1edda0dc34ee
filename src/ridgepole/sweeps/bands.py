"""Hyperband over all trials of a sweep, as `pruner.should_stop` decides, without comparing again what was compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ridgepole.sweeps.objective import Metric
from ridgepole.sweeps.pruner import Hyperband, outranked

if TYPE_CHECKING:
    from ridgepole.sweeps.rows import Row


class Bands:
    """The best values of all trials at each band.

    Args:
        rule: Where the bands are, and how many trials go on.
        metric: Which values are good.
        rows: The trials; more may come.
    """

    def __init__(self, rule: Hyperband, metric: Metric, rows: Mapping[int, Row]) -> None:
        self._rule, self._metric, self._rows = rule, metric, rows
        self._changes: dict[int, int] = {}
        for row in rows.values():
            self._reach(row)

    def cut(self, row: Row, seen: int) -> None:
        """A trial has gone back to a checkpoint, with so many values."""
        del row.history[seen:]
        for band in [band for band in row.bests if band > seen]:
            del row.bests[band]
            row.judged.pop(band, None)
            self._changes[band] += 1

    def judge(self, row: Row, seen: int) -> bool:
        """Whether a trial is to stop, now that it has more values than the `seen` that it had when last judged."""
        bands = self._reach(row)
        for band in bands:
            if not self._rule.strict and band <= seen:
                continue
            if row.judged.get(band) == self._changes[band]:
                continue  # nobody has come there since
            row.judged[band] = self._changes[band]
            rivals = [other.bests[band] for other in self._rows.values() if other is not row and band in other.bests]
            if outranked(self._rule, self._metric, row.bests[band], rivals):
                return True
        return False

    def _reach(self, row: Row) -> list[int]:
        """Notes the bands that a trial has come to; gives all of them."""
        bands = self._rule.bands(len(row.history))
        for band in bands:
            best = None if band in row.bests else self._metric.best(row.history[:band])
            if best is not None:
                row.bests[band] = best
                self._changes[band] = self._changes.get(band, 0) + 1
        return bands
