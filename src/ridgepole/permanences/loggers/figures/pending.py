"""Figures that are logged and not drawn yet."""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any

from ridgepole.permanences.loggers.figures import child
from ridgepole.permanences.loggers.figures.render import Rendered, prepare
from ridgepole.permanences.loggers.figures.renderer import Drawing, RenderProcess
from ridgepole.permanences.loggers.figures.snapshot import Settings, drawn_from, is_light, snapshot
from ridgepole.threads import start_thread

START_AFTER_S = 0.25
"""Seconds of drawing in place after which a render process is worth its start, which takes about one."""

DRAIN_S = 30.0
"""How long `drain` waits for the render process before it draws what is left itself."""

MAX_UNREADABLE = 3
"""So many figures that can't be read in another process, and none is sent there any more."""

MAX_WAITING = 16
MAX_BYTES = 256 << 20

DELIVERY_S = 30.0
"""How long a thread may take to write a drawn figure before nobody waits for it any more."""

_JOIN_S = 1.0

Deliver = Callable[[Rendered], object]


@dataclass(slots=True, eq=False)
class _Job:
    """A figure that waits.

    Attributes:
        name: Its name, for what is said of it.
        data: Its snapshot.
        settings: matplotlib's settings when it was made.
        source: The figure itself.
        deliver: What is to be done with the drawn figure.
        here: Whether it can't be read in another process.
        taken: Whether somebody has its drawing, or draws it in place, so that nobody else may.
    """

    name: str
    data: bytes
    settings: Settings
    source: Any
    deliver: Deliver
    here: bool = False
    taken: bool = False


class FigureQueue:
    """Draws figures in the order in which they come: the first few in place, later ones in a process of their own.

    A short script never pays for starting that process; a long run has its figures drawn beside its loop, which then
    waits for the snapshot alone. Where the process is killed, hangs, or can't read a figure, figures are drawn in place
    from their snapshots: none is lost, and the logger warns once.

    `deliver` is called in order: on a thread of the queue for figures that were drawn elsewhere, on the caller's
    otherwise. Its first failure there is kept, and raised by the next `add` or `drain`.

    Args:
        log: Where is said what could not be drawn, or written.
        count_dropped: Called for each figure that is lost.
    """

    def __init__(self, log: logging.Logger, count_dropped: Callable[[], None]) -> None:
        self._log = log
        self._count_dropped = count_dropped
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._order = threading.RLock()  # of several threads that add, one draws in place at a time
        self._spent = 0.0
        self._settings: Settings | None = None
        self._process: RenderProcess | None = None
        self._thread: threading.Thread | None = None
        self._up = False
        self._unreadable = 0
        self._off = not sys.executable  # an embedded interpreter can't be started again
        self._closed = False
        self._error: Exception | None = None
        _watch_forks(self)

    # -- the caller's side -------------------------------------------------------------------------------------------

    def add(self, name: str, figure: Any, deliver: Deliver) -> bool:
        """Has a figure drawn, here or elsewhere.

        Args:
            name: Its name.
            figure: What `prepare` takes; it may be changed as soon as this returns.
            deliver: What is to be done with it once it is drawn.

        Returns:
            Whether it was delivered, or has failed, already; False where it is still to be drawn.

        Raises:
            TypeError: As `prepare`.
            ValueError: As `prepare`.
            Exception: What `deliver` raised, of this figure or of one before.
        """
        draw = prepare(figure)
        with self._order:
            self._raise_kept()
            job = self._job(name, figure, deliver)
            if job is not None and self._push(job):
                return False
            self.drain()
            if job is None:
                self._draw_here(name, draw, deliver)
            else:
                self._draw_here(name, lambda: drawn_from(job.data, job.settings, job.source), deliver)
            return True

    def _job(self, name: str, figure: Any, deliver: Deliver) -> _Job | None:
        """The figure as one that can wait; None where it is drawn at once for less than that costs."""
        if self._off or self._spent < START_AFTER_S or (not self._jobs and is_light(figure)):
            return None
        data = snapshot(figure)
        if data is None:
            return None
        if self._settings is None or not self._settings.is_current():
            self._settings = Settings.now()
        return _Job(name, data, self._settings, figure, deliver)

    def _push(self, job: _Job) -> bool:
        """Puts a figure behind the others, once there is room; False where nobody would draw it."""

        def has_room() -> bool:
            waiting = sum(len(each.data) for each in self._jobs)
            return self._stands() or not self._jobs or (len(self._jobs) < MAX_WAITING and waiting < MAX_BYTES)

        while True:
            with self._changed:
                self._changed.wait_for(has_room)  # ends: a process that does not get on is given up
                if self._off:
                    return False
                if not self._stands():
                    if self._thread is None and not self._start_thread():
                        return False
                    self._jobs.append(job)
                    self._changed.notify_all()
                    return True
            self._draw_first()

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._work, name="ridgepole-figures", daemon=True)
        try:
            start_thread(thread)
        except RuntimeError:  # no more threads, or the interpreter is going down
            self._off = True
            return False
        self._thread = thread
        return True

    def _stands(self) -> bool:
        """Whether the first figure waits for a thread of the caller's."""
        return self._off or bool(self._jobs and self._jobs[0].here)

    def drain(self, timeout: float = DRAIN_S) -> None:
        """Returns once every figure is drawn and delivered; what takes longer than `timeout` is drawn here.

        Args:
            timeout: Seconds to wait for the render process.

        Raises:
            Exception: What `deliver` raised.
        """
        end = monotonic() + timeout
        with self._order:
            while self._jobs:
                with self._changed:
                    # While the process is only starting, drawing here is sooner done than waiting for it.
                    self._changed.wait_for(
                        lambda: not self._jobs or self._stands() or not self._up, max(0.0, end - monotonic())
                    )
                    late = bool(self._jobs) and not self._stands() and self._up
                if late:
                    self._give_up(f"has not finished its figures in {timeout:.0f} s")
                self._draw_first()
            self._raise_kept()

    def _draw_first(self) -> None:
        """Draws the first figure here, or waits for the one that is just being delivered."""
        with self._changed:
            if not self._jobs:
                return
            job = self._jobs[0]
            if job.taken:
                if not self._changed.wait_for(lambda: not self._jobs or self._jobs[0] is not job, DELIVERY_S):
                    self._jobs.clear()
                    raise TimeoutError(f"the figure {job.name!r} could not be written in {DELIVERY_S:.0f} s")
                return
            job.taken = True
        try:
            self._draw_here(job.name, lambda: drawn_from(job.data, job.settings, job.source), job.deliver)
        finally:
            self._done(job)

    def _draw_here(self, name: str, draw: Callable[[], Rendered], deliver: Deliver) -> None:
        start = perf_counter()
        try:
            rendered = draw()
        except Exception as error:  # noqa: BLE001 - whatever a user's figure, or its callbacks, may raise
            self._lost(name, f"{type(error).__name__}: {error}")
            return
        finally:
            self._spent += perf_counter() - start
        deliver(rendered)

    def _lost(self, name: str, reason: str) -> None:
        self._count_dropped()
        self._log.error("the figure %r could not be drawn: %s", name, reason)

    def _done(self, job: _Job) -> None:
        with self._changed:
            if self._jobs and self._jobs[0] is job:
                self._jobs.popleft()
            self._changed.notify_all()

    def _raise_kept(self) -> None:
        with self._changed:
            error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Drains, and ends the process; errors as in `drain`. Later figures are drawn in place."""
        try:
            self.drain()
        finally:
            with self._changed:
                self._off = True
                process, self._process = self._process, None
                self._changed.notify_all()
            if process is not None:
                process.close()
            if self._thread is not None:
                self._thread.join(_JOIN_S)

    # -- the thread's side -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Has the process draw figure after figure, and delivers what it sends."""
        try:
            if (process := self._started()) is None:
                return
            while (job := self._next()) is not None:
                self._have_drawn(job, process)
                del job  # while it waits for the next one, this thread must not keep the figure alive
        except TimeoutError:
            self._give_up(f"has not answered for {child.LIMIT_S:.0f} s")
        except (OSError, EOFError) as error:
            self._give_up(f"is gone ({error})")

    def _started(self) -> RenderProcess | None:
        process = RenderProcess()
        with self._changed:
            if self._off:
                process.close()
                return None
            self._process = process
            settings = self._settings
        assert settings is not None  # there is one since the first figure was sent here
        process.set_up(settings)
        with self._changed:
            self._up = True
            self._changed.notify_all()
        return process

    def _next(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._off or (self._jobs and not self._jobs[0].taken and not self._jobs[0].here)
            )
            return None if self._off else self._jobs[0]

    def _have_drawn(self, job: _Job, process: RenderProcess) -> None:
        drawing = process.draw(job.data, job.settings)
        if drawing.outcome == child.UNREADABLE:
            self._refused(job, drawing.data.decode())
        elif self._claims(job):
            self._arrived(job, drawing)
            self._done(job)

    def _claims(self, job: _Job) -> bool:
        with self._changed:
            mine = not job.taken and not self._off
            job.taken = job.taken or mine
            return mine

    def _arrived(self, job: _Job, drawing: Drawing) -> None:
        for text in drawing.warnings:
            self._log.warning("the figure %r: %s", job.name, text)
        if drawing.outcome == child.FAILED:
            self._lost(job.name, drawing.data.decode())
            return
        try:
            job.deliver(Rendered(drawing.data, ".png", drawing.width, drawing.height, job.source))
        except Exception as error:  # noqa: BLE001 - kept for a thread that can be told
            self._count_dropped()
            with self._changed:
                self._error = self._error or error

    def _refused(self, job: _Job, reason: str) -> None:
        """The figure can be drawn by the caller alone, who does so when it next comes by."""
        with self._changed:
            job.here = True
            self._unreadable += 1
            often = self._unreadable >= MAX_UNREADABLE
            self._changed.notify_all()
        if often:
            self._give_up(f"can't read these figures ({reason})")

    def _give_up(self, why: str) -> None:
        """Draws in place from now on; whatever is on its way is drawn from its snapshot, once."""
        with self._changed:
            if self._off:
                return
            self._off = True
            process, self._process = self._process, None
            self._changed.notify_all()
        self._log.warning("the process that draws figures %s; they are drawn in the loop from now on", why)
        if process is not None:
            process.close()

    # -- forks -------------------------------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Leaves what waits, and the process, to the parent; a worker draws its own figures in place."""
        self._changed = threading.Condition()
        self._order = threading.RLock()
        self._jobs = deque()
        process, self._process, self._thread, self._error = self._process, None, None, None
        self._off = True
        if process is not None:
            process.forget()


def _watch_forks(queue: FigureQueue) -> None:
    """Has the queue told of forks. The hooks can't be taken back, so they hold it weakly."""
    reference = weakref.ref(queue)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive.after_fork_in_child()

    os.register_at_fork(after_in_child=call)
