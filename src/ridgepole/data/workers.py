"""Keep a loader's workers alive through the signals that ask their parent to stop.

A scheduler and a terminal send these signals to the whole process group. A worker that died would
take the run down before it reaches its checkpoint. So workers stay, and end with their parent.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@contextmanager
def starting_workers(start_method: str) -> Iterator[None]:
    """Block the signals of a stop in processes that are started in this block.

    A process inherits what is blocked, so that nothing ends a worker before `outlast_stops`. In
    this process the signals are handled after the block: a start that is interrupted half-way
    leaves workers that nothing would end.
    """
    if start_method != "fork":
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # where it is started, it unblocks some of the signals
    held: list[int] = []
    handlers: dict[int, Any] = {}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        # Another thread may still receive them, and Python then calls the handlers in the main one
        if threading.current_thread() is threading.main_thread():
            for stop in _STOPS:
                if callable(signal.getsignal(stop)):
                    handlers[stop] = signal.signal(stop, lambda number, _frame: held.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for number in dict.fromkeys(held):
        signal.raise_signal(number)


def outlast_stops(*, die_with_parent: bool) -> None:
    """Let this worker outlast the signals of a stop.

    They get a handler rather than being ignored: programs that the worker starts don't inherit it.

    Args:
        die_with_parent: Whether to be killed when the thread ends that has started this process.
    """
    if die_with_parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    for number in _STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stay)
            signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)


def _stay(_number: int, _frame: object) -> None:
    """Do nothing about a signal."""


def reap_by_force(batches: Any) -> None:
    """Have torch, and the end of this process, kill workers that do not end by themselves.

    Both send SIGTERM otherwise, which workers outlast.
    """
    workers = getattr(batches, "_workers", ())
    for worker in workers:
        with contextlib.suppress(AttributeError):  # it has ended already
            worker._popen.terminate = worker._popen.kill  # noqa: SLF001 - multiprocessing asks it, not the worker
    if workers:
        _running_iterators().add(batches)


@functools.cache
def _running_iterators() -> weakref.WeakSet[Any]:
    """Return torch's iterators whose workers may be alive; their workers end before Python does."""
    running: weakref.WeakSet[Any] = weakref.WeakSet()

    def stop() -> None:
        for batches in list(running):
            stop_workers(batches)

    atexit.register(stop)
    return running


def stop_workers(batches: Any) -> None:
    """End the workers of torch's iterator, if it has any."""
    # Not left to the garbage collector: a kept traceback would keep the workers too.
    if stop := getattr(batches, "_shutdown_workers", None):
        stop()
