"""A queue of figures that are logged and not drawn yet."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, thread_time
from typing import Any

from ridgepole.children import in_forked_children
from ridgepole.loggers.figures import render_worker
from ridgepole.loggers.figures.render import prepare
from ridgepole.loggers.figures.render_process import Drawing, RenderProcess
from ridgepole.loggers.figures.snapshot import RenderSettings, drawn_from, is_light, snapshot
from ridgepole.loggers.media_types import RenderedFigure
from ridgepole.threads import start_thread

START_AFTER_S = 0.25
"""Seconds of drawing in place before a render process, which starts in about 1 s, is worth it."""

DRAIN_S = 30.0
"""Seconds that `drain` waits for the render process before it draws the rest itself."""

MAX_UNREADABLE = 3
"""After this many unpicklable figures, draw everything in this process."""

MAX_WAITING = 16
MAX_BYTES = 256 << 20

DELIVERY_S = 30.0
"""Seconds that a thread may take to write a drawn figure."""

_JOIN_S = 1.0

Deliver = Callable[[RenderedFigure], object]


@dataclass(slots=True, eq=False, kw_only=True)
class _Job:
    """A figure that waits.

    Attributes:
        name: Its name, for messages.
        data: Its snapshot.
        settings: matplotlib's settings when it was made.
        source: The figure itself.
        deliver: The function that takes the drawn figure.
        here: Whether only this process can read it.
        taken: Whether a thread has claimed it, by its drawing or to draw it in place.
    """

    name: str
    data: bytes
    settings: RenderSettings
    source: Any
    deliver: Deliver
    here: bool = False
    taken: bool = False

    def draw(self) -> RenderedFigure:
        """Draw the snapshot in this process."""
        return drawn_from(self.data, self.settings, self.source)


class FigureQueue:
    """Draws figures in order: the first few in place, later ones in a render process.

    A short script never starts the process. In a long run the loop only waits for a snapshot of
    each figure. If the process is killed, hangs, or can't read a figure, figures are drawn in place
    from their snapshots: none is lost, and the logger warns once.

    `deliver` is called in order: on a thread of the queue for figures of the render process,
    otherwise on the caller's. The first error on the queue's thread is raised by the next `add` or
    `drain`.
    """

    def __init__(self, log: logging.Logger, count_dropped: Callable[[], None]) -> None:
        self._log = log
        self._count_dropped = count_dropped
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._order = threading.RLock()  # one thread at a time draws in place
        self._spent = 0.0
        self._settings: RenderSettings | None = None
        self._process: RenderProcess | None = None
        self._thread: threading.Thread | None = None
        self._up = False
        self._unreadable = 0
        self._off = not sys.executable  # an embedded interpreter can't be started again
        self._error: Exception | None = None
        in_forked_children(self.after_fork_in_child)

    # -- on the caller's thread --------------------------------------------------------------------

    def add(self, name: str, figure: Any, deliver: Deliver) -> bool:
        """Draw a figure, here or in the render process.

        Returns:
            False if it is still to be drawn; True if it was delivered or has failed.
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
                self._draw_here(name, job.draw, deliver)
            return True

    def _job(self, name: str, figure: Any, deliver: Deliver) -> _Job | None:
        """Return a job for the render process; None if it is better to draw at once."""
        if self._off or self._spent < START_AFTER_S or (not self._jobs and is_light(figure)):
            return None
        data = snapshot(figure)
        if data is None:
            return None
        if self._settings is None or not self._settings.is_current():
            self._settings = RenderSettings.now()
        return _Job(name=name, data=data, settings=self._settings, source=figure, deliver=deliver)

    def _push(self, job: _Job) -> bool:
        """Append a job once there is room; return False if the render process is off."""

        def has_room() -> bool:
            waiting = sum(len(each.data) for each in self._jobs)
            return self._is_stalled() or not self._jobs or (len(self._jobs) < MAX_WAITING and waiting < MAX_BYTES)

        while True:
            with self._changed:
                self._changed.wait_for(has_room)  # ends: a stuck process is given up
                if self._off:
                    return False
                if not self._is_stalled():
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

    def _is_stalled(self) -> bool:
        """Tell whether the first figure waits to be drawn by a caller."""
        return self._off or bool(self._jobs and self._jobs[0].here)

    def drain(self, timeout: float = DRAIN_S) -> None:
        """Return once every figure is delivered; after `timeout` seconds draw the rest here."""
        end = monotonic() + timeout
        with self._order:
            while self._jobs:
                with self._changed:
                    # While the process is starting, drawing here is faster than waiting for it.
                    self._changed.wait_for(
                        lambda: not self._jobs or self._is_stalled() or not self._up, max(0.0, end - monotonic())
                    )
                    late = bool(self._jobs) and not self._is_stalled() and self._up
                if late:
                    self._give_up(f"has not finished its figures in {timeout:.0f} s")
                self._draw_first()
            self._raise_kept()

    def _draw_first(self) -> None:
        """Draw the first figure here, or wait until it is delivered."""
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
            self._draw_here(job.name, job.draw, job.deliver)
        finally:
            self._done(job)

    def _draw_here(self, name: str, draw: Callable[[], RenderedFigure], deliver: Deliver) -> None:
        start = thread_time()  # not the wall clock: on a busy machine it says nothing of the figure
        try:
            rendered = draw()
        except Exception as error:  # noqa: BLE001 - any error of a user's figure or its callbacks
            self._drop(name, f"{type(error).__name__}: {error}")
            return
        finally:
            self._spent += thread_time() - start
        deliver(rendered)

    def _drop(self, name: str, reason: str) -> None:
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
        """Drain and end the process; errors as in `drain`. Later figures are drawn in place."""
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

    # -- on the queue's thread ---------------------------------------------------------------------

    def _work(self) -> None:
        """Draw figure after figure in the process, and deliver the drawings."""
        try:
            if (process := self._started()) is None:
                return
            while (job := self._next()) is not None:
                self._draw_elsewhere(job, process)
                del job  # don't keep the figure alive while waiting
        except TimeoutError:
            self._give_up(f"has not answered for {render_worker.LIMIT_S:.0f} s")
        except (OSError, EOFError) as error:
            self._give_up(f"has ended ({error})")

    def _started(self) -> RenderProcess | None:
        process = RenderProcess()
        with self._changed:
            if self._off:
                process.close()
                return None
            self._process = process
            settings = self._settings
        assert settings is not None  # set with the first job
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

    def _draw_elsewhere(self, job: _Job, process: RenderProcess) -> None:
        drawing = process.draw(job.data, job.settings)
        if drawing.outcome == render_worker.UNREADABLE:
            self._draw_in_caller(job, drawing.data.decode())
        elif self._claim(job):
            self._deliver(job, drawing)
            self._done(job)

    def _claim(self, job: _Job) -> bool:
        with self._changed:
            mine = not job.taken and not self._off
            job.taken = job.taken or mine
            return mine

    def _deliver(self, job: _Job, drawing: Drawing) -> None:
        for text in drawing.warnings:
            self._log.warning("the figure %r: %s", job.name, text)
        if drawing.outcome == render_worker.FAILED:
            self._drop(job.name, drawing.data.decode())
            return
        try:
            job.deliver(RenderedFigure(drawing.data, ".png", drawing.width, drawing.height, job.source))
        except Exception as error:  # noqa: BLE001 - raised by the next call
            self._count_dropped()
            with self._changed:
                self._error = self._error or error

    def _draw_in_caller(self, job: _Job, reason: str) -> None:
        """Leave a figure to the caller, which draws it at its next call."""
        with self._changed:
            job.here = True
            self._unreadable += 1
            often = self._unreadable >= MAX_UNREADABLE
            self._changed.notify_all()
        if often:
            self._give_up(f"can't read these figures ({reason})")

    def _give_up(self, why: str) -> None:
        """Draw in place from now on, including the figures that wait."""
        with self._changed:
            if self._off:
                return
            self._off = True
            process, self._process = self._process, None
            self._changed.notify_all()
        self._log.warning("the process that draws figures %s; figures are drawn in the loop from now on", why)
        if process is not None:
            process.close()

    # -- forks -------------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Leave jobs and process to the parent; a forked child draws its figures in place."""
        self._changed = threading.Condition()
        self._order = threading.RLock()
        self._jobs = deque()
        process, self._process, self._thread, self._error = self._process, None, None, None
        self._off = True
        if process is not None:
            process.forget()
