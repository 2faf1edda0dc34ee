"""The local record of a run: metrics, figures and messages in files of one directory."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.errors import LogWriteError, MissingExtraError, RunDirError, join_errors
from ridgepole.metrics.patterns import CurveFigurePattern
from ridgepole.metrics.steps import Metrics, Resolved, checked_step
from ridgepole.metrics.values import Scalar
from ridgepole.permanence import State, run_of, state_of
from ridgepole.permanences.loggers.base import BaseLoggerManager, LoggerSlot, slot_of
from ridgepole.permanences.loggers.figures.graph import Graph
from ridgepole.permanences.loggers.figures.names import checked_name
from ridgepole.permanences.loggers.figures.pending import FigureQueue
from ridgepole.permanences.loggers.figures.render import Rendered
from ridgepole.permanences.loggers.figures.render import close as close_figure
from ridgepole.permanences.loggers.journal import Journal
from ridgepole.permanences.loggers.media import MediaStore
from ridgepole.permanences.loggers.messages import FileHandler, checked_level, checked_theme, detach, make_log
from ridgepole.permanences.loggers.payloads import AnnotatedImage, Histogram, Table

MIN_FREE = 1 << 20  # bytes; with less than this the first figure fails
DEFAULT_DIR = "logs"


class BasicLogger(BaseLoggerManager):
    """Filesystem logger: metrics as JSON lines, figures as image files, messages to the terminal and to a file.

    When `log_metrics` returns, the record is with the operating system and survives any death of the process,
    `kill -9` included; it survives a loss of power once `checkpoint` or `flush(durable=True)` returned, or a few
    seconds later. Opening a directory again goes on behind its last step and hides nothing.

    The logger is safe to use from several threads. A forked child, or a copy in another process, writes a file of its
    own beside the first, and `read_metrics` reads them as one.

    Args:
        log_dir: Where everything goes; the run directory inside a run, `logs` in a plain script.
        metrics_filename: Name of the metrics file; `read_metrics(log_dir)` finds `metrics*.jsonl`.
        log_level: The least level of messages that is shown and kept: DEBUG, INFO, WARNING or ERROR.
        log_file: Name of the file of messages; None keeps none.
        theme: Rich styles of the levels on a terminal, such as `{"warning": "magenta"}`.

    Raises:
        ValueError: If the level, a theme's level or a file name is none.

    Attributes:
        log_dir: Where everything goes.
    """

    strict = True

    def __init__(
        self,
        log_dir: str | Path | None = None,
        metrics_filename: str = rundir.METRICS,
        log_level: str = "INFO",
        log_file: str | None = rundir.RUN_LOG,
        theme: Mapping[str, str] | None = None,
    ) -> None:
        if log_dir is None:
            run = run_of(self)
            log_dir = DEFAULT_DIR if run is None else run.run_dir
        self.log_dir = Path(log_dir)
        for argument, name in (("metrics_filename", metrics_filename), ("log_file", log_file)):
            if name is not None and (not name or name != Path(name).name or "\0" in name):
                raise ValueError(f"{argument} must be the plain name of a file in log_dir, not {name!r}")
        checked_level(log_level)
        checked_theme(theme)
        self._metrics_filename = metrics_filename
        self._log_level = log_level
        self._log_file = log_file
        self._theme = dict(theme) if theme else None
        self._journal: Journal | None = None
        self._media: MediaStore | None = None
        self._figures: FigureQueue | None = None
        self._finalizer: weakref.finalize[..., BasicLogger] | None = None
        self._block: tuple[int, int] | None = None  # of a copy: the sequence numbers that it was given

    def __getstate__(self) -> dict[str, Any]:
        block = self._journal.reserve() if self._journal is not None else None
        return self.__dict__ | {
            "_journal": None, "_media": None, "_figures": None, "_finalizer": None, "_block": block,
        }  # fmt: skip

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Makes the directory, takes it for this logger and opens the files.

        Raises:
            RunDirError: If the directory can't be written, is full, or belongs to another logger.
        """
        directory = self.log_dir.absolute()  # a later chdir must not move the record
        self._check_directory(directory)
        log = self._log()
        try:
            if self._log_file is not None:
                handler = FileHandler(directory / self._log_file)
                self.defer(detach, log)
                log.addHandler(handler)
            journal = Journal(directory / self._metrics_filename, slot_of(self).steps, log, self._block)
        except RunDirError:
            raise
        except OSError as error:
            raise RunDirError(f"can't log to {self.log_dir}: {error.strerror or error} ({error.filename})") from error
        self._media = MediaStore(directory, journal)
        # For a logger that nobody cleans up: its files are closed, and the directory free, as soon as it is gone.
        slot = slot_of(self)
        self._figures = FigureQueue(log, slot.count_dropped)
        self._finalizer = weakref.finalize(self, _abandon, journal, slot, self._figures)
        self._journal = journal

    def _check_directory(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            usage = os.statvfs(directory)
        except OSError as error:
            what = "is a file, not a directory" if error.errno == errno.EEXIST else error.strerror or str(error)
            raise RunDirError(f"log_dir={str(self.log_dir)!r} can't be made: {what}; choose another log_dir") from error
        if not os.access(directory, os.W_OK | os.X_OK):
            raise RunDirError(
                f"log_dir={str(self.log_dir)!r} can't be written; choose another, or change its permissions"
            )
        if usage.f_bavail * usage.f_frsize < MIN_FREE:
            raise RunDirError(f"log_dir={str(self.log_dir)!r} is on a full disk; free some space, or choose another")

    def validate(self) -> None:
        """Checks that the directory is there, writable and not full.

        Raises:
            RunDirError: If it is not.
        """
        self._check_directory(self.log_dir.absolute())

    def checkpoint(self) -> None:
        """Brings everything logged to the disk and renews `summary.json`.

        Raises:
            LogWriteError: If that fails.
        """
        journal = self._journal
        if journal is not None:
            self.flush(durable=True)
            journal.write_summary(slot_of(self).dropped)

    def cleanup(self) -> None:
        """Brings everything to the disk, writes `summary.json`, closes the files and gives the directory back.

        Raises:
            LogWriteError: If what was logged did not reach the disk; the files are closed all the same.
        """
        journal, media, figures = self._journal, self._media, self._figures
        self._journal = self._media = self._figures = None
        if self._finalizer is not None:
            self._finalizer.detach()
        errors: list[BaseException] = []
        if journal is not None and media is not None and figures is not None:
            summarize = lambda: journal.write_summary(slot_of(self).dropped)  # noqa: E731 - once the others are done
            for close_down in (figures.close, journal.sync, media.sync, summarize):
                try:
                    close_down()
                except Exception as error:  # noqa: BLE001 - the next one must have its turn
                    errors.append(error)
            media.close()
            journal.close()
        detach(self._log())
        if errors:
            raise join_errors(errors, f"several errors while the record in {self.log_dir} was closed")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this logger: where its steps and its numbers stand."""
        journal = self._journal
        return super().state_dict() | {"seq": journal.seq if journal else 0}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint: what was logged after it is hidden from readers, nothing is deleted.

        Args:
            state: What `state_dict` gave; an empty one is that of the beginning.

        Raises:
            LogWriteError: If that can't be written down.
        """
        journal, run = self._opened(), run_of(self)
        journal.rewind(int(state["seq"]) if "seq" in state else None, 1 if run is None else run.attempt)
        super().load_state_dict(state)

    def get_state(self) -> dict[str, Any]:
        """Where it logs to, its step, the next sequence number, and what it has counted."""
        journal, slot = self._journal, slot_of(self)
        return {
            "log_dir": str(self.log_dir),
            "global_step": slot.steps.global_step,
            "last_step": slot.steps.last_step,
            "seq": journal.seq if journal else 0,
            "records": journal.records if journal else 0,
            "figures": self._media.count if self._media else 0,
            "dropped": slot.dropped,
        }

    def _opened(self) -> Journal:
        """The journal; a logger that was never initialised is now."""
        journal = self._journal
        if journal is None:
            with slot_of(self).lock:  # of several threads one initialises, the others wait for it
                journal = self._journal
                if journal is None:
                    self.initialize()
                    journal = self._journal
        assert journal is not None
        return journal

    # -- metrics -----------------------------------------------------------------------------------------------------

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Logs metrics; when this returns they survive any death of the process.

        Args:
            metrics: As in `BaseLoggerManager.log_metrics`.
            step: As in `BaseLoggerManager.log_metrics`.

        Raises:
            TypeError: If a value can't be logged; it names the key, and nothing is logged.
            ValueError: If names collide once flattened, or the step is negative.
            LogWriteError: If the record did not reach the operating system; the step is unchanged.
        """
        (self._journal or self._opened()).append(metrics, step)

    def _log_resolved(self, metrics: Metrics, step: int | None) -> Resolved:
        made = self._opened().append_planned(metrics, step)
        return metrics if isinstance(metrics, Resolved) else Resolved(made)

    @property
    def global_step(self) -> int:
        """The step that the next advancing call takes; known once the directory is open, which this sees to."""
        if self._journal is None and state_of(self) is State.CONSTRUCTED:
            self._opened()
        return slot_of(self).steps.global_step

    def flush(self, durable: bool = False) -> None:
        """Has the figures drawn that wait for it; metrics are with the operating system at once.

        Those from a GPU are as soon as it has come to them; this waits for that, 30 seconds at most.

        Args:
            durable: Whether to wait until all of it is on the disk.

        Raises:
            LogWriteError: If the disk reports a failure, of this or of a periodic sync before it, or a figure could
                not be written.
        """
        journal, media = self._journal, self._media
        self._drain()
        if durable and journal is not None and media is not None:
            journal.sync()
            media.sync()

    def latest(self, name: str) -> tuple[int, Any]:
        """How many values of a metric there were and the last of them; cheap enough for every step."""
        return (0, None) if self._journal is None else self._journal.summary.latest(name)

    def summary(self) -> dict[str, Any]:
        """What `summary.json` holds, as of now."""
        journal = self._opened()
        journal.drain()
        return journal.describe(slot_of(self).dropped)

    def _history(self, pattern: CurveFigurePattern) -> Mapping[str, tuple[Any, Any]]:
        self._opened().drain()
        try:
            import polars as pl
        except ImportError as error:
            raise MissingExtraError("polars", "plots", "log_metric_figure") from error
        from ridgepole.metrics.reader import read_metrics

        default = self._metrics_filename == rundir.METRICS
        frame = read_metrics(self.log_dir if default else self.log_dir / self._metrics_filename)
        frame = frame.filter(pl.col("value").is_not_null())
        names = frame["name"].unique(maintain_order=True).to_list()
        chosen = [name for name in names if any(fnmatch.fnmatchcase(name, glob) for glob in pattern.metrics)]
        if not chosen:
            shown = ", ".join(map(repr, names[:20])) or "nothing yet"
            raise ValueError(f"{pattern.name!r} draws {', '.join(pattern.metrics)}; logged so far: {shown}")
        parts = {name: frame.filter(pl.col("name") == name) for name in chosen}
        return {name: (part["step"].to_numpy(), part["value"].to_numpy()) for name, part in parts.items()}

    # -- figures -----------------------------------------------------------------------------------------------------

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Draws a figure to `figures/` and notes it in `media.jsonl`.

        A figure that can't be drawn is reported with `error` and counted, and does not stop the run. The first few
        figures are drawn before this returns; in a longer run a process of its own draws them, from what the figure is
        when this is called. `flush`, `checkpoint` and `cleanup` wait for it.

        Args:
            name: Any text; it is stored as it is, and only a readable part of it is used for the file.
            figure: A matplotlib or plotly figure, Axes, a seaborn grid, a PIL image, or an array or tensor of shape
                (height, width) or with 1, 3 or 4 channels. Drawn on a canvas in memory, whatever backend is set.
            step: The step that it belongs to; that of the latest metrics where left out.
            close: Whether pyplot is to forget the figure afterwards, as it belongs to the logger now.

        Raises:
            TypeError: If the name is no text, or the figure of an unknown type.
            ValueError: If an array has a shape that is no image.
            LogWriteError: If the file, or that of a figure before, can't be written.
        """
        checked_name(name)
        at = checked_step(step)
        store, at = self._store(), self.last_step if at is None else at
        try:
            self._draw_then(name, figure, lambda rendered: store.save(name, rendered, at))
        finally:
            if close:
                close_figure(figure)

    def _draw_then(self, name: str, figure: Any, deliver: Callable[[Rendered], object]) -> bool:
        self._opened()
        assert self._figures is not None
        return self._figures.add(name, figure, deliver)

    def _drain(self) -> None:
        figures, journal = self._figures, self._journal
        try:
            if figures is not None:
                figures.drain()
        finally:
            if journal is not None:
                journal.drain()

    def log_rendered(self, name: str, rendered: Rendered, *, step: int | None = None) -> None:
        """Writes a figure that was drawn already; arguments and errors as in `log_figure`."""
        checked_name(name)
        self._store().save(name, rendered, self.last_step if step is None else step)

    def log_seaborn_graph(self, name: str, data: Any, x: Any = None, y: Any = None, kind: str = "line") -> None:
        """As in `BaseLoggerManager.log_seaborn_graph`; the whole data is kept in a parquet file beside the picture."""
        checked_name(name)
        graph, at = self._build_graph(name, data, x, y, kind), self.last_step
        if graph is not None:
            self._draw_then(name, graph.figure, lambda rendered: self._log_graph(name, rendered, graph, at))

    def _log_graph(self, name: str, rendered: Rendered, graph: Graph, step: int) -> None:
        def write(path: Path) -> bool:
            try:
                graph.table.write(path)
            except OSError:
                raise
            except Exception as error:  # noqa: BLE001 - polars' own errors; the picture is there all the same
                self.warning("the data of the graph %r could not be kept: %s", name, error)
                return False
            return True

        extra = {"rows": graph.table.rows, "drawn": graph.drawn}
        self._store().save(name, rendered, step, data=write, extra=extra)

    # -- further media -----------------------------------------------------------------------------------------------

    def _log_image(self, name: str, image: AnnotatedImage, step: int) -> None:
        self._store().save_image(name, image, step)

    def _log_table(self, name: str, table: Table, step: int) -> None:
        self._store().save_table(name, table, step)

    def _log_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        self._store().save_histogram(name, histogram, step)

    def _log_text(self, name: str, text: str, step: int) -> None:
        self._store().save_text(name, text, step)

    def _log_hparams(self, params: dict[str, Scalar | None], metrics: dict[str, float]) -> None:
        self._store().save_hparams(params, metrics)

    def _store(self) -> MediaStore:
        self._opened()
        assert self._media is not None
        return self._media

    # -- messages ----------------------------------------------------------------------------------------------------

    def _say(self, level: int, message: object, args: tuple[object, ...], *, terminal: bool = True) -> None:
        if self._journal is None and state_of(self) is State.CONSTRUCTED:
            self._opened()
        super()._say(level, message, args, terminal=terminal)

    def _log(self) -> logging.Logger:
        slot = slot_of(self)
        if slot.log is None:
            with slot.lock:
                if slot.log is None:
                    slot.log = make_log(f"ridgepole.{type(self).__name__}", self._log_level, self._theme)
        return slot.log


def _abandon(journal: Journal, slot: LoggerSlot, figures: FigureQueue) -> None:
    """Closes the journal of a logger that nobody cleaned up, once its figures are drawn."""
    with contextlib.suppress(Exception):
        figures.close()
    with contextlib.suppress(LogWriteError):
        journal.drain()
    with contextlib.suppress(LogWriteError):
        journal.write_summary(slot.dropped)
    journal.close()
