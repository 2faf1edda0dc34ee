"""Children that a terminal's signals don't reach while they start: they are the driver's to answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

OURS = frozenset({signal.SIGINT, signal.SIGHUP})


@contextmanager
def blocked(signals: frozenset[signal.Signals]) -> Iterator[None]:
    """Starts children that don't get these signals; this process gets them a moment later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_the_terminal() -> None:
    """A session of its own, and signals as they are by default: the driver has blocked them."""
    with suppress(PermissionError):  # it leads a group already
        os.setsid()
    for number in OURS:
        signal.signal(number, signal.SIG_IGN)  # forgets one that was pressed meanwhile
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)
