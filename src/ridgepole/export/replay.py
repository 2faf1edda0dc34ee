"""Gives a logger everything that the local record of a run holds, as if it had been there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ridgepole.errors import add_note_once
from ridgepole.export.media import Unreadable, read_hparams, replay_media, weight
from ridgepole.export.record import Line, LocalRecord
from ridgepole.metrics.steps import Plan, Resolved, Row
from ridgepole.permanences.loggers.base import BaseLoggerManager
from ridgepole.permanences.loggers.group import LoggerGroup

FLUSH_LINES, FLUSH_BYTES = 1000, 8 << 20
"""After so much a logger is flushed: one with a queue, which drops what a live run gives it too fast, keeps up."""


@dataclass(frozen=True, slots=True)
class Refilled:
    """What was replayed.

    Attributes:
        records: How many records of metrics; one call of `log_metrics` is one for each distinct step.
        media: How many figures, tables, texts, histograms and hyperparameters.
        skipped: What could not be taken along, one sentence each.
        bad: How many unreadable or torn lines were passed over.
        hidden: How many lines of abandoned segments were left out.
        next_seq: The sequence number behind the last line; give it as `first_seq` to go on from here.
    """

    records: int
    media: int
    skipped: tuple[str, ...]
    bad: int
    hidden: int
    next_seq: int


def refill(directory: str | Path, logger: BaseLoggerManager, *, first_seq: int = 0) -> Refilled:
    """Replays the local record of a run into a logger: metrics, figures and other media, in the order of logging.

    Steps are those of the record. A logger that has a method `set_wall_time(seconds)` is told when each record was
    logged first, in seconds since the epoch, and None at the end. Segments that a resume abandoned are left out. The
    run is only read, also while it goes on: what is logged after the last line was read is not taken along.

    Args:
        directory: A run directory, or the `log_dir` of a BasicLogger.
        logger: Where to; its lifecycle is the caller's. What it holds already stays, so give a fresh one, or say
            with `first_seq` from where on it lacks something.
        first_seq: The first sequence number to replay.

    Returns:
        What was replayed.

    Raises:
        RunDirError: If the directory holds no record.
        ValueError: If the logger writes to this directory itself.
        Exception: Whatever the logger raises, with a note of where the replay stood.
    """
    directory = Path(directory)
    _refuse_itself(directory, logger)
    record = LocalRecord(directory, first_seq)
    replay = _Replay(directory, logger)
    seq = first_seq - 1
    try:
        for line in record:
            seq = line["seq"]
            replay.give(line)
        replay.give_hparams()
        logger.flush()
    except Exception as error:
        add_note_once(error, f"while seq {seq} of {directory} was replayed into {type(logger).__name__}")
        raise
    finally:
        replay.end()
    bad = record.bad + record.torn
    return Refilled(replay.records, replay.media, tuple(replay.skipped), bad, record.hidden, seq + 1)


class _Replay:
    """A replay that is going on."""

    def __init__(self, directory: Path, logger: BaseLoggerManager) -> None:
        self.records = self.media = 0
        self.skipped: list[str] = []
        self._directory = directory
        self._logger = logger
        self._tell_time: Callable[[float | None], None] | None = getattr(logger, "set_wall_time", None)
        self._told = False
        self._lines = self._bytes = 0

    def give(self, line: Line) -> None:
        """Gives the logger one line of the record."""
        if self._tell_time is not None:
            self._tell_time(line["time"])
            self._told = True
        if "metrics" in line:
            self._logger.log_metrics(resolved(line))
            self.records += 1
        else:
            with self._skipping(f"{line['kind']} {line.get('name', '')!r} of step {line['step']}"):
                replay_media(self._directory, line, self._logger)
                self.media += 1
        self._lines += 1
        self._bytes += weight(line)
        if self._lines >= FLUSH_LINES or self._bytes >= FLUSH_BYTES:
            self._logger.flush()
            self._lines = self._bytes = 0

    def give_hparams(self) -> None:
        """Gives the logger the hyperparameters; last, so that what the run is compared by stands behind its curves."""
        with self._skipping("hyperparameters"):
            params, metrics = read_hparams(self._directory)
            if params or metrics:
                self._logger._log_hparams(params, metrics)  # noqa: SLF001 - they are in the form of the hooks already
                self.media += 1

    def end(self) -> None:
        """Gives the logger its own clock back; one that could not even be opened is not asked again."""
        if self._tell_time is not None and self._told:
            self._tell_time(None)

    @contextlib.contextmanager
    def _skipping(self, what: str) -> Iterator[None]:
        try:
            yield
        except Unreadable as reason:
            self.skipped.append(f"{what}: {reason}")


def resolved(line: Line) -> Resolved:
    """A line of a metrics file as what the loggers of a run are given."""
    row = Row(line["step"])
    row.metrics = line["metrics"]
    row.words = {kind: line[kind] for kind in ("pattern", "stage", "split") if kind in line}
    return Resolved(Plan([row], row.step + 1, row.step))


def _refuse_itself(directory: Path, logger: BaseLoggerManager) -> None:
    for member in logger.loggers if isinstance(logger, LoggerGroup) else (logger,):
        own = getattr(member, "log_dir", None)
        if own is not None and Path(own).resolve() == directory.resolve():
            raise ValueError(f"{type(member).__name__} writes to {directory} itself: it would read what it writes")
