"""The local record of a run: metrics, figures and messages in files of one directory."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time
from typing import Any, ClassVar, Literal

from ridgepole import rundir
from ridgepole.errors import LogWriteError, MissingExtraError, RunDirError, join_errors
from ridgepole.launch import global_rank
from ridgepole.loggers.append_file import write_error
from ridgepole.loggers.base import BaseLoggerManager, matching_metrics
from ridgepole.loggers.figures.graph import Graph
from ridgepole.loggers.figures.queue import FigureQueue
from ridgepole.loggers.figures.render import close as close_figure
from ridgepole.loggers.local.directory import (
    DEFAULT_DIR,
    EXIST,
    RANK_SUFFIX,
    RANKS,
    DirectoryInUseError,
    check_directory,
    choose_directory,
    free_directory,
    log_directory,
)
from ridgepole.loggers.local.jsonl_writer import JsonlWriter, SilentWriter
from ridgepole.loggers.local.media import MediaStore, SilentStore
from ridgepole.loggers.media_types import AnnotatedImage, Histogram, MediaFile, RenderedFigure, Table
from ridgepole.loggers.messages import ExcInfo, FileHandler, checked_file_name, checked_level, checked_theme, detach
from ridgepole.loggers.slot import LoggerSlot, slot_of
from ridgepole.metrics.convert import Scalar
from ridgepole.metrics.patterns import CurveFigurePattern
from ridgepole.metrics.steps import Metrics, Resolved, checked_step
from ridgepole.metrics.summary import goals_of
from ridgepole.permanence import State, run_of, state_of
from ridgepole.watch.alerts import Alerting, Level, append_alert, new_alert


class BasicLogger(BaseLoggerManager):
    """Filesystem logger: metrics as JSON lines, figures as images, messages to terminal and file.

    When `log_metrics` returns, the record is with the operating system and survives any death of
    the process, `kill -9` included. It survives a loss of power once `checkpoint` or
    `flush(durable=True)` has returned, or a few seconds later. Reopening a directory continues
    after its last step and hides nothing.

    The logger is safe to use from several threads. A forked child, or a copy in another process,
    writes a file of its own beside the first, and `read_metrics` reads them as one.

    Args:
        log_dir: Directory of all files; by default the run directory, in a plain script `logs`.
        metrics_filename: Name of the metrics file; `read_metrics(log_dir)` finds `metrics*.jsonl`.
        log_level: The least level of messages that is shown and kept: DEBUG, INFO, WARNING or
            ERROR.
        log_file: Name of the file of messages; None keeps none.
        theme: Rich styles of the levels on a terminal, such as `{"warning": "magenta"}`.
        exist: What a plain script does with a directory that holds a record: `"resume"` continues
            it as a new attempt, `"new"` takes the first unused directory beside it (`logs-2`),
            `"error"` refuses it.
        purge_step: Hide what an earlier attempt logged at this step or later from readers, and
            continue from there; nothing is deleted. For a plain script that resumes.
        ranks: What a plain script does on ranks other than 0 of a distributed launch: `"zero"`
            writes nothing there, `"all"` writes `metrics-rank-1.jsonl` and so on.

    Raises:
        ValueError: If the level, a level of the theme, a file name, `exist`, `purge_step` or
            `ranks` is invalid, or `log_dir` is the address of a remote store.

    Attributes:
        log_dir: Directory of all files.
    """

    strict = True
    is_local_record: ClassVar[bool] = True

    def __init__(
        self,
        log_dir: str | Path | None = None,
        metrics_filename: str = rundir.METRICS,
        log_level: str = "INFO",
        log_file: str | None = rundir.RUN_LOG,
        theme: Mapping[str, str] | None = None,
        *,
        exist: Literal["resume", "new", "error"] = "resume",
        purge_step: int | None = None,
        ranks: Literal["zero", "all"] = "zero",
    ) -> None:
        for argument, given, known in (("exist", exist, EXIST), ("ranks", ranks, RANKS)):
            if given not in known:
                raise ValueError(f"{argument} must be one of {', '.join(known)}, not {given!r}")
        if log_dir is None:
            run = run_of(self)
            log_dir = DEFAULT_DIR if run is None else run.run_dir
        self.log_dir = log_directory(log_dir)
        checked_file_name("metrics_filename", metrics_filename)
        checked_file_name("log_file", log_file)
        checked_level(log_level)
        checked_theme(theme)
        self._metrics_filename = metrics_filename
        self._log_level = log_level
        self._log_file = log_file
        self._theme = dict(theme) if theme else None
        self._exist = exist
        self._purge_step = checked_step(purge_step)
        self._all_ranks = ranks == "all"
        self._rank = global_rank() if run_of(self) is None else 0
        self._writer: JsonlWriter | None = None
        self._media: MediaStore | None = None
        self._figures: FigureQueue | None = None
        self._finalizer: weakref.finalize[..., BasicLogger] | None = None
        self._block: tuple[int, int] | None = None  # sequence numbers of a copy

    def __getstate__(self) -> dict[str, Any]:
        block = self._writer.reserve() if self._writer is not None else None
        return self.__dict__ | {
            "_writer": None, "_media": None, "_figures": None, "_finalizer": None, "_block": block,
        }  # fmt: skip

    # -- lifecycle ---------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Make the directory, lock it for this logger and open the files.

        Raises:
            RunDirError: If the directory can't be written, is full, or belongs to another logger.
        """
        log, slot = self._log(), slot_of(self)
        writer: JsonlWriter
        if self._is_silent:
            writer = SilentWriter(Path(os.devnull), slot.steps, log, (0, 1 << 52))
            self._media = SilentStore(self.log_dir, writer)
        else:
            directory = self.log_dir.absolute()  # a later chdir must not move the record
            in_script = run_of(self) is None and self._block is None and not self._rank
            if in_script and self._exist != "resume":
                directory = self.log_dir = choose_directory(directory, self._metrics_filename, self._exist)
            check_directory(directory, str(self.log_dir))
            try:
                writer = self._open_files(directory, in_script=in_script)
            except RunDirError:
                raise
            except OSError as error:
                reason = f"{error.strerror or error} ({error.filename})"
                raise RunDirError(f"can't log to {self.log_dir}: {reason}") from error
            self._media = MediaStore(directory, writer)
        self._figures = FigureQueue(log, slot.count_dropped)
        # If no code cleans this logger up, its files are closed once it is gone.
        self._finalizer = weakref.finalize(self, _abandon, writer, slot, self._figures)
        self._writer = writer

    def _open_files(self, directory: Path, *, in_script: bool) -> JsonlWriter:
        log, steps, run = self._log(), slot_of(self).steps, run_of(self)
        path = directory / self._metrics_filename
        goals = {} if run is None else goals_of(run.config)
        if self._log_file is not None:
            file = Path(self._log_file)
            name = f"{file.stem}{RANK_SUFFIX}{self._rank}{file.suffix}" if self._rank else file.name
            handler = FileHandler(directory / name)
            self.defer(detach, log)
            log.addHandler(handler)
        if self._rank and self._block is None:
            writer = JsonlWriter(path, steps, log, (0, 1), goals)
            writer.become_rank(self._rank)
            return writer
        try:
            writer = JsonlWriter(path, steps, log, self._block, goals)
        except DirectoryInUseError:
            if not free_directory(self, directory):
                raise
            writer = JsonlWriter(path, steps, log, self._block, goals)
        if in_script:
            try:
                writer.note_reopened(self._purge_step)
            except BaseException:
                writer.close()
                raise
        return writer

    @property
    def _is_silent(self) -> bool:
        return bool(self._rank) and not self._all_ranks

    def validate(self) -> None:
        """Check that the directory exists, is writable and not full.

        Raises:
            RunDirError: If it is not usable.
        """
        if not self._is_silent:
            check_directory(self.log_dir.absolute(), str(self.log_dir))

    def checkpoint(self) -> None:
        """Bring everything logged to the disk and renew `summary.json`.

        Raises:
            LogWriteError: If that fails.
        """
        if self._writer is not None:
            self.flush(durable=True)
            self._writer.write_summary(slot_of(self).dropped)

    def cleanup(self) -> None:
        """Bring everything to the disk, write `summary.json`, and close the files.

        Raises:
            LogWriteError: If records did not reach the disk; the files are closed all the same.
        """
        writer, media, figures = self._writer, self._media, self._figures
        self._writer = self._figures = None
        if self._finalizer is not None:
            self._finalizer.detach()
        errors: list[BaseException] = []
        if writer is not None and media is not None and figures is not None:
            summarize = lambda: writer.write_summary(slot_of(self).dropped)  # noqa: E731 - counts the steps before
            for close_down in (figures.close, writer.sync, media.sync, summarize):
                try:
                    close_down()
                except Exception as error:  # noqa: BLE001 - collected; the next step must run
                    errors.append(error)
            media.close()
            writer.close()
        self._media = None  # not before: graphs that waited until now are stored there
        detach(self._log())
        if errors:
            raise join_errors(errors, f"several errors while the record in {self.log_dir} was closed")

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores of this logger: its steps and sequence number."""
        return super().state_dict() | {"seq": self._writer.seq if self._writer else 0}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint: hide later records from readers, delete nothing.

        Args:
            state: The result of `state_dict`; an empty one returns to the beginning.

        Raises:
            LogWriteError: If `attempts.jsonl` can't be written.
        """
        writer, run = self._opened(), run_of(self)
        writer.rewind(int(state["seq"]) if "seq" in state else None, 1 if run is None else run.attempt)
        super().load_state_dict(state)

    def hide_from(self, step: int) -> None:
        """Hide what was logged at a step or later from readers; delete nothing.

        Raises:
            LogWriteError: If `attempts.jsonl` can't be written.
        """
        writer, run = self._opened(), run_of(self)
        try:
            writer.hide_from(step, 1 if run is None else run.attempt)
        except OSError as error:
            raise write_error(error, self.log_dir / rundir.ATTEMPTS) from error

    def get_state(self) -> dict[str, Any]:
        """Return the directory, the steps, the next sequence number and the counts."""
        writer, slot = self._writer, slot_of(self)
        return {
            "log_dir": str(self.log_dir),
            "global_step": slot.steps.global_step,
            "last_step": slot.steps.last_step,
            "seq": writer.seq if writer else 0,
            "records": writer.records if writer else 0,
            "figures": self._media.count if self._media else 0,
            "dropped": slot.dropped,
        }

    def _opened(self) -> JsonlWriter:
        """Return the writer; initialize the logger if that has not happened."""
        if self._writer is None:
            with slot_of(self).lock:  # one of several threads initializes, the others wait
                if self._writer is None:
                    self.initialize()
        assert self._writer is not None
        return self._writer

    def _open_if_new(self) -> None:
        if self._writer is None and state_of(self) is State.CONSTRUCTED:
            self._opened()

    # -- metrics -----------------------------------------------------------------------------------

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Log metrics; when this returns they survive any death of the process.

        Arguments as in `BaseLoggerManager.log_metrics`.

        Raises:
            TypeError: If the metrics are of another type, or a name is not text; nothing is logged.
            ValueError: If a name is empty, names collide once flattened, or the step is negative.
            LogWriteError: If the record did not reach the operating system; the step is unchanged.
        """
        notes = (self._writer or self._opened()).append(metrics, step)
        if notes and not isinstance(metrics, Resolved):
            self._say_as_text(notes, "log_metrics")

    def _log_resolved(self, metrics: Metrics, step: int | None) -> Resolved:
        made = self._opened().append_planned(metrics, step)
        if made.notes and not isinstance(metrics, Resolved):
            self._say_as_text(made.notes, "log_metrics")
        return metrics if isinstance(metrics, Resolved) else Resolved(made)

    @property
    def global_step(self) -> int:
        """The step that the next advancing call takes; opens the directory to know it."""
        self._open_if_new()
        return slot_of(self).steps.global_step

    @property
    def last_step(self) -> int:
        """The step of the latest advancing call; opens the directory to know it."""
        self._open_if_new()
        return slot_of(self).steps.last_step

    def flush(self, durable: bool = False) -> None:
        """Draw the pending figures, and wait up to 30 seconds for values on a GPU.

        Other metrics are with the operating system already.

        Args:
            durable: Whether to wait until everything is on the disk.

        Raises:
            LogWriteError: If the disk reports a failure, now or in a periodic sync before, or a
                figure could not be written.
        """
        writer, media = self._writer, self._media
        self._drain()
        if durable and writer is not None and media is not None:
            writer.sync()
            media.sync()

    def set_wall_time(self, seconds: float | None) -> None:
        """Set the time of the next records, to replay logs: seconds since the epoch, or None."""
        self._opened().clock = time if seconds is None else lambda: seconds

    def latest(self, name: str) -> tuple[int, Any]:
        """Return the count of a metric's values and the last one; cheap enough for every step."""
        return (0, None) if self._writer is None else self._writer.summary.latest(name)

    def tally(self, name: str) -> tuple[int, int, Any]:
        """Return how many values a metric has, how many are not finite, and the last one."""
        return (0, 0, None) if self._writer is None else self._writer.summary.tally(name)

    def metric_names(self) -> list[str]:
        """Return the names of the metrics that were logged so far."""
        return [] if self._writer is None else self._writer.summary.names()

    def summary(self) -> dict[str, Any]:
        """Return the content of `summary.json`, as of now."""
        writer = self._opened()
        writer.drain()
        return writer.describe(slot_of(self).dropped)

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
        chosen = matching_metrics(pattern, frame["name"].unique(maintain_order=True))
        parts = {name: frame.filter(pl.col("name") == name) for name in chosen}
        return {name: (part["step"].to_numpy(), part["value"].to_numpy()) for name, part in parts.items()}

    # -- figures -----------------------------------------------------------------------------------

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Draw a figure to `figures/` and add it to `media.jsonl`.

        A figure that can't be drawn is reported with `error` and counted, and does not stop the
        run. The first few figures are drawn before this returns. In a longer run a process of its
        own draws them, as they are at the time of the call; `flush`, `checkpoint` and `cleanup`
        wait for it. Figures are drawn in memory, whatever backend is set.

        Arguments as in `BaseLoggerManager.log_figure`.

        Raises:
            TypeError: If the name is not text, or the figure is of an unsupported type.
            ValueError: If an array does not have the shape of an image.
            LogWriteError: If this file, or that of an earlier figure, can't be written.
        """
        name, at = self._named("a figure", name, step)
        store = self._store()
        try:
            self._draw_then(name, figure, lambda rendered: store.save(name, rendered, at))
        finally:
            if close:
                close_figure(figure)

    def _draw_then(self, name: str, figure: Any, deliver: Callable[[RenderedFigure], object]) -> bool:
        self._opened()
        assert self._figures is not None
        if self._is_silent:
            return True
        return self._figures.add(name, figure, deliver)

    def _drain(self) -> None:
        figures, writer = self._figures, self._writer
        try:
            if figures is not None:
                figures.drain()
        finally:
            if writer is not None:
                writer.drain()

    def log_rendered(self, name: str, rendered: RenderedFigure, *, step: int | None = None) -> None:
        """Write a drawn figure; arguments and errors as in `log_figure`."""
        name, at = self._named_figure(name, rendered, step)
        self._store().save(name, rendered, at)

    def log_seaborn_graph(
        self,
        name: str,
        data: Any,
        x: Any = None,
        y: Any = None,
        kind: str = "line",
        *,
        hue: Any = None,
        step: int | None = None,
    ) -> None:
        """Create a seaborn graph, and keep its whole data in a parquet file beside the picture.

        Arguments and errors as in `BaseLoggerManager.log_seaborn_graph`.
        """
        name, at = self._named("a figure", name, step)
        graph = self._build_graph(name, data, x, y, kind, hue)
        if graph is not None:
            self._draw_then(name, graph.figure, lambda rendered: self._log_graph(name, rendered, graph, at))

    def _log_graph(self, name: str, rendered: RenderedFigure, graph: Graph, step: int) -> None:
        def write(path: Path) -> bool:
            try:
                graph.table.write(path)
            except OSError:
                raise
            except Exception as error:  # noqa: BLE001 - errors of polars; the picture is kept
                self.warning("the data of the graph %r could not be kept: %s", name, error)
                return False
            return True

        extra = {"rows": graph.table.rows, "drawn": graph.drawn}
        self._store().save(name, rendered, step, data=write, extra=extra)

    # -- other media -------------------------------------------------------------------------------

    def _log_image(self, name: str, image: AnnotatedImage, step: int) -> None:
        self._store().save_image(name, image, step)

    def _log_table(self, name: str, table: Table, step: int) -> None:
        self._store().save_table(name, table, step)

    def _log_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        self._store().save_histogram(name, histogram, step)

    def _log_text(self, name: str, text: str, step: int) -> None:
        self._store().save_text(name, text, step)

    def _log_hparams(self, params: dict[str, Scalar | None], metrics: dict[str, float], step: int) -> None:
        del step
        self._store().save_hparams(params, metrics)

    def _log_media_file(self, name: str, file: MediaFile, step: int) -> None:
        self._store().save_file(name, file, step)

    def _store(self) -> MediaStore:
        if self._media is None:
            self._opened()
        assert self._media is not None
        return self._media

    # -- messages ----------------------------------------------------------------------------------

    def _say(
        self,
        level: int,
        message: object,
        args: tuple[object, ...],
        *,
        terminal: bool = True,
        exc_info: ExcInfo = None,
    ) -> None:
        self._open_if_new()
        super()._say(level, message, args, terminal=terminal, exc_info=exc_info)

    def _keep_alert(self, title: str, text: str, level: Level) -> None:
        run: object = run_of(self)
        if isinstance(run, Alerting):
            run.alert(title, text, level)
        elif not self._is_silent:
            step = slot_of(self).steps.last_step
            append_alert(self.log_dir, new_alert("alert", level, title, text, step=step, rank=self._rank))


def _abandon(writer: JsonlWriter, slot: LoggerSlot, figures: FigureQueue) -> None:
    """Close the files of a logger that was never cleaned up, once its figures are drawn."""
    with contextlib.suppress(Exception):
        slot.deliver()
    with contextlib.suppress(Exception):
        figures.close()
    with contextlib.suppress(LogWriteError):
        writer.drain()
    with contextlib.suppress(LogWriteError):
        writer.write_summary(slot.dropped)
    writer.close()
