"""All loggers of a run as one, and the logger that drops everything."""

from __future__ import annotations

import inspect
import logging
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.figures.render import close as close_figure
from ridgepole.loggers.media_types import AnnotatedImage, Histogram, MediaFile, RenderedFigure, Table
from ridgepole.loggers.members import Members
from ridgepole.loggers.messages import ExcInfo
from ridgepole.loggers.slot import slot_of
from ridgepole.metrics.convert import Scalar
from ridgepole.metrics.patterns import CurveFigurePattern
from ridgepole.metrics.steps import Metrics, Resolved
from ridgepole.watch.alerts import Level

_SAMPLED = 16


class NullLogger(BaseLoggerManager):
    """Checks metrics, counts steps and drops everything; shows warnings and errors."""

    _log_level = "WARNING"

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Validate the metrics and advance the step; errors as in `BaseLoggerManager`."""
        self.resolve(metrics, step)

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Drop the figure, and close it unless `close` is false."""
        del name, step
        if close:
            close_figure(figure)

    def _drop(self, *args: Any, **kwargs: Any) -> None:
        """Drop the argument without converting or drawing it."""

    log_rendered = log_seaborn_graph = log_metric_figure = log_image = log_table = log_histogram = _drop
    log_audio = log_video = log_html = log_artifact = watch = _drop

    def cleanup(self) -> None:
        """Do nothing."""


class LoggerGroup(BaseLoggerManager):
    """A view of all loggers of a run as one; it does not initialize or clean up its members.

    The leading member (the first `strict` one, which is the local record, else the first) resolves
    steps and flattens once for all, and draws each figure once. If a member that is not `strict`
    fails, the group warns once, switches it off, and counts what it misses. A strict one raises.

    Args:
        loggers: The members; without any, nothing is logged.

    Attributes:
        loggers: The members, in the given order.
    """

    strict = True

    def __init__(self, loggers: Sequence[BaseLoggerManager]) -> None:
        self.loggers: tuple[BaseLoggerManager, ...] = tuple(loggers)
        for logger in self.loggers:
            if not isinstance(logger, BaseLoggerManager):
                raise TypeError(f"a LoggerGroup holds loggers, not {type(logger).__name__}")
        strict = [logger for logger in self.loggers if logger.strict]
        self._lead: BaseLoggerManager = (strict or [*self.loggers, NullLogger()])[0]
        self._members = Members(self._lead, [logger for logger in self.loggers if logger is not self._lead])
        record = getattr(self._lead, "log_dir", None) if self._lead.is_local_record else None
        for logger in self.loggers:
            slot = slot_of(logger)
            alive = [known for known in slot.before_flush if known() is not None]
            slot.before_flush = [*alive, weakref.WeakMethod(self._members.deliver_all)]
            if record is not None and logger is not self._lead:
                slot.local_record = Path(record).absolute()
        weakref.finalize(self, self._members.release)
        takes_step = "step" in inspect.signature(self._lead.log_metrics).parameters
        self._calls = 0
        self._alone = self._lead if takes_step and self._lead.strict and len(self.loggers) < 2 else None

    def _owner(self) -> BaseLoggerManager:
        return self._lead

    def _logging(self, weight: int = 1) -> AbstractContextManager[None]:
        """Measure a block as logging, among the times of the run's steps."""
        ticks = slot_of(self._lead).steps.ticks
        return nullcontext() if ticks is None else ticks.times.spent("logging", weight)

    def _log_each(self, log: Callable[[BaseLoggerManager], object]) -> None:
        with self._logging():
            self._members.each(log)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, as in a DataLoader worker, groups the copies of the members.
        return (type(self), (self.loggers,))

    def initialize(self) -> None:
        """Leave the members to their owner."""

    def cleanup(self) -> None:
        """Leave the members to their owner."""

    def is_initialized(self) -> bool:
        """Return whether every member is initialized."""
        return all(logger.is_initialized() for logger in self.loggers)

    def checkpoint(self) -> None:
        """Checkpoint every member."""
        self._members.each(lambda logger: logger.checkpoint())

    def flush(self, durable: bool = False) -> None:
        """Flush every member, pending figures included; errors of the strict ones are raised."""
        self._members.deliver_all()
        self._members.each(lambda logger: logger.flush(durable))

    def get_state(self) -> dict[str, Any]:
        """Return the states of the members, and what those that failed have missed."""
        members = [self._members.leader, *self._members.others]
        off = [{"type": type(m.logger).__name__, "dropped": m.dropped} for m in members if m.off]
        states = [logger.get_state() for logger in self.loggers]
        return {"global_step": slot_of(self._lead).steps.global_step, "loggers": states, "off": off}

    # -- metrics -----------------------------------------------------------------------------------

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Log metrics to every member, resolved once; arguments as in `BaseLoggerManager`.

        Raises:
            TypeError: If a value can't be logged; no member logs anything.
            ValueError: If names collide, or the step is negative; no member logs anything.
            LogWriteError: If the local record can't be written; the step is unchanged and no other
                member logs anything.
        """
        if self._alone is not None:
            self._calls += 1
            if self._calls % _SAMPLED:  # measured one call in a few: a clock costs as much as some of it
                self._alone.log_metrics(metrics, step=step)
                return
            with self._logging(weight=_SAMPLED):
                self._alone.log_metrics(metrics, step=step)
            return
        with self._logging():
            if self._members.owes:
                self._members.deliver()
            self._log_resolved(metrics, step)

    def _log_resolved(self, metrics: Metrics, step: int | None) -> Resolved:
        lead = self._lead
        if lead.strict:
            resolved = lead._log_resolved(metrics, step)  # noqa: SLF001 - the interface's own other half
        else:
            resolved = lead.resolve(metrics, step)
            self._members.attempt(self._members.leader, lambda logger: logger.log_metrics(resolved))
        self._members.log_metrics(resolved)
        return resolved

    def show_system(self, values: Mapping[str, float], step: int) -> None:
        """Give system metrics to every member; one that fails misses them."""
        for logger in self.loggers:
            with suppress(Exception):
                logger.show_system(values, step)

    def resolve(self, metrics: Metrics, step: int | None = None) -> Resolved:
        """Resolve with the leading member; see `BaseLoggerManager.resolve`."""
        return self._lead.resolve(metrics, step)

    @property
    def global_step(self) -> int:
        """The step of the leading member."""
        return self._lead.global_step

    @property
    def last_step(self) -> int:
        """The step of the latest advancing call."""
        return self._lead.last_step

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all members, in their order."""
        return {"members": [logger.state_dict() for logger in self.loggers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore every member; see `BaseLoggerManager.load_state_dict`."""
        members = state.get("members", [{}] * len(self.loggers))
        for logger, own in zip(self.loggers, members, strict=True):
            logger.load_state_dict(own)

    def latest(self, name: str) -> tuple[int, Any]:
        """Return the count of a metric's values in the local record and the last one."""
        find: Callable[[str], tuple[int, Any]] | None = getattr(self._lead, "latest", None)
        return (0, None) if find is None else find(name)

    def tally(self, name: str) -> tuple[int, int, Any]:
        """Count the values of a metric in the local record, and those that are not finite."""
        find: Callable[[str], tuple[int, int, Any]] | None = getattr(self._lead, "tally", None)
        return (0, 0, None) if find is None else find(name)

    def metric_names(self) -> list[str]:
        """Return the names of the metrics in the local record so far."""
        names: Callable[[], list[str]] | None = getattr(self._lead, "metric_names", None)
        return [] if names is None else names()

    def summary(self) -> dict[str, Any]:
        """Return the summary of the local record, as in `summary.json`; empty without one."""
        summarize: Callable[[], dict[str, Any]] | None = getattr(self._lead, "summary", None)
        return {} if summarize is None else summarize()

    # -- figures -----------------------------------------------------------------------------------

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Draw a figure once and give the same bytes to every member.

        Arguments and errors as in `BasicLogger.log_figure`.
        """
        name, at = self._named("a figure", name, step)
        try:
            self._log_drawn(name, figure, at, lambda logger, rendered: logger.log_rendered(name, rendered, step=at))
        finally:
            if close:
                close_figure(figure)

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
        """Build a graph once for every member; see `BaseLoggerManager.log_seaborn_graph`."""
        name, at = self._named("a figure", name, step)
        graph = self._build_graph(name, data, x, y, kind, hue)
        if graph is not None:
            log = lambda logger, rendered: logger._log_graph(name, rendered, graph, at)  # noqa: E731, SLF001
            self._log_drawn(name, graph.figure, at, log)

    def log_metric_figure(
        self, pattern: Any, targets: Any = None, predictions: Any = None, *, step: int | None = None
    ) -> None:
        """Build the figure from the local record and log it to every member.

        Arguments and errors as in `BaseLoggerManager.log_metric_figure`.
        """
        if not isinstance(self._lead, NullLogger):
            super().log_metric_figure(pattern, targets, predictions, step=step)

    def _history(self, pattern: CurveFigurePattern) -> Mapping[str, tuple[Any, Any]]:
        return self._lead._history(pattern)  # noqa: SLF001 - as above

    def log_rendered(self, name: str, rendered: RenderedFigure, *, step: int | None = None) -> None:
        """Give a drawn figure to every member."""
        name, at = self._named_figure(name, rendered, step)
        self._log_each(lambda logger: logger.log_rendered(name, rendered, step=at))

    def _log_drawn(
        self, name: str, figure: Any, step: int, log: Callable[[BaseLoggerManager, RenderedFigure], object]
    ) -> None:
        """Have the leading member draw a figure, now or later, and log it with every member.

        The leading member logs it as soon as it is drawn. The others log it on the caller's thread:
        at once those that take the figure itself, unless drawing failed; the rest once it is drawn.
        """
        with self._logging():
            self._members.log_drawn(
                lambda deliver: self._lead._draw_then(name, figure, deliver),  # noqa: SLF001 - as above
                log,
                lambda logger: logger._log_as_accepted(name, figure, step, close=False),  # noqa: SLF001
            )

    # -- other media, converted once by the methods of the interface -------------------------------

    def _log_image(self, name: str, image: AnnotatedImage, step: int) -> None:
        self._log_each(lambda logger: logger._log_image(name, image, step))  # noqa: SLF001 - as above

    def _log_table(self, name: str, table: Table, step: int) -> None:
        self._log_each(lambda logger: logger._log_table(name, table, step))  # noqa: SLF001 - as above

    def _log_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        self._log_each(lambda logger: logger._log_histogram(name, histogram, step))  # noqa: SLF001 - as above

    def _log_text(self, name: str, text: str, step: int) -> None:
        self._log_each(lambda logger: logger._log_text(name, text, step))  # noqa: SLF001 - as above

    def _log_hparams(self, params: dict[str, Scalar | None], metrics: dict[str, float], step: int) -> None:
        # A copy for each: a member may keep or change what it is given.
        self._log_each(lambda logger: logger._log_hparams(dict(params), dict(metrics), step))  # noqa: SLF001 - as above

    def _log_media_file(self, name: str, file: MediaFile, step: int) -> None:
        self._log_each(lambda logger: logger._log_media_file(name, file, step))  # noqa: SLF001 - as above

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
        """Write a message once to the terminal, and to the files of all members."""
        error = sys.exc_info()[1] if exc_info is True else exc_info  # the members' own errors come later
        self._members.say(level, message, args, terminal=terminal, error=error)

    def _keep_alert(self, title: str, text: str, level: Level) -> None:
        self._lead._keep_alert(title, text, level)  # noqa: SLF001 - as above

    def _log(self) -> logging.Logger:
        return self._lead._log()  # noqa: SLF001 - as above

    # -- sweeps ------------------------------------------------------------------------------------

    def run_sweep(self, run_once: Callable[..., Any], sweep_config: Mapping[str, Any] | str | Path) -> Any:
        """Run a sweep with the member that has a service for it, else with the leading one."""
        member = next((logger for logger in self.loggers if logger.sweep_service()), self._lead)
        return member.run_sweep(run_once, sweep_config)

    def sweep_service(self) -> dict[str, Any]:
        """Return the first member's service; see `BaseLoggerManager.sweep_service`."""
        return next((service for logger in self.loggers if (service := logger.sweep_service())), {})
