"""Shows how a sweep goes: one row for the sweep, one for each trial that runs; sparse lines in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ridgepole.permanences.progress import ProgressManager
from ridgepole.sweeps.objective import Metric
from ridgepole.sweeps.outcome import Outcome

if TYPE_CHECKING:
    from ridgepole.sweeps.rows import Row

_SWEEP, _TRIALS = "sweep", "trial"
_ROWS = 16
"""How many running trials are shown."""
_WIDTH = 60


class Display:
    """Shows nothing, and says what went wrong; the base of the one that shows something.

    Args:
        say: Prints a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def open(self) -> None:
        """The sweep begins."""

    def close(self) -> None:
        """It has ended."""

    def began(self, row: Row) -> None:
        """An attempt of a trial begins."""

    def reported(self, row: Row) -> None:
        """A trial has logged the metric."""

    def left(self, row: Row) -> None:
        """A trial doesn't run any more, and has not ended either."""

    def retried(self, row: Row, outcome: Outcome) -> None:
        """A trial has failed and will be tried again."""
        self.left(row)
        self.say(f"trial {row.number} failed and will be tried again: {_short(outcome.error)}")

    def ended(self, row: Row) -> None:
        """A trial has ended for good."""
        self.left(row)
        if row.outcome is not None and row.outcome.status == "failed" and not row.stopped:
            self.say(f"trial {row.number} failed: {_short(row.outcome.error)}")


class Bars(Display):
    """Shows the sweep with a `ProgressManager`.

    Args:
        name: The sweep's name.
        limit: How many trials there are to be.
        done: Those that have ended already.
        metric: What is optimised.
        rows: Whether running trials get rows of their own; not where they have bars of their own in this process.
        say: Prints a line.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        done: Sequence[Row],
        metric: Metric | None,
        say: Callable[[str], None],
        *,
        rows: bool,
    ) -> None:
        super().__init__(say)
        self._name, self._limit, self._done, self._metric = name, limit, len(done), metric
        self._wants_rows = rows
        self._manager = ProgressManager()
        self._best: tuple[float, int] | None = None
        self._failed = 0
        self._task = 0
        self._free: list[int] = []
        for row in done:
            self._count(row)
        self._rows: dict[int, int] = {}

    def open(self) -> None:
        """Shows the sweep's row."""
        bar = self._manager.add_progress(_SWEEP, with_status=True)
        self._manager.add_progress(_TRIALS, with_status=True)
        self._manager.initialize()
        self._task = bar.add_task(self._name, total=self._limit, completed=self._done)  # the rate is that from now on

    def close(self) -> None:
        """Leaves the sweep's row on the screen."""
        for task in self._rows.values():
            self._hide(task)
        self._manager.cleanup()

    def began(self, row: Row) -> None:
        """Gives the trial a row."""
        if not self._wants_rows or len(self._rows) >= _ROWS:
            return
        bar = self._manager.progress_dict[_TRIALS]
        if not self._free:
            self._free.append(self._manager.add_task_to_progress("", None, visible=True, progress_name=_TRIALS))
        task = self._rows[row.number] = self._free.pop()
        bar.reset(task)  # type: ignore[arg-type]  # the row of one before it
        bar.update(task, description=f"trial {row.number}", status=_params(row.values), visible=True)  # type: ignore[arg-type]

    def reported(self, row: Row) -> None:
        """Shows the last value."""
        task = self._rows.get(row.number)
        if task is not None and row.latest is not None:
            self._manager.update(_TRIALS, task, f"{row.latest:.4g} · {_params(row.values)}")

    def left(self, row: Row) -> None:
        """Takes the row away."""
        task = self._rows.pop(row.number, None)
        if task is not None:
            self._hide(task)
            self._free.append(task)

    def ended(self, row: Row) -> None:
        """Moves the sweep on."""
        super().ended(row)
        if row.outcome is None or row.stopped:
            return
        self._count(row)
        parts = [f"best {self._best[0]:.4g} (trial {self._best[1]})" if self._best else ""]
        parts.append(f"{self._failed} failed" if self._failed else "")
        self._manager.advance(_SWEEP, self._task, status=" · ".join(part for part in parts if part))

    def _count(self, row: Row) -> None:
        outcome = row.outcome
        if outcome is None or row.stopped:
            return
        self._failed += outcome.status == "failed"
        value = outcome.value if outcome.status == "finished" else None
        metric = self._metric or Metric("objective")
        if value is not None and (self._best is None or metric.better(value, self._best[0])):
            self._best = (value, row.number)

    def _hide(self, task: int) -> None:
        self._manager.progress_dict[_TRIALS].update(task, visible=False)  # type: ignore[arg-type]


def _params(values: Mapping[str, Any]) -> str:
    pairs = (f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items())
    return _short(" ".join(pairs))


def _short(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 3 * _WIDTH else f"{line[: 3 * _WIDTH]}…"
