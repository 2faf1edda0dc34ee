"""Starting threads in a program that Ctrl-C may reach at any moment."""

from __future__ import annotations

import threading


def start_thread(thread: threading.Thread) -> None:
    """Starts a thread and waits until it runs; an interrupt that falls into the wait is raised as what it is.

    `Thread.start` waits on a condition, and an interrupt while that takes its lock back ends as the "release unlocked
    lock" of a `with` block (Python 3.11 to 3.14): a stop would pass for a failure. The thread runs all the same.

    Raises:
        RuntimeError: There can be no more threads, or the interpreter is going down.
        KeyboardInterrupt: Whatever a signal's handler raised meanwhile.
    """
    try:
        thread.start()
    except RuntimeError as error:
        stop = error.__context__
        if isinstance(stop, Exception) or stop is None:
            raise
        raise stop from None
