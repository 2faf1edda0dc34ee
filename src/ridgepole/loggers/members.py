"""The members of a `LoggerGroup`: which ones still log, and what they are still to be given."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ridgepole.children import in_forked_children
from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.ending import export_command
from ridgepole.loggers.media_types import RenderedFigure
from ridgepole.loggers.messages import ExcInfo
from ridgepole.loggers.slot import slot_of
from ridgepole.metrics.steps import Resolved, arrived, has_arrived, is_pending

Call = Callable[[BaseLoggerManager], object]

_METHODS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


@dataclass(slots=True)
class Member:
    """A logger in a group.

    Attributes:
        logger: The logger.
        off: Whether it failed and is switched off.
        dropped: Number of calls that it has missed.
    """

    logger: BaseLoggerManager
    off: bool = False
    dropped: int = 0

    @property
    def takes_rendered(self) -> bool:
        """Tell whether it takes drawn figures; otherwise it gets the figure itself."""
        return type(self.logger).log_rendered is not BaseLoggerManager.log_rendered


class Members:
    """Passes calls to the members of a group, the leading one first.

    The leading member logs a figure as soon as it is drawn, and a metric as soon as its value has
    arrived from a GPU. The others get both at the next call, on the caller's thread. This object
    outlives its group until all of that is delivered.

    Args:
        lead: The leading member.
        others: The other members.

    Attributes:
        leader: The leading member.
        others: The other members.
    """

    def __init__(self, lead: BaseLoggerManager, others: Sequence[BaseLoggerManager]) -> None:
        self.leader = Member(lead)
        self.others = [Member(logger) for logger in others]
        self._orphaned = False
        self.after_fork_in_child()
        in_forked_children(self.after_fork_in_child)

    def after_fork_in_child(self) -> None:
        """Leave to the parent what is still to be delivered."""
        self._delivering = threading.RLock()
        self._drawn: deque[Call] = deque()
        self._deferred: deque[Resolved] = deque()

    def each(self, call: Call) -> None:
        """Call the leading member first: if it raises, no other member logs what it lacks."""
        for member in (self.leader, *self.others):
            self.attempt(member, call)

    def attempt(self, member: Member, call: Call, *, report: bool = True) -> None:
        """Call a member; switch it off if it fails and is not strict. Count what it misses."""
        if not member.off:
            try:
                call(member.logger)
                return
            except Exception as error:
                if member.logger.strict:
                    raise
                if not report:
                    return
                member.off = True
                failure = f"{type(error).__name__}: {error}"
            self._say_off(member, failure)
        member.dropped += report
        slot_of(self.leader.logger).dropped += report

    def _say_off(self, member: Member, failure: str) -> None:
        logger = member.logger
        command = export_command(slot_of(logger).local_record, logger.export_target)
        later = f"; to fill it later: {command}" if command else ""
        text = f"{type(logger).__name__} failed and is switched off for this run: {failure}{later}"
        self.say(logging.WARNING, "%s", (text,), terminal=True)

    def say(
        self, level: int, message: object, args: tuple[object, ...], *, terminal: bool, error: ExcInfo = None
    ) -> None:
        """Write a message once to the terminal, and to the files of all members."""
        self.leader.logger._say(level, message, args, terminal=terminal, exc_info=error)  # noqa: SLF001 - the interface's own other half
        method = _METHODS.get(level, "")

        def write(logger: BaseLoggerManager) -> None:
            if getattr(type(logger), method, None) is not getattr(BaseLoggerManager, method, None):
                # A backend's own method, such as for a chat
                getattr(logger, method)(message, *args, **({"exc_info": error} if error else {}))
            else:
                logger._say(level, message, args, terminal=False, exc_info=error)  # noqa: SLF001 - as above

        for member in self.others:
            self.attempt(member, write, report=False)  # a failing message must not cause another one

    # -- what comes later --------------------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """Tell whether something is still to be delivered, apart from figures not drawn yet."""
        return bool(self._drawn or self._deferred)

    def log_metrics(self, resolved: Resolved) -> None:
        """Log metrics to the other members, in the order of the calls."""
        if self.others and (self._deferred or is_pending(resolved.plan)):
            self._deferred.append(resolved)
        else:
            self._log_to_others(resolved)

    def _log_to_others(self, resolved: Resolved) -> None:
        for member in self.others:
            self.attempt(member, lambda logger: logger.log_metrics(resolved))

    def log_drawn(
        self,
        draw: Callable[[Callable[[RenderedFigure], object]], bool],
        log: Callable[[BaseLoggerManager, RenderedFigure], object],
        log_source: Call,
    ) -> None:
        """Log a figure with every member, once it is drawn.

        Args:
            draw: Draws the figure, now or later, and passes it to its argument; returns whether
                that has been done, or has failed.
            log: Logs the drawn figure.
            log_source: Logs the figure itself with a member that takes only that; at once, unless
                drawing failed.
        """
        drawn: list[RenderedFigure] = []

        def deliver(rendered: RenderedFigure) -> None:
            drawn.append(rendered)
            self.attempt(self.leader, lambda logger: log(logger, rendered))
            self._drawn.append(lambda logger: log(logger, rendered))
            self._deliver_orphans()

        with self._delivering:
            done = draw(deliver)
            self.deliver()
            if drawn or not done:
                for member in self.others:
                    if not member.takes_rendered:
                        self.attempt(member, log_source)

    def deliver(self, *, wait: bool = False) -> None:
        """Give the other members what is ready; with `wait`, also wait for values on a GPU."""
        with self._delivering:
            while self._deferred and (wait or has_arrived(self._deferred[0].plan)):
                resolved = self._deferred.popleft()
                self._log_to_others(Resolved(arrived(resolved.plan)) if is_pending(resolved.plan) else resolved)
            while self._drawn:
                log = self._drawn.popleft()
                for member in self.others:
                    if member.takes_rendered:
                        self.attempt(member, log)
        self._deliver_orphans()

    def _deliver_orphans(self) -> None:
        """Deliver what no further call of the group will, unless another thread is delivering.

        That thread looks again once it has released the lock. Waiting for it here, on the thread
        that draws, would be a deadlock: it may be waiting for a figure.
        """
        while self._orphaned and self._drawn and self._delivering.acquire(blocking=False):
            try:
                self.deliver()
            finally:
                self._delivering.release()

    def deliver_all(self) -> None:
        """Wait until everything that was logged has reached every member."""
        with self._delivering:
            try:
                self.leader.logger._drain()  # noqa: SLF001 - as above
            except BaseException:
                self.deliver()  # a GPU that does not answer is not waited for again
                raise
            self.deliver(wait=True)
        self._deliver_orphans()

    def release(self) -> None:
        """Deliver what is ready, and from now on the rest as soon as it is drawn."""
        self._orphaned = True
        self.deliver(wait=True)
