"""Start threads in a program that Ctrl-C may interrupt at any moment."""

from __future__ import annotations

import threading


def start_thread(thread: threading.Thread) -> None:
    """Start a thread and wait until it runs; raise an interrupt during the wait as itself.

    `Thread.start` waits on a condition. An interrupt while it takes its lock back ends as the
    "release unlocked lock" of a `with` block (Python 3.11 to 3.14), so a stop would look like a
    failure. The thread runs all the same.

    Raises:
        RuntimeError: There can be no more threads, or the interpreter is shutting down.
        KeyboardInterrupt: Or what else a signal's handler raised meanwhile.
    """
    try:
        thread.start()
    except RuntimeError as error:
        stop = error.__context__
        if isinstance(stop, Exception) or stop is None:
            raise
        raise stop from None
