"""TensorBoard as a logger: event files that TensorBoard reads while they are written."""

from __future__ import annotations

import fnmatch
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import LogWriteError, MissingExtraError, RunDirError
from ridgepole.metrics.patterns import ACCURACY_CURVE, LOSS_CURVE, CurveFigurePattern
from ridgepole.metrics.steps import Metrics, Resolved, checked_step
from ridgepole.metrics.values import Scalar
from ridgepole.permanence import State, run_of, state_of
from ridgepole.permanences.loggers.base import BaseLoggerManager, slot_of
from ridgepole.permanences.loggers.basic import DEFAULT_DIR
from ridgepole.permanences.loggers.figures.names import checked_name
from ridgepole.permanences.loggers.figures.render import Rendered
from ridgepole.permanences.loggers.figures.render import close as close_figure
from ridgepole.permanences.loggers.messages import FileHandler, checked_level, checked_theme, detach, make_log
from ridgepole.permanences.loggers.payloads import Histogram, Table
from ridgepole.permanences.loggers.tensorboard.files import check_directory, check_writers

if TYPE_CHECKING:
    from ridgepole.permanences.loggers.tensorboard.hparams import HparamsFile
    from ridgepole.permanences.loggers.tensorboard.writer import EventWriter

WRITER = "Ridgepole"


class TensorBoardLogger(BaseLoggerManager):
    """Logs metrics, figures, texts, tables, histograms and hyperparameters to TensorBoard's event files.

    When `log_metrics` returns, the event is with the operating system and survives any death of the process,
    `kill -9` included; it survives a loss of power once `checkpoint` or `flush(durable=True)` returned. Names reach
    TensorBoard as they are. Its scalars are 32-bit floats; the exact values are in the local record of the run.

    The logger is safe to use from several threads. A forked child, or a copy in another process, writes to a directory
    of its own, `worker-<pid>`, which TensorBoard shows as a run of its own.

    In a run this logger stands beside the local record. Where it fails, it is switched off and the run goes on, unless
    it is `strict`.

    Args:
        log_dir: Where the event files go; the run directory inside a run, `logs` in a plain script. TensorBoard calls
            a run after its directory. One that was used before is continued; in a run it must be that run's.
        log_level: The least level of messages that is shown and kept: DEBUG, INFO, WARNING or ERROR.
        log_file: Name of a file of messages in `log_dir`; None keeps none, as the local record does already.
        theme: Rich styles of the levels on a terminal, such as `{"warning": "magenta"}`.
        layout: The charts of the dashboard "Custom Scalars".
        purge_step: Hides what an earlier writer logged at this step or later, and goes on from there.
        strict: Whether a failure of this logger stops a run.

    Raises:
        ValueError: If the level, a theme's level, the file name or the step is none.
        TypeError: If the layout holds something else than curve patterns.

    Attributes:
        log_dir: Where the event files are.
    """

    def __init__(
        self,
        log_dir: str | Path | None = None,
        log_level: str = "INFO",
        log_file: str | None = None,
        theme: Mapping[str, str] | None = None,
        layout: Sequence[CurveFigurePattern] = (LOSS_CURVE, ACCURACY_CURVE),
        purge_step: int | None = None,
        strict: bool = False,
    ) -> None:
        run = run_of(self)
        if log_dir is None:
            log_dir = DEFAULT_DIR if run is None else run.run_dir
        self.log_dir = Path(log_dir)
        self.strict = strict
        if log_file is not None and (not log_file or log_file != Path(log_file).name or "\0" in log_file):
            raise ValueError(f"log_file must be the plain name of a file in log_dir, not {log_file!r}")
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

    def __getstate__(self) -> dict[str, Any]:
        copied = self._copied or self._writer is not None
        return self.__dict__ | {"_writer": None, "_hparams": None, "_copied": copied}

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Checks what `validate` checks, opens an event file, and writes the layout and the run's hyperparameters.

        Raises:
            MissingExtraError: If TensorBoard is not installed.
            RunDirError: If the directory can't be written, is full, or is another logger's or run's.
        """
        directory = self.log_dir.absolute()  # a later chdir must not move the events
        self._check(directory)
        from ridgepole.permanences.loggers.tensorboard.history import catch_up
        from ridgepole.permanences.loggers.tensorboard.writer import EventWriter

        log, steps = self._log(), slot_of(self).steps
        try:
            if self._log_file is not None:
                handler = FileHandler(directory / self._log_file)
                self.defer(detach, log)
                log.addHandler(handler)
            if not self._copied:
                catch_up(directory, steps)
            writer = EventWriter(directory, self._name(), steps, log, self._layout, worker=self._copied)
            self.defer(writer.close)
            try:
                self._refuse_others(directory, writer)  # of two that start at once, none has seen the other before
            except RunDirError:
                writer.discard()
                raise
            if self._purge_step is not None and not self._copied:
                writer.restart(self._purge_step)
            self._start_session(writer)
        except RunDirError:
            raise
        except OSError as error:
            raise RunDirError(f"can't log to {self.log_dir}: {error.strerror or error} ({error.filename})") from error
        self._writer = writer

    def _start_session(self, writer: EventWriter) -> None:
        run = run_of(self)
        if run is not None and not writer.is_worker:
            from ridgepole.permanences.loggers.tensorboard.hparams import HparamsFile, params_of

            params = params_of(run.config)
            if params:
                self._hparams = HparamsFile(writer.directory, writer.name)
                self._hparams.write(params)

    def _name(self) -> str:
        return WRITER if self._run_id is None else f"{WRITER} run {self._run_id}"

    def _check(self, directory: Path) -> None:
        try:
            import ridgepole.permanences.loggers.tensorboard.history  # noqa: F401 - the protocol buffers come with it
        except ImportError as error:
            if (error.name or "").partition(".")[0] == "ridgepole":
                raise
            raise MissingExtraError("tensorboard", "tensorboard", type(self).__name__) from error
        check_directory(directory, str(self.log_dir))
        self._refuse_others(directory, self._writer)

    def _refuse_others(self, directory: Path, writer: EventWriter | None) -> None:
        from ridgepole.permanences.loggers.tensorboard.history import writer_of

        if self._copied or (writer is not None and writer.is_worker):
            return
        wanted = None if self._run_id is None else self._name()
        check_writers(directory, writer.path if writer is not None else None, writer_of, wanted)

    def validate(self) -> None:
        """Checks that TensorBoard is installed, and the directory writable and this run's alone.

        Raises:
            MissingExtraError: If TensorBoard is not installed.
            RunDirError: If the directory can't be used.
        """
        self._check(self.log_dir.absolute())

    def checkpoint(self) -> None:
        """Brings everything logged to the disk.

        Raises:
            LogWriteError: If that fails; in a run only where the logger is `strict`, else it is reported and counted.
        """
        try:
            self.flush(durable=True)
        except LogWriteError as error:
            self._report(error)

    def cleanup(self) -> None:
        """Brings everything to the disk, notes how the session ended, and closes the file.

        Raises:
            LogWriteError: As `checkpoint`; the file is closed all the same.
        """
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                writer.sync()
                self._end_session(writer)
        except LogWriteError as error:
            self._report(error)
        finally:
            if writer is not None:
                writer.close()
            detach(self._log())

    def _end_session(self, writer: EventWriter) -> None:
        if self._hparams is not None and not writer.is_worker:
            run = run_of(self)
            failed = sys.exc_info()[0] is not None if run is None else run.failed
            self._hparams.write({}, ended="FAILURE" if failed else "SUCCESS")

    def _report(self, error: LogWriteError) -> None:
        if self.strict or run_of(self) is None:
            raise error
        slot_of(self).dropped += 1
        self.warning("%s: %s", type(self).__name__, error)

    def get_state(self) -> dict[str, Any]:
        """Where it logs to, its steps, and what it has counted."""
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
        """Goes on from a checkpoint: what was logged after it is hidden in TensorBoard, nothing is deleted.

        Args:
            state: What `state_dict` gave; an empty one is that of the beginning.

        Raises:
            LogWriteError: If that can't be written.
        """
        self._opened().restart(int(state.get("global_step", 0)))
        super().load_state_dict(state)

    def _opened(self) -> EventWriter:
        """The writer; a logger that was never initialised is now."""
        writer = self._writer
        if writer is None:
            with slot_of(self).lock:  # of several threads one initialises, the others wait for it
                writer = self._writer
                if writer is None:
                    self.initialize()
                    writer = self._writer
        assert writer is not None
        return writer

    # -- metrics -----------------------------------------------------------------------------------------------------

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Logs metrics; when this returns they survive any death of the process.

        Numbers become scalars, bools 0 or 1, strings texts, a short sequence one scalar for each place in it
        (`name[0]`, `name[1]`), and a larger array a histogram. Numbers that are not finite stay what they are.

        Args:
            metrics: As in `BaseLoggerManager.log_metrics`.
            step: As in `BaseLoggerManager.log_metrics`.

        Raises:
            TypeError: If a value can't be logged; it names the key, and nothing is logged.
            ValueError: If names collide once flattened, or the step is negative.
            LogWriteError: If the event did not reach the operating system; the step is unchanged.
        """
        (self._writer or self._opened()).log(metrics, step)

    def _log_resolved(self, metrics: Metrics, step: int | None) -> Resolved:
        made = self._opened().log_planned(metrics, step)
        return metrics if isinstance(metrics, Resolved) else Resolved(made)

    @property
    def global_step(self) -> int:
        """The step that the next advancing call takes; known once the directory is open, which this sees to."""
        if self._writer is None and state_of(self) is State.CONSTRUCTED:
            self._opened()
        return slot_of(self).steps.global_step

    def flush(self, durable: bool = False) -> None:
        """Events are with the operating system at once; with `durable` this waits until they are on the disk.

        Args:
            durable: Whether to wait for the disk.

        Raises:
            LogWriteError: If the disk reports a failure.
        """
        writer = self._writer
        if durable and writer is not None:
            writer.sync()

    def set_wall_time(self, seconds: float | None) -> None:
        """Sets the time that events get from now on, for a replay of what was logged at another time.

        Args:
            seconds: Seconds since the epoch; None for the clock's.
        """
        self._opened().wall_time = seconds

    def _history(self, pattern: CurveFigurePattern) -> Mapping[str, tuple[Any, Any]]:
        writer = self._opened()
        from ridgepole.permanences.loggers.tensorboard.history import curves

        found = curves(writer.directory)
        chosen = [name for name in found if any(fnmatch.fnmatchcase(name, glob) for glob in pattern.metrics)]
        if not chosen:
            shown = ", ".join(map(repr, list(found)[:20])) or "nothing yet"
            raise ValueError(f"{pattern.name!r} draws {', '.join(pattern.metrics)}; logged so far: {shown}")
        return {name: found[name] for name in chosen}

    # -- figures and other media -------------------------------------------------------------------------------------

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Draws a figure and logs it as an image; arguments and errors as in `BasicLogger.log_figure`."""
        checked_name(name)
        at = checked_step(step)
        self._opened()
        try:
            rendered = self._draw(name, figure)
            if rendered is not None:
                self.log_rendered(name, rendered, step=at)
        finally:
            if close:
                close_figure(figure)

    def log_rendered(self, name: str, rendered: Rendered, *, step: int | None = None) -> None:
        """Logs the bytes of a figure that was drawn already; in the place of HTML, which is no image, stands a text."""
        checked_name(name)
        writer = self._opened()
        from ridgepole.permanences.loggers.tensorboard.events import image_value, text_value

        if rendered.suffix == ".html":
            value = text_value(name, "This figure is HTML, which TensorBoard can't show; the local record has it.")
        else:
            value = image_value(name, rendered.data, rendered.width, rendered.height)
        at = checked_step(step)
        writer.add(value, self.last_step if at is None else at)

    def _log_table(self, name: str, table: Table, step: int) -> None:
        from ridgepole.permanences.loggers.tensorboard.events import table_text

        self._log_text(name, table_text(table), step)

    def _log_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        writer = self._opened()
        from ridgepole.permanences.loggers.tensorboard.events import histogram_value

        writer.add(histogram_value(name, histogram), step)

    def _log_text(self, name: str, text: str, step: int) -> None:
        writer = self._opened()
        from ridgepole.permanences.loggers.tensorboard.events import text_value

        writer.add(text_value(name, text), step)

    def _log_hparams(self, params: dict[str, Scalar | None], metrics: dict[str, float]) -> None:
        writer = self._opened()
        from ridgepole.permanences.loggers.tensorboard.hparams import HparamsFile

        with writer.lock:
            if self._hparams is None or self._hparams.directory != writer.directory:
                self._hparams = HparamsFile(writer.directory, writer.name)
            self._hparams.write(params)
        if metrics:  # TensorBoard takes the columns of metrics from the scalars
            writer.add_metrics(metrics, self.last_step)

    # -- messages ----------------------------------------------------------------------------------------------------

    def _say(self, level: int, message: object, args: tuple[object, ...], *, terminal: bool = True) -> None:
        if self._log_file is not None and self._writer is None and state_of(self) is State.CONSTRUCTED:
            self._opened()
        super()._say(level, message, args, terminal=terminal)

    def _log(self) -> logging.Logger:
        slot = slot_of(self)
        if slot.log is None:
            with slot.lock:
                if slot.log is None:
                    slot.log = make_log(f"ridgepole.{type(self).__name__}", self._log_level, self._theme)
        return slot.log
