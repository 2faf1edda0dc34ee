"""All loggers of a run as one, and the logger that stands where none is wanted."""

from __future__ import annotations

import inspect
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.metrics.patterns import CurveFigurePattern
from ridgepole.metrics.pending import arrived, has_arrived, is_pending
from ridgepole.metrics.steps import Metrics, Resolved, checked_step
from ridgepole.metrics.values import Scalar
from ridgepole.permanences.loggers.base import BaseLoggerManager, slot_of
from ridgepole.permanences.loggers.payloads import AnnotatedImage, Histogram, Table

if TYPE_CHECKING:
    from ridgepole.permanences.loggers.figures.render import Rendered


class NullLogger(BaseLoggerManager):
    """Drops what it is given, but checks it and counts steps as every logger does; warnings and errors are shown."""

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Validates the metrics, moves the step on, and drops them; errors as in `BaseLoggerManager.log_metrics`."""
        self.resolve(metrics, step)

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Drops the figure, and closes it unless `close` is false."""
        del name, step
        if close:
            from ridgepole.permanences.loggers.figures.render import close as close_figure

            close_figure(figure)

    def log_rendered(self, name: str, rendered: Rendered, *, step: int | None = None) -> None:
        """Drops the figure."""

    def log_seaborn_graph(self, name: str, data: Any, x: Any = None, y: Any = None, kind: str = "line") -> None:
        """Drops the graph without building it."""

    def log_metric_figure(self, pattern: Any, targets: Any = None, predictions: Any = None) -> None:
        """Drops the figure without building it."""

    def log_image(
        self,
        name: str,
        image: Any,
        *,
        masks: Mapping[str, Any] | None = None,
        boxes: Mapping[str, Any] | None = None,
        step: int | None = None,
    ) -> None:
        """Drops the image without looking at it."""

    def log_table(self, name: str, data: Any, *, columns: Sequence[str] | None = None, step: int | None = None) -> None:
        """Drops the table without looking at it."""

    def log_histogram(self, name: str, values: Any, *, bins: int = 64, step: int | None = None) -> None:
        """Drops the values without counting them."""

    def _log_image(self, name: str, image: AnnotatedImage, step: int) -> None:
        """Drops the image without drawing it."""

    def cleanup(self) -> None:
        """Has nothing to release."""

    def _log(self) -> logging.Logger:
        from ridgepole.permanences.loggers.messages import make_log

        slot = slot_of(self)
        with slot.lock:
            if slot.log is None:
                slot.log = make_log("ridgepole.NullLogger", "WARNING")
            return slot.log


_METHODS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


@dataclass(slots=True)
class _Sink:
    """A member of a group.

    Attributes:
        logger: The member.
        off: Whether it failed and is given nothing any more.
        dropped: How many calls it has missed.
    """

    logger: BaseLoggerManager
    off: bool = False
    dropped: int = 0


class _Drawn:
    """A drawn figure on its way to the members.

    Attributes:
        rendered: The drawn figure.
        only_bytes: Whether those that take the figure itself have it already.
    """

    __slots__ = ("_give", "only_bytes", "rendered")

    def __init__(self, give: Callable[[BaseLoggerManager, Rendered], None]) -> None:
        self._give = give
        self.only_bytes = False
        self.rendered: Rendered | None = None

    def __call__(self, logger: BaseLoggerManager) -> None:
        assert self.rendered is not None
        self._give(logger, self.rendered)


def _takes_drawn(logger: BaseLoggerManager) -> bool:
    return type(logger).log_rendered is not BaseLoggerManager.log_rendered


class LoggerGroup(BaseLoggerManager):
    """A view over all loggers of a run, itself never initialised or cleaned up: its members are, by their owner.

    Steps and flattening are resolved once, by the leading member (the first `strict` one, which is the local record,
    else the first); a figure is drawn once. A member that is not `strict` and fails is warned of once, switched off,
    and what it misses is counted; a strict one raises.

    Args:
        loggers: The members; without any, nothing is logged.

    Attributes:
        loggers: The members, in the order in which they were given.
    """

    strict = True

    def __init__(self, loggers: Sequence[BaseLoggerManager]) -> None:
        self.loggers: tuple[BaseLoggerManager, ...] = tuple(loggers)
        for logger in self.loggers:
            if not isinstance(logger, BaseLoggerManager):
                raise TypeError(f"a LoggerGroup holds loggers, not {type(logger).__name__}")
        strict = [logger for logger in self.loggers if logger.strict]
        self._lead: BaseLoggerManager = (strict or [*self.loggers, NullLogger()])[0]
        self._others = [_Sink(logger) for logger in self.loggers if logger is not self._lead]
        self._lead_sink = _Sink(self._lead)
        takes_step = "step" in inspect.signature(self._lead.log_metrics).parameters
        self._handing = threading.RLock()
        self._ready: deque[_Drawn] = deque()
        self._late: deque[Resolved] = deque()
        for logger in self.loggers:
            slot = slot_of(logger)
            slot.settle = [*(known for known in slot.settle if known() is not None), weakref.WeakMethod(self._settle)]
        self._alone = self._lead if takes_step and self._lead.strict and not self._others else None

    def initialize(self) -> None:
        """Leaves the members to their owner."""

    def cleanup(self) -> None:
        """Leaves the members to their owner."""

    def is_initialized(self) -> bool:
        """Whether every member is."""
        return all(logger.is_initialized() for logger in self.loggers)

    def checkpoint(self) -> None:
        """Has every member bring to safety what it holds."""
        self._each(lambda logger: logger.checkpoint())

    def flush(self, durable: bool = False) -> None:
        """Flushes every member, figures that are still being drawn included; errors of the strict ones are raised."""
        self._settle()
        self._each(lambda logger: logger.flush(durable))

    def get_state(self) -> dict[str, Any]:
        """The states of the members, and what those that failed have missed."""
        sinks = [self._lead_sink, *self._others]
        off = [{"type": type(s.logger).__name__, "dropped": s.dropped} for s in sinks if s.off]
        states = [logger.get_state() for logger in self.loggers]
        return {"global_step": slot_of(self._lead).steps.global_step, "loggers": states, "off": off}

    # -- metrics -----------------------------------------------------------------------------------------------------

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Logs metrics to every member; see `BaseLoggerManager.log_metrics`.

        Args:
            metrics: As there; resolved once.
            step: As there.

        Raises:
            TypeError: As there; nothing is logged anywhere.
            ValueError: As there; nothing is logged anywhere.
            LogWriteError: If the local record can't be written; the step is unchanged and nothing is logged elsewhere.
        """
        if self._alone is not None:
            self._alone.log_metrics(metrics, step=step)
            return
        if self._ready or self._late:
            self._hand_out()
        self._log_resolved(metrics, step)

    def _log_resolved(self, metrics: Metrics, step: int | None) -> Resolved:
        lead = self._lead
        if lead.strict:
            resolved = lead._log_resolved(metrics, step)  # noqa: SLF001 - the interface's own other half
        else:
            resolved = lead.resolve(metrics, step)
            self._try(self._lead_sink, lambda logger: logger.log_metrics(resolved))
        if self._others and (self._late or is_pending(resolved.plan)):
            self._late.append(resolved)  # behind those that still wait for a GPU, so that the order stays
            return resolved
        for sink in self._others:
            self._try(sink, lambda logger: logger.log_metrics(resolved))
        return resolved

    def _hand_out_late(self, wait: bool) -> None:
        """Gives the other members records whose values have arrived from a GPU meanwhile; or waits for all."""
        while self._late and (wait or has_arrived(self._late[0].plan)):
            resolved = self._late.popleft()
            if is_pending(resolved.plan):
                resolved = Resolved(arrived(resolved.plan))
            for sink in self._others:
                self._try(sink, lambda logger: logger.log_metrics(resolved))  # noqa: B023 - called at once

    def resolve(self, metrics: Metrics, step: int | None = None) -> Resolved:
        """Resolves with the leading member; see `BaseLoggerManager.resolve`."""
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
        """The states of all members, in their order."""
        return {"members": [logger.state_dict() for logger in self.loggers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets every member go on from its state; see `BaseLoggerManager.load_state_dict`."""
        members = state.get("members", [{}] * len(self.loggers))
        for logger, own in zip(self.loggers, members, strict=True):
            logger.load_state_dict(own)

    def latest(self, name: str) -> tuple[int, Any]:
        """How many values of a metric the local record has, and the last of them; (0, None) without one."""
        find: Callable[[str], tuple[int, Any]] | None = getattr(self._lead, "latest", None)
        return (0, None) if find is None else find(name)

    def summary(self) -> dict[str, Any]:
        """The summary of the local record, as in `summary.json`; empty where there is none."""
        summarize: Callable[[], dict[str, Any]] | None = getattr(self._lead, "summary", None)
        return {} if summarize is None else summarize()

    def log_metric_figure(self, pattern: Any, targets: Any = None, predictions: Any = None) -> None:
        """Builds the figure from the local record and logs it everywhere; see `BaseLoggerManager.log_metric_figure`."""
        if not isinstance(self._lead, NullLogger):
            super().log_metric_figure(pattern, targets, predictions)

    def _history(self, pattern: CurveFigurePattern) -> Mapping[str, tuple[Any, Any]]:
        return self._lead._history(pattern)  # noqa: SLF001 - as above

    # -- figures -----------------------------------------------------------------------------------------------------

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Draws a figure once and gives the same bytes to every member; arguments and errors as in `BasicLogger`."""
        from ridgepole.permanences.loggers.figures.names import checked_name
        from ridgepole.permanences.loggers.figures.render import close as close_figure

        checked_name(name)
        at = checked_step(step)
        at = self.last_step if at is None else at
        try:
            self._log_drawn(
                name,
                figure,
                lambda logger, rendered: logger.log_rendered(name, rendered, step=at),
            )
        finally:
            if close:
                close_figure(figure)

    def _log_drawn(self, name: str, figure: Any, give: Callable[[BaseLoggerManager, Rendered], None]) -> None:
        """Draws a figure, and gives it to every member: the local record as soon as it is drawn, the others from here.

        A member that takes no drawn figures is given the figure itself, while it is what it was.
        """
        drawn = _Drawn(give)

        def deliver(rendered: Rendered) -> None:
            self._try(self._lead_sink, lambda logger: give(logger, rendered))
            drawn.rendered = rendered
            self._ready.append(drawn)

        with self._handing:
            if not self._lead._draw_then(name, figure, deliver):  # noqa: SLF001 - as above
                drawn.only_bytes = True
                for sink in self._others:
                    if not _takes_drawn(sink.logger):
                        self._try(sink, lambda logger: logger.log_figure(name, figure))
        self._hand_out()

    def _hand_out(self, wait: bool = False) -> None:
        """Gives the other members what has become ready meanwhile, on a thread that they expect."""
        with self._handing:
            self._hand_out_late(wait)
            while self._ready:
                drawn = self._ready.popleft()
                for sink in self._others:
                    if not drawn.only_bytes or _takes_drawn(sink.logger):
                        self._try(sink, drawn)

    def _settle(self) -> None:
        """Returns once everything that was logged has reached every member."""
        with self._handing:
            try:
                self._lead._drain()  # noqa: SLF001 - as above
            except BaseException:
                self._hand_out()  # what is there; a GPU that does not answer is not waited for again
                raise
            self._hand_out(wait=True)

    def log_rendered(self, name: str, rendered: Rendered, *, step: int | None = None) -> None:
        """Gives a drawn figure to every member."""
        at = self.last_step if step is None else step
        self._each(lambda logger: logger.log_rendered(name, rendered, step=at))

    def log_seaborn_graph(self, name: str, data: Any, x: Any = None, y: Any = None, kind: str = "line") -> None:
        """Builds a graph once for every member; see `BaseLoggerManager.log_seaborn_graph`."""
        from ridgepole.permanences.loggers.figures.names import checked_name

        checked_name(name)
        graph, at = self._build_graph(name, data, x, y, kind), self.last_step
        if graph is not None:
            self._log_drawn(
                name,
                graph.figure,
                lambda logger, rendered: logger._log_graph(name, rendered, graph, at),  # noqa: SLF001 - as above
            )

    # -- further media: brought into their form once, by the methods of the interface ---------------------------------

    def _log_image(self, name: str, image: AnnotatedImage, step: int) -> None:
        self._each(lambda logger: logger._log_image(name, image, step))  # noqa: SLF001 - as above

    def _log_table(self, name: str, table: Table, step: int) -> None:
        self._each(lambda logger: logger._log_table(name, table, step))  # noqa: SLF001 - as above

    def _log_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        self._each(lambda logger: logger._log_histogram(name, histogram, step))  # noqa: SLF001 - as above

    def _log_text(self, name: str, text: str, step: int) -> None:
        self._each(lambda logger: logger._log_text(name, text, step))  # noqa: SLF001 - as above

    def _log_hparams(self, params: dict[str, Scalar | None], metrics: dict[str, float]) -> None:
        # A copy for each: a member may keep what it is given, and another may change it.
        self._each(lambda logger: logger._log_hparams(dict(params), dict(metrics)))  # noqa: SLF001 - as above

    # -- messages ----------------------------------------------------------------------------------------------------

    def _say(self, level: int, message: object, args: tuple[object, ...], *, terminal: bool = True) -> None:
        """Says it once on the terminal, and in the files of all members."""
        self._lead._say(level, message, args, terminal=terminal)  # noqa: SLF001 - as above

        def tell(logger: BaseLoggerManager) -> None:
            method = _METHODS.get(level, "")
            if getattr(type(logger), method, None) is not getattr(BaseLoggerManager, method, None):
                getattr(logger, method)(message, *args)  # a backend with a way of its own, such as a chat
            else:
                logger._say(level, message, args, terminal=False)  # noqa: SLF001 - as above

        for sink in self._others:
            self._try(sink, tell, report=False)  # a message that fails is no reason to stop, or to say more

    def _log(self) -> logging.Logger:
        return self._lead._log()  # noqa: SLF001 - as above

    # -- members -----------------------------------------------------------------------------------------------------

    def _each(self, call: Callable[[BaseLoggerManager], None]) -> None:
        """Calls the leading member first: where the local record fails, nobody else is told of what it lacks."""
        for sink in (self._lead_sink, *self._others):
            self._try(sink, call)

    def _try(self, sink: _Sink, call: Callable[[BaseLoggerManager], None], *, report: bool = True) -> None:
        if sink.off:
            sink.dropped += report
            slot_of(self._lead).dropped += report
            return
        try:
            call(sink.logger)
        except Exception as error:
            if sink.logger.strict:
                raise
            if not report:
                return
            sink.off = True
            sink.dropped += 1
            slot_of(self._lead).dropped += 1
            name = type(sink.logger).__name__
            self.warning("%s failed and is switched off for this run: %s: %s", name, type(error).__name__, error)

    def run_sweep(self, run_once: Callable[..., Any], sweep_config: Mapping[str, Any] | str | Path) -> Any:
        """Runs a sweep with the member that has a service for it, else the leading one."""
        member = next((logger for logger in self.loggers if logger.sweep_service()), self._lead)
        return member.run_sweep(run_once, sweep_config)

    def sweep_service(self) -> dict[str, Any]:
        """That of the first member that has one; see `BaseLoggerManager.sweep_service`."""
        return next((service for logger in self.loggers if (service := logger.sweep_service())), {})
