"""Where the trials of a sweep come from: drawn by the sweep itself, or given by somebody else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ridgepole.sweeps.outcome import Outcome

if TYPE_CHECKING:
    from ridgepole.sweeps.ledger import Ledger
    from ridgepole.sweeps.rows import Row


class Source:
    """Draws trials by the sweep's own method, up to a limit; the base of what gets them from elsewhere.

    Args:
        ledger: The sweep's trials.
        limit: How many there are to be in all.

    Attributes:
        prunes: Whether somebody else decides which trials are stopped early.
        dry: Whether there will be no further trial.
    """

    prunes = False

    def __init__(self, ledger: Ledger, limit: int) -> None:
        self.ledger, self.limit = ledger, limit
        self.dry = False

    def next(self) -> Row | None:
        """A new trial; None where there is none now.

        Raises:
            SweepError: If the storage can't be used.
        """
        row = self.ledger.create() if len(self.ledger.rows) < self.limit else None
        self.dry = row is None
        return row

    def wait(self, timeout: float) -> None:
        """Waits for the next trial, `timeout` seconds at most; nothing runs meanwhile.

        Raises:
            SweepError: If it has been waited for long enough.
        """
        time.sleep(timeout)

    def pump(self) -> None:
        """Takes in what has been said meanwhile; called often, also while a trial runs."""

    def reported(self, row: Row, values: tuple[float, ...], seen: int) -> None:
        """A trial has logged values of the metric, and had logged `seen` before."""

    def ended(self, row: Row, outcome: Outcome) -> None:
        """A trial has ended for good."""

    def close(self) -> None:
        """The sweep ends."""
