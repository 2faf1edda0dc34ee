"""Threads whose start an interrupt falls into.

That a real one does no harm is tested where it matters, in `test_ctrl_c_during_a_save_leaves_the_one_before`: a storm
of them over bare starts would trip over the standard library's own locks.
"""

import threading

import pytest

from ridgepole.threads import start_thread


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


def test_a_thread_that_starts_runs():
    ran = threading.Event()
    start_thread(threading.Thread(target=ran.set))
    assert ran.wait(10)
