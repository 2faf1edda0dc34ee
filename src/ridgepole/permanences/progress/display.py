"""Where rows are shown: what a terminal, a file and a notebook have in common.

A display has one thread that looks at the counters now and then. Nothing that happens in here is ever raised into
the caller's code: what fails switches the display off, with one warning.
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

from ridgepole.permanences.progress.task import LazyTask
from ridgepole.threads import start_thread

DRAWING_SHARE = 0.01
"""Drawing may take this share of the time; the display looks less often where it would take more."""

IDLE_SECONDS = 1.0
"""After this time without anything running, the rows of a display that nobody holds open are left as they are."""


class Source(Protocol):
    """Whose tasks a display shows.

    Attributes:
        held: Whether the display stays open between tasks, until `detach`.
        console: Where it would be shown; its own output goes above the rows.
    """

    held: bool
    console: Console

    def tasks(self) -> list[LazyTask]:
        """All tasks, in the order of their rows."""
        ...

    def now(self) -> float:
        """The clock that the tasks are measured by, in seconds."""
        ...


class Display:
    """Shows nothing; the base of those that show something, and what other ranks and workers get.

    Attributes:
        period: Seconds between two looks at the counters, at least.
        lock: Taken for whatever changes what is shown.
        off: Whether the display has been switched off for good.
        pauses: How often it is paused just now.
        engaged: Whether the thread that holds the lock is at work on the display.
    """

    period = 0.1
    shows = False

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.off = not self.shows
        self.pauses = 0
        self.engaged = False
        self._sources: list[Source] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._busy: LazyTask | None = None  # one that was running when it was last looked for
        if self.shows:
            displays().all.add(self)
            displays().on_fork(self.forked)

    # -- what a kind of display does ----------------------------------------------------------------------------

    def paint(self, *, force: bool = False) -> None:
        """Looks at the counters and shows what has changed."""

    def finish(self, source: Source | None) -> None:
        """Leaves the rows of a source (of all: None) behind for good and gives back what was taken."""

    def released(self) -> None:
        """Gives back what is held as long as there is any source."""

    def abandon(self) -> None:
        """Gives back what was taken, without writing anything."""

    def notice(self) -> None:
        """Learns at once that a task has begun or ended."""

    def catch_up(self) -> None:
        """Does what had to wait while the display was at work."""

    def settle(self) -> None:
        """Leaves the rows behind where nothing runs and nobody holds the display open."""

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Takes the rows off for a while, so that something else can have the terminal."""
        yield

    # -- sources ------------------------------------------------------------------------------------------------

    def attach(self, source: Source) -> None:
        """Shows the tasks of a source from now on."""
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

    def detach(self, source: Source) -> None:
        """Leaves the rows of a source as they are and forgets it."""
        with self.guarded():
            if source in self._sources:
                if not self.off:
                    self.finish(source)
                self._forget(source)

    def refresh(self) -> None:
        """Draws now."""
        with self.guarded():
            if not self.off and self._sources:
                self.paint(force=True)

    def task_changed(self) -> None:
        """Learns that a task has begun or ended."""
        with self.guarded():
            if not self.off and self._sources:
                self.notice()

    def close(self) -> None:
        """Leaves all rows as they are: the program ends."""
        with self.guarded():
            if self._sources and not self.off:
                self.finish(None)
            for source in list(self._sources):
                self._forget(source)

    @property
    def active(self) -> bool:
        """Whether it shows anybody's tasks."""
        return bool(self._sources)

    def _forget(self, source: Source) -> None:
        self._sources.remove(source)
        if not self._sources:
            self._stop.set()
            self._thread = None
            self.released()

    def _forget_done(self, is_done: Callable[[LazyTask], bool]) -> None:
        """Forgets sources that nobody holds and whose tasks are all done; the next task attaches them again."""
        for source in list(self._sources):
            if not source.held and all(is_done(task) for task in source.tasks()):
                self._forget(source)

    def _idle_sources(self) -> bool:
        """Whether nothing runs and nobody holds the display open."""
        if self._busy is not None and self._busy.busy:  # asked at every print: there may be hundreds of tasks
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

    # -- failure and forks --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Holds the lock; an error inside switches the display off instead of being raised."""
        try:
            with self.lock:
                outermost, self.engaged = not self.engaged, True
                try:
                    yield
                finally:
                    self.engaged = not outermost
                if outermost:
                    self.catch_up()
        except Exception as error:  # noqa: BLE001 - the user's loop must never see what the display ran into
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Switches the display off, with one warning."""
        if self.off:
            return
        self.off = True
        self._stop.set()
        with contextlib.suppress(Exception):
            self.abandon()
        # Also where warnings are errors, or their stream is the one that is gone.
        with contextlib.suppress(Exception):
            warnings.warn(f"progress bars are switched off: {type(error).__name__}: {error}", RuntimeWarning, 2)

    def forked(self) -> None:
        """Falls silent in a forked child: the terminal and the rows are the parent's."""
        self.lock = threading.RLock()
        self._sources = []
        self._thread = None
        self.off = True
        with contextlib.suppress(Exception):
            self.abandon()


class Displays:
    """All displays of this process: closed at its end, silent in its forks.

    Attributes:
        all: The displays.
    """

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
        """The one display of a console's terminal, made where there is none; what is not a device gets its own."""
        try:
            device = os.fstat(console.file.fileno()).st_rdev
        except (AttributeError, OSError, ValueError):
            device = 0
        known = self._screens.get(device) if device else None
        # One that nobody uses is made anew: the device's number may belong to another terminal by now.
        if known is not None and (known.active or known.pauses or os.getpid() != self._pid):
            return known
        made = make(console)
        if device:
            self._screens[device] = made
        return made

    def on_fork(self, hook: Callable[[], None]) -> None:
        """Registers a method to be called in forked children; it does not keep its object alive."""
        self._on_fork = [known for known in self._on_fork if known() is not None]
        self._on_fork.append(WeakMethod(hook))

    def close(self) -> None:
        """Closes all."""
        for display in list(self.all):
            display.close()

    def _before(self) -> None:
        # No child may inherit half a frame in a buffer. Never waits long: a fork matters more than a frame.
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
    """The one registry of this process."""
    return Displays()


def is_worker() -> bool:
    """Whether this process was started by multiprocessing, such as a DataLoader's worker."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None
