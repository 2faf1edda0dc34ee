"""The interface of all loggers, with the parts that they share."""

from __future__ import annotations

import inspect
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from ridgepole.errors import MissingExtraError
from ridgepole.loggers.figures.graph import Graph, prepare_graph
from ridgepole.loggers.figures.render import close as close_figure
from ridgepole.loggers.figures.render import prepare
from ridgepole.loggers.media.calls import MediaLoggingMixin
from ridgepole.loggers.media_types import Histogram, RenderedFigure
from ridgepole.loggers.messages import ExcInfo, make_log, quietly
from ridgepole.loggers.slot import deliver_first, slot_of
from ridgepole.metrics.patterns import ConfusionMatrixFigurePattern, CurveFigurePattern
from ridgepole.metrics.record import MetricRecord
from ridgepole.metrics.steps import Metrics, Resolved, arrived, is_pending, plan
from ridgepole.permanence import Permanence, run_of
from ridgepole.watch.alerts import Alerting, Level, checked_alert
from ridgepole.watch.gradients import Histograms, watched_model

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

T = TypeVar("T")

SWEEP_ENGINES = "ridgepole.sweeps"
"""Entry point group in which sweep engines register; see `SweepEngine`."""


class SweepEngine(Protocol):
    """The function behind `run_sweep`, found by its entry point: loggers import no engine."""

    def __call__(
        self,
        run_once: Callable[..., Any],
        sweep_config: Mapping[str, Any] | str | Path,
        *,
        logger: BaseLoggerManager | None,
    ) -> Any:
        """Run a sweep whose trials may log with `logger`."""
        ...


def sweep_engine() -> SweepEngine:
    """Load the installed sweep engine, the first by name.

    Raises:
        MissingExtraError: If no engine is installed.
    """
    for entry in sorted(metadata.entry_points(group=SWEEP_ENGINES), key=lambda entry: entry.name):
        engine: SweepEngine = entry.load()
        return engine
    raise MissingExtraError(f"a sweep engine (entry point group {SWEEP_ENGINES!r})", "sweep", "run_sweep")


class BaseLoggerManager(MediaLoggingMixin, Permanence):
    """Common interface of all logging backends.

    A backend writes `log_metrics`, `log_figure` and `cleanup`. Its `log_metrics` calls
    `self.resolve(metrics, step)`, which validates, flattens and numbers the records. In a run with
    several loggers this has happened already, and `resolve` returns the records unchanged.

    ```python
    class PrintLogger(BaseLoggerManager):
        def log_metrics(self, metrics, *, step=None):
            for record in self.resolve(metrics, step):
                print(record.step, record.name, record.value)

        def log_figure(self, name, figure, *, step=None, close=True):
            print(name, figure)

        def cleanup(self):
            pass
    ```

    Attributes:
        ranks: Loggers are constructed on rank 0 of a distributed run only.
        strict: Whether a failure of this logger stops a run with several loggers. Otherwise the
            run warns once, and counts what the logger misses.
        is_local_record: Whether this logger writes the run's own files. A checkpoint is not taken
            if they can't be brought to the disk.
        export_target: The name of this backend in `ridgepole export RUN --to NAME`, which brings
            what it lacks; empty if there is none.
    """

    ranks: ClassVar[Literal["all", "zero"]] = "zero"
    strict: bool = False
    is_local_record: ClassVar[bool] = False
    export_target: ClassVar[str] = ""

    _log_level: str | int = "INFO"
    _theme: Mapping[str, str] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("flush", "checkpoint", "cleanup"):
            hook = getattr(cls, name)  # through the MRO: a mixin's hook counts too
            if not getattr(hook, "__ridgepole_delivers__", False):
                setattr(cls, name, deliver_first(hook))

    # -- metrics -----------------------------------------------------------------------------------

    @abstractmethod
    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Log scalar or structured metrics.

        Args:
            metrics: A mapping of names to numbers, strings, bools, arrays or tensors, sequences or
                nested mappings (names are joined with `/`); a `MetricRecord`; or a list of these.
                Any other value is stored as text, behind its type, with one warning a type.
            step: An explicit step, stored as given. None takes the current step and advances it
                by one; in a run, metrics that are all new since the run's step began stay at the
                step of the call before. Records with the policy `reuse_last` take the step of the
                latest advancing call.

        Raises:
            TypeError: If the metrics are none of these, or a name is not text; nothing is logged.
            ValueError: If a name is empty, names collide once flattened, or the step is negative.
        """

    def resolve(self, metrics: Metrics, step: int | None = None) -> Resolved:
        """Validate and flatten metrics, give each record its step, and advance the step.

        Args:
            metrics: As in `log_metrics`. The result of another `resolve` is returned unchanged.
            step: As in `log_metrics`.

        Returns:
            `MetricRecord`s with flat names, steps and plain values, NaN and infinities included.

        Raises:
            TypeError: As `log_metrics`; the step does not move.
            ValueError: As `log_metrics`; the step does not move.
        """
        slot = slot_of(self)
        with slot.lock:
            made = plan(metrics, step, slot.steps)
            if is_pending(made):
                made = arrived(made)  # a backend on its own takes plain values, and waits for a GPU
            resolved = metrics if isinstance(metrics, Resolved) and made is metrics.plan else Resolved(made)
            slot.steps.adopt(made)
        if made.notes and not isinstance(metrics, Resolved):
            self._say_as_text(made.notes, "log_metrics")
        return resolved

    def _log_resolved(self, metrics: Metrics, step: int | None) -> Resolved:
        """Log, and return the records for the other loggers of the run."""
        resolved = self.resolve(metrics, step)
        self.log_metrics(resolved)
        return resolved

    def _say_once(self, saying: str, message: str, *args: object) -> None:
        if slot_of(self).is_new(saying):
            self.warning(message, *args)

    def show_system(self, values: Mapping[str, float], step: int) -> None:
        """Show system metrics of the run; the local record has them in `system.jsonl` already.

        A thread of the run calls it. It moves no step. A backend without a place for them ignores
        them.

        Args:
            values: Numbers by name, such as `gpu0_power_watts`.
            step: The step of the run.
        """

    @property
    def global_step(self) -> int:
        """The step that the next advancing call of `log_metrics` takes; 0 at the start."""
        return slot_of(self).steps.global_step

    @property
    def last_step(self) -> int:
        """The step of the latest advancing call, which figures belong to; 0 before any."""
        return slot_of(self).steps.last_step

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores of this logger: its steps."""
        return slot_of(self).steps.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint. A backend that can hide later records extends this.

        Args:
            state: The result of `state_dict`; an empty one returns to the beginning.
        """
        slot = slot_of(self)
        with slot.lock:
            slot.steps.load_state_dict(state)

    def flush(self, durable: bool = False) -> None:
        """Hand over everything logged so far.

        Args:
            durable: Whether to wait until it is on the disk, if the backend has one.
        """

    # -- figures -----------------------------------------------------------------------------------

    @abstractmethod
    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Log a built figure.

        Args:
            name: Any text; names are data and never paths.
            figure: A matplotlib or plotly figure, Axes, a seaborn grid, a PIL image, or an array
                or tensor of shape (height, width) or with 1, 3 or 4 channels.
            step: The step that it belongs to; by default that of the latest metrics.
            close: Whether pyplot closes the figure afterwards.

        Raises:
            TypeError: If the name is not text, or the figure is of an unsupported type.
            ValueError: If an array does not have the shape of an image.
        """

    def _log_as_accepted(self, name: str, figure: Any, step: int | None, *, close: bool) -> None:
        """Call `log_figure`, also one that takes neither `step` nor `close`."""
        accepted = inspect.signature(self.log_figure).parameters
        options: dict[str, Any] = {"step": step, "close": close}
        self.log_figure(name, figure, **{key: value for key, value in options.items() if key in accepted})

    def log_rendered(self, name: str, rendered: RenderedFigure, *, step: int | None = None) -> None:
        """Log a figure that is drawn already, as a run with several loggers draws it once for all.

        A backend that takes bytes overrides this; by default the original goes to `log_figure`.

        Args:
            name: As in `log_figure`.
            rendered: The drawn figure.
            step: As in `log_figure`.
        """
        self._log_as_accepted(name, rendered.source, step, close=False)

    def _log_drawn_here(self, name: str, figure: Any, step: int | None, *, close: bool) -> None:
        """Draw a figure in place and log its bytes, for a backend without a queue."""
        name, at = self._named("a figure", name, step)
        try:
            rendered = self._draw(name, figure)
            if rendered is not None:
                self.log_rendered(name, rendered, step=at)
        finally:
            if close:
                close_figure(figure)

    def _draw(self, name: str, figure: Any) -> RenderedFigure | None:
        """Draw a figure; report and count a failure. A wrong type raises."""
        return self._attempt_drawing(name, prepare(figure))

    def _draw_then(self, name: str, figure: Any, deliver: Callable[[RenderedFigure], object]) -> bool:
        """Draw a figure and pass it to `deliver`; report and count a failure. A wrong type raises.

        A logger that draws elsewhere overrides this, and may call `deliver` later on another
        thread.

        Returns:
            Whether the figure is done: delivered, or failed.
        """
        rendered = self._draw(name, figure)
        if rendered is not None:
            deliver(rendered)
        return True

    def _drain(self) -> None:
        """Wait for figures that are being drawn and for values on a GPU."""

    def _attempt_drawing(self, name: str, draw: Callable[[], T]) -> T | None:
        try:
            return draw()
        except Exception as error:  # noqa: BLE001 - a user's figure and its callbacks may raise anything
            slot_of(self).dropped += 1
            self.error("the figure %r could not be drawn: %s: %s", name, type(error).__name__, error)
            return None

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
        """Create a seaborn graph and log it with `log_figure`.

        Args:
            name: Name of the figure, and its title.
            data: A pandas or polars frame or series, a mapping of columns, a sequence or an array.
                Empty data is reported with `error`, and nothing is logged.
            x: Name of the column along x, or the values; by default the index of a pandas frame or
                series, else the numbers of the rows.
            y: Name of the column along y, or the values.
            kind: `line`, `scatter`, `reg`, `bar`, `count`, `point`, `hist`, `kde`, `ecdf`, `rug`,
                `box`, `boxen`, `violin`, `strip`, `swarm` or `heatmap`. Very long data is thinned
                for the drawing.
            hue: Name of the column by which x and y are coloured, or the values.
            step: The step that it belongs to; by default that of the latest metrics.

        Raises:
            ValueError: If the kind is unknown, or a name is missing or ambiguous.
            TypeError: If the data is of an unsupported type.
            MissingExtraError: If seaborn is not installed.
        """
        graph = self._build_graph(name, data, x, y, kind, hue)
        if graph is not None:
            self._log_as_accepted(name, graph.figure, step, close=True)

    def _log_graph(self, name: str, rendered: RenderedFigure, graph: Graph, step: int) -> None:
        """Log a drawn graph; a backend that keeps the data too overrides this."""
        del graph
        self.log_rendered(name, rendered, step=step)

    def _build_graph(self, name: str, data: Any, x: Any, y: Any, kind: str, hue: Any) -> Graph | None:
        return self._attempt_drawing(name, prepare_graph(name, data, x, y, kind, hue=hue))

    def log_metric_figure(
        self,
        pattern: CurveFigurePattern | ConfusionMatrixFigurePattern,
        targets: Any = None,
        predictions: Any = None,
        *,
        step: int | None = None,
    ) -> None:
        """Build the figure of a pattern and log it under the pattern's name.

        Labels that make no matrix, such as none at all, are reported with `error`.
        Where none of a curve's metrics was logged yet, the first such call warns, and nothing is
        drawn.

        Args:
            pattern: A curve, drawn from the history of this run; or a confusion matrix.
            targets: True labels of a confusion matrix.
            predictions: Predicted labels of a confusion matrix.
            step: The step that it belongs to; by default that of the latest metrics.

        Raises:
            TypeError: If it is not a figure pattern, or a confusion matrix without labels.
            MissingExtraError: If matplotlib, or polars for the history, is not installed.
        """
        try:
            figure = self._build_metric_figure(pattern, targets, predictions)
        except _NothingToDraw as error:
            if slot_of(self).is_new(f"log_metric_figure {pattern.name}"):
                self.warning("log_metric_figure: %s (said once)", error)
            return
        if figure is not None:
            self._log_as_accepted(pattern.name, figure, step, close=True)

    def _build_metric_figure(self, pattern: Any, targets: Any, predictions: Any) -> Figure | None:
        if isinstance(pattern, ConfusionMatrixFigurePattern):
            if targets is None or predictions is None:
                raise TypeError(f"the confusion matrix {pattern.name!r} needs targets and predictions")
            return self._attempt_drawing(pattern.name, lambda: pattern.build(targets, predictions))
        if not isinstance(pattern, CurveFigurePattern):
            raise TypeError(f"{type(pattern).__name__} is not a figure pattern; give LOSS_CURVE, or one of your own")
        return pattern.build(self._history(pattern))

    def _history(self, pattern: CurveFigurePattern) -> Mapping[str, tuple[Any, Any]]:
        raise TypeError(
            f"{type(self).__name__} keeps no history to draw {pattern.name!r} from; a BasicLogger in the same run does"
        )

    # -- messages ----------------------------------------------------------------------------------

    def debug(self, message: object, *args: object, exc_info: ExcInfo = None) -> None:
        """Log a detail for debugging.

        Args:
            message: The message.
            args: Values that are put into the message with `%`, as in the stdlib.
            exc_info: True adds the traceback of the exception that is being handled; or the
                exception.
        """
        self._say(logging.DEBUG, message, args, exc_info=exc_info)

    def info(self, message: object, *args: object, exc_info: ExcInfo = None) -> None:
        """Log an event."""
        self._say(logging.INFO, message, args, exc_info=exc_info)

    def warning(self, message: object, *args: object, exc_info: ExcInfo = None) -> None:
        """Log a possible problem."""
        self._say(logging.WARNING, message, args, exc_info=exc_info)

    def error(self, message: object, *args: object, exc_info: ExcInfo = None) -> None:
        """Log an error."""
        self._say(logging.ERROR, message, args, exc_info=exc_info)

    def watch(self, model: torch.nn.Module, *, every: int = 100, histograms: bool = True) -> None:
        """Log norms and histograms of a model's gradients, parameters and updates as it trains.

        They are measured around a step of the model's optimiser, the first one and every so many
        after it, and belong to the step of the latest metrics. In the steps between, nothing is
        computed, and no device is waited for. Of a sharded model, each rank sees its own part.

        Args:
            model: The model.
            every: Steps of the optimiser between two measured ones.
            histograms: Whether to log histograms of each parameter too, not only norms.

        Raises:
            TypeError: If the model is not a `torch.nn.Module`.
            ValueError: If `every` is not at least 1.
            MissingExtraError: If torch is not installed.
        """
        watch = watched_model(model, every, self._log_model, histograms=histograms)
        slot_of(self).watches.append(watch)
        self._owner().defer(watch.close)

    def _owner(self) -> BaseLoggerManager:
        """Return the logger whose clean-up ends what this one has begun."""
        return self

    def _log_model(self, norms: Mapping[str, float], histograms: Histograms) -> None:
        self.log_metrics([MetricRecord(name, value, step_policy="reuse_last") for name, value in norms.items()])
        for name, (counts, edges) in histograms.items():
            self._log_histogram(name, Histogram.of_bins(counts, edges), self.last_step)

    def alert(self, title: str, text: str = "", level: Level = "info") -> None:
        """Tell a person about an event: log it, keep it in `alerts.jsonl`, and send it.

        It is sent where the pipeline has a `[notify]` table. A failure to keep or to send it does
        not stop the run.

        Args:
            title: A short text of one line.
            text: The details.
            level: `info`, `warning` or `error`.

        Raises:
            TypeError: If the title or the text is not text.
            ValueError: If the title is empty or the level unknown.
        """
        title, text, level = checked_alert(title, text, level)
        self._say(getattr(logging, level.upper()), "%s", (f"{title}: {text}" if text else title,))
        try:
            self._keep_alert(title, text, level)
        except OSError as error:
            self._say_once("alert", "the alert was not kept: %s (said once)", error)

    def _keep_alert(self, title: str, text: str, level: Level) -> None:
        """Give an alert to the run; a logger with a directory keeps it there without a run."""
        run: object = run_of(self)
        if isinstance(run, Alerting):
            run.alert(title, text, level)

    def _say(
        self,
        level: int,
        message: object,
        args: tuple[object, ...],
        *,
        terminal: bool = True,
        exc_info: ExcInfo = None,
    ) -> None:
        """Write a message; `terminal=False` keeps it to the files."""
        if terminal:
            self._log().log(level, message, *args, exc_info=exc_info)
        else:
            quietly(self._log(), level, message, *args, exc_info=exc_info)

    def _log(self) -> logging.Logger:
        """Return the stdlib logger behind the messages, with this backend's level and theme."""
        slot = slot_of(self)
        if slot.log is None:
            with slot.lock:
                if slot.log is None:
                    slot.log = make_log(f"ridgepole.{type(self).__name__}", self._log_level, self._theme)
        return slot.log

    # -- sweeps ------------------------------------------------------------------------------------

    def supports_sweep(self) -> bool:
        """Return whether this backend supports hyperparameter sweeps: all do."""
        return True

    def sweep_service(self) -> dict[str, Any]:
        """Name the service that chooses the trials of this backend's sweeps.

        Returns:
            `executor`, `project`, `entity` and `count`, the defaults of a sweep that does not set
            them; empty if Ridgepole chooses the trials.
        """
        return {}

    def run_sweep(self, run_once: Callable[..., Any], sweep_config: Mapping[str, Any] | str | Path) -> Any:
        """Run a sweep on the installed engine.

        Args:
            run_once: Runs one trial; takes no argument, or the trial.
            sweep_config: A sweep in W&B's schema, or the file that holds it.

        Returns:
            The result of the engine, a `SweepResult`.

        Raises:
            MissingExtraError: If no engine is installed.
        """
        return sweep_engine()(run_once, sweep_config, logger=self)


def matching_metrics(pattern: CurveFigurePattern, names: Iterable[str]) -> list[str]:
    """Select the metrics that a curve draws.

    Raises:
        _NothingToDraw: If there are none; the message lists the names.
    """
    logged = list(names)
    chosen = [name for name in logged if any(fnmatchcase(name, glob) for glob in pattern.metrics)]
    if not chosen:
        shown = ", ".join(map(repr, logged[:20])) or "nothing yet"
        raise _NothingToDraw(f"{pattern.name!r} draws {', '.join(pattern.metrics)}; logged so far: {shown}")
    return chosen


class _NothingToDraw(ValueError):  # noqa: N818 - a reason, which becomes a warning
    """None of a curve's metrics was logged."""
