"""A timer whose signal interrupts as Ctrl-C does, while it is wanted and never after."""

import signal


class Interrupts:
    """Interrupts what it calls, once and at a chosen moment.

    A signal that comes as the call ends does nothing: Python may run its handler a little later than it came.
    """

    def __init__(self):
        self.hits, self._armed = 0, False

    def _handle(self, *_):
        if self._armed:
            self._armed = False
            raise KeyboardInterrupt

    def during(self, seconds, action):
        """Calls something that is interrupted after so many seconds, if it takes that long."""
        before = signal.signal(signal.SIGALRM, self._handle)
        try:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, seconds)
            action()
            self._armed = False
        except KeyboardInterrupt:
            self.hits += 1
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
