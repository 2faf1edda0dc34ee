"""The base of all displays: terminal, file and notebook.

A display has one thread that reads the counters periodically. No error of a display is raised into
the caller's code: it switches the display off, with one warning.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Protocol
from weakref import WeakMethod, WeakSet

from rich.console import Console

from ridgepole.progress.task import LazyTask
from ridgepole.threads import start_thread

DRAWING_SHARE = 0.01
"""The share of time that drawing may take; the display draws less often to stay below it."""

IDLE_SECONDS = 1.0
"""After this time with nothing running, a display that is not held open leaves its rows behind."""


class RowSource(Protocol):
    """A source of tasks for a display.

    Attributes:
        held: Whether the display stays open between tasks, until `detach`.
        console: Its console, whose output goes above the rows.
    """

    held: bool
    console: Console

    def tasks(self) -> list[LazyTask]:
        """Return all tasks, in the order of their rows."""
        ...

    def now(self) -> float:
        """Return the time of the tasks' clock, in seconds."""
        ...


class Display:
    """A display that shows nothing, for other ranks and workers; the base of all displays.

    Attributes:
        period: Least seconds between two readings of the counters.
        lock: Guards everything that changes the display.
        off: Whether the display is switched off for good.
        pauses: How many pauses are active.
        engaged: Whether the thread that holds the lock is working on the display.
    """

    period = 0.1
    shows = False

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.off = not self.shows
        self.pauses = 0
        self.engaged = False
        self._sources: list[RowSource] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._busy: LazyTask | None = None  # a task that was running at the last check
        if self.shows:
            displays().all.add(self)
            displays().on_fork(self.forked)

    # -- hooks of the kinds of displays ------------------------------------------------------------

    def paint(self, *, force: bool = False) -> None:
        """Read the counters and show changes."""

    def finish(self, source: RowSource | None) -> None:
        """Leave the rows of a source (None: of all) behind for good."""

    def released(self) -> None:
        """Release what is held as long as there is any source."""

    def abandon(self) -> None:
        """Release everything without writing."""

    def notice(self) -> None:
        """Handle the begin or end of a task at once."""

    def catch_up(self) -> None:
        """Handle output that had to wait while the display was engaged."""

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Remove the rows for a while, so that other code can use the terminal."""
        yield

    # -- sources -----------------------------------------------------------------------------------

    def attach(self, source: RowSource) -> None:
        """Show the tasks of a source from now on."""
        with self.guarded():
            if self.off:
                return
            if source not in self._sources:
                self._sources.append(source)
            if self._thread is None or not self._thread.is_alive():
                self._stop = threading.Event()
                self._thread = threading.Thread(
                    target=self._loop, args=(self._stop,), name="ridgepole-progress", daemon=True
                )
                start_thread(self._thread)

    def detach(self, source: RowSource) -> None:
        """Leave the rows of a source as they are and forget it."""
        with self.guarded():
            if source in self._sources:
                if not self.off:
                    self.finish(source)
                self._forget(source)

    def refresh(self) -> None:
        """Draw now."""
        with self.guarded():
            if not self.off and self._sources:
                self.paint(force=True)

    def task_changed(self) -> None:
        """Notify the display that a task has begun or ended."""
        with self.guarded():
            if not self.off and self._sources:
                self.notice()

    def close(self) -> None:
        """Leave all rows as they are at the end of the program."""
        with self.guarded():
            if self._sources and not self.off:
                self.finish(None)
            for source in list(self._sources):
                self._forget(source)

    @property
    def active(self) -> bool:
        """Tell whether it has any source."""
        return bool(self._sources)

    def _forget(self, source: RowSource) -> None:
        self._sources.remove(source)
        if not self._sources:
            self._stop.set()
            self._thread = None
            self.released()

    def _forget_done(self, is_done: Callable[[LazyTask], bool]) -> None:
        """Forget sources that are not held and whose tasks are all done."""
        for source in list(self._sources):
            if not source.held and all(is_done(task) for task in source.tasks()):
                self._forget(source)

    def _idle_sources(self) -> bool:
        """Tell whether nothing runs and no source holds the display open."""
        if self._busy is not None and self._busy.busy:  # fast path: called at every print
            return False
        if any(source.held for source in self._sources):
            return False
        running = (task for source in self._sources for task in source.tasks() if task.busy)
        self._busy = next(running, None)
        return self._busy is None

    def _loop(self, stop: threading.Event) -> None:
        pause = self.period
        while not stop.wait(pause):
            spent = time.thread_time()
            with self.guarded():
                if not stop.is_set() and not self.off:
                    self._busy = None  # it may have been removed
                    self.paint()
            pause = min(2.0 + self.period, max(self.period, (time.thread_time() - spent) / DRAWING_SHARE))

    # -- failure and forks -------------------------------------------------------------------------

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Hold the lock; an error inside switches the display off and is not raised."""
        try:
            with self.lock:
                outermost, self.engaged = not self.engaged, True
                try:
                    yield
                finally:
                    self.engaged = not outermost
                if outermost:
                    self.catch_up()
        except Exception as error:  # noqa: BLE001 - the user's loop must not see errors of the display
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Switch the display off, with one warning."""
        if self.off:
            return
        self.off = True
        self._stop.set()
        with contextlib.suppress(Exception):
            self.abandon()
        # Even if warnings are errors, or their stream is broken.
        with contextlib.suppress(Exception):
            warnings.warn(f"progress bars are switched off: {type(error).__name__}: {error}", RuntimeWarning, 2)

    def forked(self) -> None:
        """Stop drawing in a forked child: the terminal belongs to the parent."""
        self.lock = threading.RLock()
        self._sources = []
        self._thread = None
        self.off = True
        with contextlib.suppress(Exception):
            self.abandon()


class Displays:
    """All displays of this process: closed at its end, silent in its forks."""

    def __init__(self) -> None:
        self.all: WeakSet[Display] = WeakSet()
        self._on_fork: list[WeakMethod[Callable[[], None]]] = []
        self._taken: list[Display] = []
        self._screens: dict[int, Display] = {}
        self._pid = os.getpid()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)

    def screen(self, console: Console, make: Callable[[Console], Display]) -> Display:
        """Return the one display of a console's terminal; output without a device gets its own."""
        try:
            device = os.fstat(console.file.fileno()).st_rdev
        except (AttributeError, OSError, ValueError):
            device = 0
        known = self._screens.get(device) if device else None
        # An unused display is replaced: its device number may now belong to another terminal.
        if known is not None and (known.active or known.pauses or os.getpid() != self._pid):
            return known
        made = make(console)
        if device:
            self._screens[device] = made
        return made

    def on_fork(self, hook: Callable[[], None]) -> None:
        """Register a method to be called in forked children; it does not keep its object alive."""
        self._on_fork = [known for known in self._on_fork if known() is not None]
        self._on_fork.append(WeakMethod(hook))

    def close(self) -> None:
        """Close all."""
        for display in list(self.all):
            display.close()

    def _before(self) -> None:
        # A child must not inherit half a frame in a buffer. A fork waits for one second at most.
        active = [display for display in list(self.all) if display.active]
        self._taken = [display for display in active if display.lock.acquire(timeout=1.0)]

    def _in_parent(self) -> None:
        for display in self._taken:
            display.lock.release()
        self._taken = []

    def _in_child(self) -> None:
        self._taken = []
        for hook in [reference() for reference in self._on_fork]:
            if hook is not None:
                hook()


@functools.cache
def displays() -> Displays:
    """Return the one registry of this process."""
    return Displays()


def is_worker() -> bool:
    """Tell whether this process was started by multiprocessing, such as a DataLoader's worker."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None
