"""Threads that start while signals arrive: the real thing, a timer that interrupts at every moment of a start."""

import signal
import threading

import pytest

from ridgepole.threads import start_thread


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_a_start_is_an_interrupt():
    """Whatever line of `Thread.start` it falls into, a stop never passes for an error of another kind."""
    hits = 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for turn in range(20_000):
            thread = threading.Thread(target=int, daemon=True)
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + turn % 150))
                start_thread(thread)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                hits += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert hits > 100, "hardly any signal fell into a start"


def test_an_interrupt_that_broke_the_wait_is_raised_itself():
    class Interrupted(threading.Thread):
        def start(self):
            try:
                raise KeyboardInterrupt
            finally:
                raise RuntimeError("release unlocked lock")

    with pytest.raises(KeyboardInterrupt):
        start_thread(Interrupted())


def test_no_more_threads_is_still_an_error():
    class Refused(threading.Thread):
        def start(self):
            raise RuntimeError("can't start new thread")

    with pytest.raises(RuntimeError, match="can't start new thread"):
        start_thread(Refused())
