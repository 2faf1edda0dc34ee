"""Copy what a script logs with another library into its run's own record, while it runs."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ridgepole import rundir
from ridgepole.errors import RidgepoleError
from ridgepole.scripts.follow import EventSource, OpenFiles, Row, Source, WandbSource, own_files
from ridgepole.threads import start_thread

if TYPE_CHECKING:
    from ridgepole.loggers.local.jsonl_writer import JsonlWriter

log = logging.getLogger("ridgepole")

_POLL_SECONDS = 0.5
_FIRST_LOOK, _LONGEST_PAUSE = 1.0, 5.0
_SHARE = 0.01  # of the time, at most, for looks: many processes have many files open


def copying_environ() -> dict[str, str]:
    """Return the variable that has W&B's client write rows at once, not after 15 s or 32 KiB."""
    return {"WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "0.2"}


class LiveRecord:
    """Appends rows to a file of the run's record beside those of the script's own loggers.

    It takes neither their lock nor their sequence numbers, so that a script may open one at any
    time. The file is made with the first row. Rows of earlier attempts stay where the new ones
    continue behind step 0. Else the script has started over, and they are hidden.

    Args:
        directory: The run directory.
        attempt: The number of the attempt.
    """

    def __init__(self, directory: Path, *, attempt: int) -> None:
        self._directory, self._attempt = directory, attempt
        self._writer: JsonlWriter | None = None
        self._first = 0

    def append(self, row: Row) -> None:
        """Append the numbers of a row; a row without numbers is left out.

        Raises:
            LogWriteError: If it can't be written.
            RunDirError: If the file is not one of Ridgepole's.
        """
        numbers = row.numbers()
        if not numbers:
            return
        writer = self._writer or self._open(starts_over=self._attempt > 1 and not row.step)
        writer.clock = time.time if row.time is None else lambda: row.time or 0.0
        writer.append(numbers, row.step)

    def _open(self, *, starts_over: bool) -> JsonlWriter:
        from ridgepole.loggers.local.directory import COPIES_FIRST, COPIES_RANK, recover
        from ridgepole.loggers.local.jsonl_writer import JsonlWriter
        from ridgepole.metrics.steps import StepCounter
        from ridgepole.metrics.summary import Summary

        main = self._directory / rundir.METRICS
        self._writer = writer = JsonlWriter(main, StepCounter(), log, (0, 1))
        writer.become_rank(COPIES_RANK, rundir.COPIED.removeprefix("metrics").removesuffix(".jsonl"))
        self._first = writer.seq
        if starts_over:
            own, _ = recover(main, StepCounter(), Summary())
            for first, end in ((0, own.next), (COPIES_FIRST, self._first)):
                if first < end:
                    rundir.note_attempt(self._directory, self._attempt, end, first)
            writer.steps.load_state_dict({})
        return writer

    def hide(self) -> None:
        """Hide the rows of this attempt from readers; delete nothing.

        Raises:
            OSError: If `attempts.jsonl` can't be written.
        """
        if self._writer is not None and self._writer.seq > self._first:
            rundir.note_attempt(self._directory, self._attempt, self._writer.seq, self._first)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class OtherLibraries:
    """Follows the files of W&B's client and of TensorBoard that a running script writes.

    A thread looks for them among the files that the script and its children have open, ever more
    rarely, and copies what is added to those that it has found. At the end they are also found by
    the number of the script's process. W&B's rows count where there are both. Nothing counts where
    the script writes the run's record itself.

    Args:
        pid: The script's process, which has just started.
        directory: Its working directory.
        run_dir: Its run directory.
        attempt: The number of the attempt.
    """

    def __init__(self, pid: int, directory: Path, run_dir: Path, *, attempt: int) -> None:
        self._run_dir = run_dir
        self._before = self._own_bytes()
        self._files = OpenFiles(pid, directory, run_dir)
        self._sources: list[Source] = [WandbSource(self._files), EventSource(self._files)]
        self._chosen: Source | None = None
        self._live = LiveRecord(run_dir, attempt=attempt)
        self._useless = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="ridgepole-metrics", daemon=True)
        start_thread(self._thread)

    def close(self) -> None:
        """Copy what is missing. The script has ended."""
        self._ended.set()
        self._thread.join()
        self._files.search()
        self._copy(ended=True)
        self._live.close()

    def _follow(self) -> None:
        pause = _FIRST_LOOK
        due = time.monotonic() + pause
        while not self._ended.wait(_POLL_SECONDS):
            began = time.monotonic()
            if began >= due:
                self._files.look()
                ended = time.monotonic()
                pause = min(2 * pause, _LONGEST_PAUSE)
                due = ended + max(pause, (ended - began) / _SHARE)
            self._copy()

    def _copy(self, *, ended: bool = False) -> None:
        """Copy new rows; what can't be read or written ends the copying with a warning."""
        if self._useless:
            return
        try:
            if self._own_bytes() != self._before:
                self._useless = True
                self._live.hide()
            else:
                self._copy_rows(ended=ended)
        except (RidgepoleError, OSError) as error:
            self._useless = True
            log.warning("the script's metrics are not in its run: %s", error)

    def _copy_rows(self, *, ended: bool) -> None:
        for source in self._sources if self._chosen is None else [self._chosen]:
            for row in source.poll():
                self._append(row, source)
            if ended:
                for row in source.close():
                    self._append(row, source)
            if self._chosen is not None or (self._files.wandb and not ended):  # W&B's rows may still come
                return

    def _append(self, row: Row, source: Source) -> None:
        if row.numbers():
            self._chosen = source
            self._live.append(row)

    def _own_bytes(self) -> int:
        return sum(path.stat().st_size for path in own_files(self._run_dir))
