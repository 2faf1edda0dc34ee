"""A logger that writes event files, which TensorBoard reads meanwhile."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ridgepole.errors import LogWriteError, MissingExtraError, RunDirError
from ridgepole.launch import global_rank
from ridgepole.loggers.base import BaseLoggerManager, matching_metrics
from ridgepole.loggers.ending import failure, failure_at_exit
from ridgepole.loggers.local.directory import DEFAULT_DIR, RANKS, check_directory, free_directory, log_directory
from ridgepole.loggers.media_types import Histogram, MediaFile, RenderedFigure, Table
from ridgepole.loggers.messages import ExcInfo, FileHandler, checked_file_name, checked_level, checked_theme, detach
from ridgepole.loggers.slot import LoggerSlot, slot_of
from ridgepole.loggers.tensorboard.event_file import check_writers
from ridgepole.metrics.convert import Scalar
from ridgepole.metrics.patterns import ACCURACY_CURVE, LOSS_CURVE, CurveFigurePattern
from ridgepole.metrics.steps import Metrics, Resolved, checked_step
from ridgepole.permanence import State, run_of, state_of

if TYPE_CHECKING:
    from ridgepole.loggers.tensorboard.hparams import HparamsFile
    from ridgepole.loggers.tensorboard.writer import EventWriter

WRITER = "Ridgepole"


class TensorBoardLogger(BaseLoggerManager):
    """Logs metrics, media and hyperparameters to TensorBoard's event files.

    When `log_metrics` returns, the operating system has the event. It survives any crash of the
    process, including `kill -9`; it survives a loss of power once `checkpoint` or
    `flush(durable=True)` has returned. Names reach TensorBoard unchanged. Its scalars are 32-bit
    floats; the exact values are in the local record of the run.

    The logger is thread-safe. A forked child, or a copy in another process, writes to its own
    directory, `worker-<pid>`, which TensorBoard shows as a separate run.

    A run also has its local record. If this logger fails, it is switched off and the run continues,
    unless it is `strict`.

    Args:
        log_dir: Directory of the event files; by default the run directory inside a run, `logs` in
            a plain script. TensorBoard names a run after its directory. Logging continues in a used
            directory; inside a run it must be the directory of that run.
        log_level: The lowest level of messages to show and keep: DEBUG, INFO, WARNING or ERROR.
        log_file: Name of a file of messages in `log_dir`; None for no file: the local record has
            one.
        theme: Rich styles of the levels on a terminal, such as `{"warning": "magenta"}`.
        layout: The charts of the dashboard "Custom Scalars".
        purge_step: Hide everything that an earlier writer logged at this step or later, and
            continue from there.
        strict: Whether a failure of this logger stops a run.
        ranks: What a plain script does on ranks other than 0 of a distributed launch: `"zero"`
            writes nothing there, `"all"` writes to `rank-1` and so on below `log_dir`, which
            TensorBoard shows as runs of their own.

    Raises:
        ValueError: If the level, a theme's level, the file name or the step is invalid.
        TypeError: If the layout holds anything else than curve patterns.

    Attributes:
        log_dir: Directory of the event files.
    """

    export_target = "tensorboard"

    def __init__(
        self,
        log_dir: str | Path | None = None,
        log_level: str = "INFO",
        log_file: str | None = None,
        theme: Mapping[str, str] | None = None,
        layout: Sequence[CurveFigurePattern] = (LOSS_CURVE, ACCURACY_CURVE),
        purge_step: int | None = None,
        strict: bool = False,
        ranks: Literal["zero", "all"] = "zero",
    ) -> None:
        run = run_of(self)
        if ranks not in RANKS:
            raise ValueError(f"ranks must be one of {', '.join(RANKS)}, not {ranks!r}")
        if log_dir is None:
            log_dir = DEFAULT_DIR if run is None else run.run_dir
        rank = global_rank() if run is None else 0
        self.log_dir = log_directory(log_dir) / f"rank-{rank}" if rank else log_directory(log_dir)
        self._is_silent = bool(rank) and ranks == "zero"
        self.strict = strict
        checked_file_name("log_file", log_file)
        checked_level(log_level)
        checked_theme(theme)
        for pattern in layout:
            if not isinstance(pattern, CurveFigurePattern):
                raise TypeError(f"layout takes CurveFigurePatterns such as LOSS_CURVE, not {type(pattern).__name__}")
        self._log_level = log_level
        self._log_file = log_file
        self._theme = dict(theme) if theme else None
        self._layout = tuple(layout)
        self._purge_step = checked_step(purge_step)
        self._run_id = None if run is None else run.run_id
        self._copied = False
        self._writer: EventWriter | None = None
        self._hparams: HparamsFile | None = None
        self._finalizer: weakref.finalize[..., TensorBoardLogger] | None = None

    def __getstate__(self) -> dict[str, Any]:
        copied = self._copied or self._writer is not None
        return self.__dict__ | {"_writer": None, "_hparams": None, "_finalizer": None, "_copied": copied}

    # -- lifecycle ---------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Validate, open an event file, and write the layout and the run's hyperparameters.

        Raises:
            MissingExtraError: If TensorBoard is not installed.
            RunDirError: If the directory is not writable, is full, or belongs to another logger or
                run.
        """
        directory = self.log_dir.absolute()  # a later chdir must not move the events
        if self._is_silent:
            self._check_package()
            from ridgepole.loggers.tensorboard.writer import SilentWriter

            self._writer = SilentWriter(directory, self._name(), slot_of(self).steps, self._log(), worker=True)
            return
        try:
            self._check(directory)
        except RunDirError:
            if not free_directory(self, directory):
                raise
            self._check(directory)
        from ridgepole.loggers.tensorboard.events import recover_steps
        from ridgepole.loggers.tensorboard.writer import EventWriter

        log, steps = self._log(), slot_of(self).steps
        try:
            if self._log_file is not None:
                handler = FileHandler(directory / self._log_file)
                self.defer(detach, log)
                log.addHandler(handler)
            if not self._copied:
                recover_steps(directory, steps)
            writer = EventWriter(directory, self._name(), steps, log, self._layout, worker=self._copied)
            self.defer(writer.close)
            try:
                self._check_writers(directory, writer)  # again: another may have started just now
            except RunDirError:
                writer.discard()
                raise
            if self._purge_step is not None and not self._copied:
                writer.restart(self._purge_step)
            self._start_session(writer)
            self._finalizer = weakref.finalize(self, _abandon, writer, slot_of(self))
        except RunDirError:
            raise
        except OSError as error:
            raise RunDirError(f"can't log to {self.log_dir}: {error.strerror or error} ({error.filename})") from error
        self._writer = writer

    def _start_session(self, writer: EventWriter) -> None:
        run = run_of(self)
        if run is not None and not writer.is_worker:
            from ridgepole.loggers.tensorboard.hparams import HparamsFile, params_of

            params = params_of(run.config)
            if params:
                self._hparams = HparamsFile(writer.directory, writer.name)
                self._hparams.write(params)

    def _name(self) -> str:
        return WRITER if self._run_id is None else f"{WRITER} run {self._run_id}"

    def _check_package(self) -> None:
        try:
            import ridgepole.loggers.tensorboard.events  # noqa: F401 - it imports the protocol buffers
        except ImportError as error:
            if (error.name or "").partition(".")[0] == "ridgepole":
                raise
            raise MissingExtraError("tensorboard", "tensorboard", type(self).__name__) from error

    def _check(self, directory: Path) -> None:
        self._check_package()
        if self._is_silent:
            return
        check_directory(directory, str(self.log_dir))
        self._check_writers(directory, self._writer)

    def _check_writers(self, directory: Path, writer: EventWriter | None) -> None:
        from ridgepole.loggers.tensorboard.events import writer_of

        if self._copied or (writer is not None and writer.is_worker):
            return
        wanted = None if self._run_id is None else self._name()
        check_writers(directory, writer.path if writer is not None else None, writer_of, wanted)

    def validate(self) -> None:
        """Check that TensorBoard is installed, and the directory is writable and unused by others.

        Raises:
            MissingExtraError: If TensorBoard is not installed.
            RunDirError: If the directory can't be used.
        """
        self._check(self.log_dir.absolute())

    def checkpoint(self) -> None:
        """Sync everything logged to the disk.

        Raises:
            LogWriteError: If that fails. In a run, a logger that is not `strict` warns and counts
                it.
        """
        try:
            self.flush(durable=True)
        except LogWriteError as error:
            self._report(error)

    def cleanup(self) -> None:
        """Sync everything to the disk, record the end of the session, and close the file.

        Raises:
            LogWriteError: As `checkpoint`, after the file is closed.
        """
        writer, self._writer = self._writer, None
        failed = failure(run_of(self))
        if self._finalizer is not None:
            self._finalizer.detach()
        try:
            if writer is not None:
                writer.sync()
                self._end_session(writer, failed)
        except LogWriteError as error:
            self._report(error)
        finally:
            if writer is not None:
                writer.close()
            detach(self._log())

    def _end_session(self, writer: EventWriter, failed: str) -> None:
        if self._hparams is not None and not writer.is_worker:
            self._hparams.write({}, ended="FAILURE" if failed else "SUCCESS")

    def _report(self, error: LogWriteError) -> None:
        if self.strict or run_of(self) is None:
            raise error
        slot_of(self).dropped += 1
        self.warning("%s: %s", type(self).__name__, error)

    def get_state(self) -> dict[str, Any]:
        """Return the directory and file, the steps, and the counts of events."""
        writer, slot = self._writer, slot_of(self)
        path = writer.path if writer is not None else None
        return {
            "log_dir": str(self.log_dir),
            "event_file": path.name if path is not None else None,
            "global_step": slot.steps.global_step,
            "last_step": slot.steps.last_step,
            "events": writer.events if writer is not None else 0,
            "dropped": slot.dropped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint: hide in TensorBoard what was logged after it, delete nothing.

        Args:
            state: A state from `state_dict`; an empty one is the initial state.

        Raises:
            LogWriteError: If the write failed.
        """
        self._opened().restart(int(state.get("global_step", 0)))
        super().load_state_dict(state)

    def _opened(self) -> EventWriter:
        """Return the writer, and initialise the logger if needed."""
        writer = self._writer
        if writer is None:
            with slot_of(self).lock:  # one thread initialises, others wait
                writer = self._writer
                if writer is None:
                    self.initialize()
                    writer = self._writer
        assert writer is not None
        return writer

    # -- metrics -----------------------------------------------------------------------------------

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Log metrics; when this returns they survive any crash of the process.

        Numbers become scalars, bools 0 or 1, strings texts, a short sequence one scalar per element
        (`name[0]`, `name[1]`), and a larger array a histogram. Infinite and NaN numbers are kept.

        Args:
            metrics: As in `BaseLoggerManager.log_metrics`.
            step: As in `BaseLoggerManager.log_metrics`.

        Raises:
            TypeError: If the metrics are of another type, or a name is not text; nothing is logged.
            ValueError: If a name is empty, flattened names collide, or the step is negative.
            LogWriteError: If the write failed; the step is unchanged.
        """
        notes = (self._writer or self._opened()).log(metrics, step)
        if notes and not isinstance(metrics, Resolved):
            self._say_as_text(notes, "log_metrics")

    def show_system(self, values: Mapping[str, float], step: int) -> None:
        """Write system metrics as scalars below `system/`."""
        if self._writer is not None:
            self._writer.add_metrics({f"system/{name}": value for name, value in values.items()}, step)

    def _log_resolved(self, metrics: Metrics, step: int | None) -> Resolved:
        made = self._opened().log_planned(metrics, step)
        if made.notes and not isinstance(metrics, Resolved):
            self._say_as_text(made.notes, "log_metrics")
        return metrics if isinstance(metrics, Resolved) else Resolved(made)

    @property
    def global_step(self) -> int:
        """Return the step of the next advancing call; opens the directory to find it."""
        if self._writer is None and state_of(self) is State.CONSTRUCTED:
            self._opened()
        return slot_of(self).steps.global_step

    def flush(self, durable: bool = False) -> None:
        """Wait until events are on the disk if `durable`; the operating system has them already.

        Raises:
            LogWriteError: If the disk reports a failure.
        """
        writer = self._writer
        if durable and writer is not None:
            writer.sync()

    def set_wall_time(self, seconds: float | None) -> None:
        """Set the time of the next events, to replay logs: seconds since the epoch, or None."""
        self._opened().wall_time = seconds

    def _history(self, pattern: CurveFigurePattern) -> Mapping[str, tuple[Any, Any]]:
        writer = self._opened()
        from ridgepole.loggers.tensorboard.events import curves

        found = curves(writer.directory)
        return {name: found[name] for name in matching_metrics(pattern, found)}

    # -- figures and other media -------------------------------------------------------------------

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Log a figure as an image; arguments and errors as in `BasicLogger.log_figure`."""
        self._opened()
        self._log_drawn_here(name, figure, step, close=close)

    def log_rendered(self, name: str, rendered: RenderedFigure, *, step: int | None = None) -> None:
        """Log the bytes of a drawn figure; HTML, which is not an image, is replaced by a text."""
        name, at = self._named_figure(name, rendered, step)
        writer = self._opened()
        from ridgepole.loggers.tensorboard.events import image_value, text_value

        if rendered.suffix == ".html":
            value = text_value(name, "This figure is HTML, which TensorBoard can't show; the local record has it.")
        else:
            value = image_value(writer.own_tag(name, at), rendered.data, rendered.width, rendered.height)
        writer.add(value, at)

    def _log_table(self, name: str, table: Table, step: int) -> None:
        from ridgepole.loggers.tensorboard.events import MAX_TABLE_ROWS, table_text

        self._log_text(name, table_text(table), step)
        for at, row in enumerate(table.rows[:MAX_TABLE_ROWS] if table.types else ()):
            for column, cell in zip(table.columns, row, strict=True):
                if isinstance(cell, RenderedFigure):
                    self.log_rendered(f"{name}/{column}/{at}", cell, step=step)

    def _log_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        writer = self._opened()
        from ridgepole.loggers.tensorboard.events import histogram_value

        writer.add(histogram_value(name, histogram), step)
        if histogram.nonfinite:
            counts = {"nan": histogram.nan, "inf": histogram.nonfinite - histogram.nan}
            writer.add_metrics({f"{name}/{word}": count for word, count in counts.items()}, step)

    def _log_media_file(self, name: str, file: MediaFile, step: int) -> None:
        writer = self._opened()
        from ridgepole.loggers.tensorboard.events import file_value

        writer.add(file_value(name, file), step)

    def _log_text(self, name: str, text: str, step: int) -> None:
        writer = self._opened()
        from ridgepole.loggers.tensorboard.events import text_value

        writer.add(text_value(name, text), step)

    def _log_hparams(self, params: dict[str, Scalar | None], metrics: dict[str, float], step: int) -> None:
        writer = self._opened()
        if self._is_silent:
            return
        from ridgepole.loggers.tensorboard.hparams import HparamsFile

        with writer.lock:
            if self._hparams is None or self._hparams.directory != writer.directory:
                self._hparams = HparamsFile(writer.directory, writer.name)
            self._hparams.write(params)
        if metrics:  # TensorBoard takes the columns of metrics from the scalars
            writer.add_metrics(metrics, step)

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
        if self._log_file is not None and self._writer is None and state_of(self) is State.CONSTRUCTED:
            self._opened()
        super()._say(level, message, args, terminal=terminal, exc_info=exc_info)


def _abandon(writer: EventWriter, slot: LoggerSlot) -> None:
    """Close the file of a logger that was never cleaned up, once it has all that it is due."""
    from ridgepole.loggers.tensorboard.hparams import FILE, HparamsFile

    with contextlib.suppress(Exception):
        slot.deliver()
    with contextlib.suppress(LogWriteError):
        if not writer.is_worker and (writer.directory / FILE).exists():
            ended = "FAILURE" if failure_at_exit() else "SUCCESS"
            HparamsFile(writer.directory, writer.name).write({}, ended=ended)
    writer.close()
