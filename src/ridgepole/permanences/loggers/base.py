"""The interface of all loggers, and the part of it that none of them has to write again."""

from __future__ import annotations

import functools
import logging
import threading
import weakref
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, ParamSpec, TypeVar

from ridgepole.errors import MissingExtraError
from ridgepole.metrics.patterns import ConfusionMatrixFigurePattern, CurveFigurePattern
from ridgepole.metrics.pending import arrived, is_pending
from ridgepole.metrics.steps import Metrics, Resolved, StepCounter, plan
from ridgepole.permanence import Permanence
from ridgepole.permanences.loggers.mediacalls import MediaCalls

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ridgepole.permanences.loggers.figures.graph import Graph
    from ridgepole.permanences.loggers.figures.render import Rendered

P = ParamSpec("P")
T = TypeVar("T")

SWEEP_ENGINES = "ridgepole.sweeps"
"""Entry point group of sweep engines: `engine(run_once, sweep_config, logger=...)`."""


class LoggerSlot:
    """What the framework keeps of one logger, made when it is first needed.

    Attributes:
        steps: Where the logger stands.
        lock: Guards the steps where the backend has no lock of its own.
        log: Where `debug` to `error` go; None before the first message.
        dropped: How many records and figures were lost to failures that did not stop the run.
        settle: What is called before the logger flushes, checkpoints or cleans up: a group hands out what it holds.
    """

    __slots__ = ("dropped", "lock", "log", "settle", "steps")

    def __init__(self, global_step: int = 0, last_step: int = 0) -> None:
        self.steps = StepCounter(global_step, last_step)
        self.lock = threading.RLock()
        self.log: logging.Logger | None = None
        self.dropped = 0
        self.settle: list[weakref.WeakMethod[Callable[[], None]]] = []

    def count_dropped(self) -> None:
        """Counts one that was lost."""
        with self.lock:
            self.dropped += 1

    def __reduce__(self) -> tuple[type[LoggerSlot], tuple[int, int]]:
        # A copy, or a twin in another process, goes on from the same step with a lock and messages of its own.
        return (LoggerSlot, (self.steps.global_step, self.steps.last_step))


def slot_of(logger: BaseLoggerManager) -> LoggerSlot:
    """The slot of a logger, also of one whose constructor never called `super().__init__()`."""
    try:
        return logger.__dict__["_ridgepole_logger"]  # type: ignore[no-any-return]
    except KeyError:
        return logger.__dict__.setdefault("_ridgepole_logger", LoggerSlot())  # type: ignore[no-any-return]


def _settles(hook: Callable[P, T]) -> Callable[P, T]:
    """Wraps a `flush`, `checkpoint` or `cleanup`, so that nothing that is on its way to the logger comes too late."""

    @functools.wraps(hook)
    def settled(*args: P.args, **kwargs: P.kwargs) -> T:
        self = args[0]
        assert isinstance(self, BaseLoggerManager)
        try:
            for reference in slot_of(self).settle:
                settle = reference()
                if settle is not None:
                    settle()
        finally:
            result = hook(*args, **kwargs)
        return result

    settled.__ridgepole_settles__ = True  # type: ignore[attr-defined]
    return settled


class BaseLoggerManager(MediaCalls, Permanence):
    """Common interface of all logging backends.

    A backend writes `log_metrics`, `log_figure` and `cleanup`. It calls `self.resolve(metrics, step)` to have what it
    was given validated, flattened and put on steps; in a run with several loggers that has happened already, and
    `resolve` hands the records back as they are.

    ```python
    class PrintLogger(BaseLoggerManager):
        def log_metrics(self, metrics, *, step=None):
            for record in self.resolve(metrics, step):
                print(record.step, record.name, record.value)

        def log_figure(self, name, figure):
            print(name, figure)

        def cleanup(self):
            pass
    ```

    Attributes:
        ranks: Loggers live on rank 0 of a distributed run alone.
        strict: Whether a failure of this logger stops a run that has several; the others only warn once and count.
    """

    ranks: ClassVar[Literal["all", "zero"]] = "zero"
    strict: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("flush", "checkpoint", "cleanup"):
            hook = getattr(cls, name)  # through the MRO: a mixin's hook counts too
            if not getattr(hook, "__ridgepole_settles__", False):
                setattr(cls, name, _settles(hook))

    # -- metrics -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Logs scalar or structured metrics.

        Args:
            metrics: A mapping of names to numbers, strings, bools, 0-d arrays or tensors, short sequences or nested
                mappings (names are joined with `/`); a `MetricRecord`; or a list of these.
            step: An explicit step, stored as given. None takes the current one and moves it on by one; records whose
                policy is `reuse_last` take that of the latest call that was not one of those.

        Raises:
            TypeError: If a value can't be logged; it names the key, and nothing is logged.
            ValueError: If names collide once flattened, or the step is negative.
        """

    def resolve(self, metrics: Metrics, step: int | None = None) -> Resolved:
        """Validates and flattens what `log_metrics` was given, gives each record its step, and moves the step on.

        Args:
            metrics: As `log_metrics` takes it, or what `resolve` returned before: that comes back unchanged.
            step: As `log_metrics` takes it.

        Returns:
            `MetricRecord`s with flat names, plain values (numbers that are not finite included) and steps.

        Raises:
            TypeError: As `log_metrics`; the step stays.
            ValueError: As `log_metrics`; the step stays.
        """
        slot = slot_of(self)
        with slot.lock:
            made = plan(metrics, step, slot.steps)
            if is_pending(made):
                made = arrived(made)  # a backend by itself knows plain values alone, and waits for a GPU
            resolved = metrics if isinstance(metrics, Resolved) and made is metrics.plan else Resolved(made)
            slot.steps.adopt(made)
        return resolved

    def _log_resolved(self, metrics: Metrics, step: int | None) -> Resolved:
        """Logs, and returns the records for the other loggers of the same run."""
        resolved = self.resolve(metrics, step)
        self.log_metrics(resolved)
        return resolved

    @property
    def global_step(self) -> int:
        """The step that the next advancing call of `log_metrics` takes; 0 at the start."""
        return slot_of(self).steps.global_step

    @property
    def last_step(self) -> int:
        """The step of the latest advancing call; figures and `reuse_last` records belong to it. 0 before any."""
        return slot_of(self).steps.last_step

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this logger: where its steps stand."""
        steps = slot_of(self).steps
        return {"global_step": steps.global_step, "last_step": steps.last_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint. A backend that can hide what was logged after it extends this.

        Args:
            state: What `state_dict` gave; an empty one is that of the beginning.
        """
        slot = slot_of(self)
        with slot.lock:
            slot.steps.global_step = int(state.get("global_step", 0))
            slot.steps.last_step = int(state.get("last_step", 0))

    def flush(self, durable: bool = False) -> None:
        """Hands everything logged so far to where it goes.

        Args:
            durable: Whether to wait until it is on the disk, where the backend has one.
        """

    # -- figures -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def log_figure(self, name: str, figure: Any) -> None:
        """Logs a built figure.

        Args:
            name: Any text; names are data and never paths.
            figure: A matplotlib or plotly figure, a PIL image, or an array.
        """

    def log_rendered(self, name: str, rendered: Rendered, *, step: int | None = None) -> None:
        """Logs a figure that was drawn already: in a run with several loggers it is drawn once for all of them.

        A backend that wants the bytes overrides this; by default the original figure goes to `log_figure`.

        Args:
            name: As in `log_figure`.
            rendered: The drawn figure.
            step: The step that it belongs to.
        """
        del step
        self.log_figure(name, rendered.source)

    def _draw(self, name: str, figure: Any) -> Rendered | None:
        """Draws a figure; a failure to draw is reported and counted, and gives None. Wrong types are errors."""
        from ridgepole.permanences.loggers.figures.render import prepare

        return self._drawn(name, prepare(figure))

    def _draw_then(self, name: str, figure: Any, deliver: Callable[[Rendered], object]) -> bool:
        """Draws a figure, and gives it to `deliver`; a failure to draw is reported and counted. Wrong types are errors.

        A logger that draws elsewhere overrides this, and may call `deliver` later, on another thread.

        Returns:
            Whether it was delivered, or has failed, already.
        """
        rendered = self._draw(name, figure)
        if rendered is not None:
            deliver(rendered)
        return True

    def _drain(self) -> None:
        """Returns once nothing is on its way any more: figures that are being drawn, values on a GPU."""

    def _drawn(self, name: str, drawing: Callable[[], T]) -> T | None:
        try:
            return drawing()
        except Exception as error:  # noqa: BLE001 - whatever a user's figure, or its callbacks, may raise
            slot_of(self).dropped += 1
            self.error("the figure %r could not be drawn: %s: %s", name, type(error).__name__, error)
            return None

    def log_seaborn_graph(self, name: str, data: Any, x: Any = None, y: Any = None, kind: str = "line") -> None:
        """Creates a seaborn graph and routes it through `log_figure`.

        Args:
            name: Name of the figure, and its title.
            data: A pandas or polars frame or series, a mapping of columns, a sequence or an array.
            x: Name of the column along x, or the values.
            y: Name of the column along y, or the values.
            kind: `line`, `scatter`, `reg`, `bar`, `count`, `point`, `hist`, `kde`, `ecdf`, `rug`, `box`, `boxen`,
                `violin`, `strip`, `swarm` or `heatmap`. Very long data is thinned for the drawing.

        Raises:
            ValueError: If the kind is unknown, a named column is missing, or there is nothing to draw.
            TypeError: If the data is of another type.
            MissingExtraError: If seaborn is not installed.
        """
        graph = self._build_graph(name, data, x, y, kind)
        if graph is not None:
            self.log_figure(name, graph.figure)

    def _log_graph(self, name: str, rendered: Rendered, graph: Graph, step: int) -> None:
        """Logs a graph that was drawn already; a backend that keeps the data, too, overrides this."""
        del graph
        self.log_rendered(name, rendered, step=step)

    def _build_graph(self, name: str, data: Any, x: Any, y: Any, kind: str) -> Graph | None:
        from ridgepole.permanences.loggers.figures.graph import prepare_graph

        return self._drawn(name, prepare_graph(name, data, x, y, kind))

    def log_metric_figure(
        self,
        pattern: CurveFigurePattern | ConfusionMatrixFigurePattern,
        targets: Any = None,
        predictions: Any = None,
    ) -> None:
        """Builds the figure of a pattern and logs it under the pattern's name.

        Args:
            pattern: A curve pattern is rebuilt from the history of this run; a confusion matrix from the labels.
            targets: True labels of a confusion matrix.
            predictions: Predicted labels of a confusion matrix.

        Raises:
            TypeError: If it is no figure pattern, or a confusion matrix without labels.
            ValueError: If the history has none of the curve's metrics; the message lists what there is.
            MissingExtraError: If matplotlib, or polars for the history, is not installed.
        """
        self.log_figure(pattern.name, self._build_metric_figure(pattern, targets, predictions))

    def _build_metric_figure(self, pattern: Any, targets: Any, predictions: Any) -> Figure:
        if isinstance(pattern, ConfusionMatrixFigurePattern):
            if targets is None or predictions is None:
                raise TypeError(f"the confusion matrix {pattern.name!r} needs targets and predictions")
            return pattern.build(targets, predictions)
        if not isinstance(pattern, CurveFigurePattern):
            raise TypeError(f"{type(pattern).__name__} is no figure pattern; give LOSS_CURVE, or one of your own")
        return pattern.build(self._history(pattern))

    def _history(self, pattern: CurveFigurePattern) -> Mapping[str, tuple[Any, Any]]:
        raise TypeError(
            f"{type(self).__name__} keeps no history to draw {pattern.name!r} from; a BasicLogger in the same run does"
        )

    # -- messages ----------------------------------------------------------------------------------------------------

    def debug(self, message: object, *args: object) -> None:
        """Logs a message for whoever looks for an error; `args` are put in with `%`, as in the stdlib."""
        self._say(logging.DEBUG, message, args)

    def info(self, message: object, *args: object) -> None:
        """Logs what happens."""
        self._say(logging.INFO, message, args)

    def warning(self, message: object, *args: object) -> None:
        """Logs what may be wrong."""
        self._say(logging.WARNING, message, args)

    def error(self, message: object, *args: object) -> None:
        """Logs what went wrong."""
        self._say(logging.ERROR, message, args)

    def _say(self, level: int, message: object, args: tuple[object, ...], *, terminal: bool = True) -> None:
        from ridgepole.permanences.loggers.messages import quietly

        if terminal:
            self._log().log(level, message, *args)
        else:
            quietly(self._log(), level, message, *args)

    def _log(self) -> logging.Logger:
        """The logger behind the messages; a backend with a level or a theme of its own overrides this."""
        from ridgepole.permanences.loggers.messages import make_log

        slot = slot_of(self)
        with slot.lock:
            if slot.log is None:
                slot.log = make_log(f"ridgepole.{type(self).__name__}")
            return slot.log

    # -- sweeps ------------------------------------------------------------------------------------------------------

    def supports_sweep(self) -> bool:
        """Whether this backend supports hyperparameter sweeps: all do."""
        return True

    def sweep_service(self) -> dict[str, Any]:
        """Which service chooses the trials of this backend's sweeps, and what it is told; empty where Ridgepole does.

        Returns:
            `executor`, which is that of the sweep unless its file names one; `project`, `entity` and `count`, likewise.
        """
        return {}

    def run_sweep(self, run_once: Callable[..., Any], sweep_config: Mapping[str, Any] | str | Path) -> Any:
        """Runs a sweep on the installed engine.

        Args:
            run_once: Runs one trial; takes no argument, or the trial.
            sweep_config: A sweep in W&B's schema, or the file that holds it.

        Returns:
            What the engine returns, a `SweepResult`.

        Raises:
            MissingExtraError: If no engine is installed.
        """
        from importlib.metadata import entry_points

        for entry in sorted(entry_points(group=SWEEP_ENGINES), key=lambda entry: entry.name):
            return entry.load()(run_once, sweep_config, logger=self)
        raise MissingExtraError(f"a sweep engine (entry point group {SWEEP_ENGINES!r})", "sweep", "run_sweep")
