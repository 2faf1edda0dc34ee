"""Copy the metrics that a script logs with another library into its run's own record."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path

from ridgepole import rundir
from ridgepole.errors import RidgepoleError
from ridgepole.scripts.follow import EventSource, OpenFiles, WandbSource
from ridgepole.threads import start_thread

log = logging.getLogger("ridgepole")

_FIRST_LOOK, _LONGEST_PAUSE = 1.0, 30.0


def keep_history(path: Path, rows: Iterable[tuple[dict[str, float], int | None]], *, attempt: int) -> None:
    """Write rows of metrics into a run's record.

    Those of earlier attempts stay where the rows continue behind them. Else this attempt has
    started over, and hides them.
    """
    kept = [row for row in rows if row[0]]
    if not kept:
        return
    from ridgepole.loggers.local.logger import BasicLogger

    with BasicLogger(path, log_file=None) as logger:
        if attempt > 1 and not kept[0][1]:
            logger.load_state_dict({})
        for metrics, step in kept:
            logger.log_metrics(metrics, step=step)


class OtherLibraries:
    """The files in which a running script logs metrics with W&B's client or for TensorBoard.

    A thread looks for them among the files that the script and its children have open, ever more
    rarely. At the end they are also found by the number of the script's process.

    Args:
        pid: The script's process, which has just started.
        directory: Its working directory.
        run_dir: Its run directory.
    """

    def __init__(self, pid: int, directory: Path, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._before = self._own_bytes()
        self._files = OpenFiles(pid, directory, run_dir)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="ridgepole-metrics", daemon=True)
        start_thread(self._thread)

    def copy(self, attempt: int) -> None:
        """Write the metrics into the run's record, unless the script has written it itself.

        A file that can't be read, or a package for it that is missing, is logged as a warning.
        """
        self._ended.set()
        self._thread.join()
        if self._own_bytes() != self._before:
            return
        try:
            self._files.search()
            for source in (WandbSource(self._files), EventSource(self._files)):
                for _ in source.poll():
                    pass
                rows = [row for row in source.history() if row[0]]
                if rows:
                    keep_history(self._run_dir, rows, attempt=attempt)
                    return
        except (RidgepoleError, OSError) as error:
            log.warning("the script's metrics are not in its run: %s", error)

    def _own_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._run_dir.glob(rundir.METRICS_GLOB))

    def _look(self) -> None:
        pause = _FIRST_LOOK
        while not self._ended.wait(pause):
            self._files.look()
            pause = min(2 * pause, _LONGEST_PAUSE)
