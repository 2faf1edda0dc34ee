"""An executor that runs nothing: its events are written down by a test."""

from ridgepole.sweeps.run.executor import Executor, Started


class ScriptedExecutor(Executor):
    """`script` gives the events of each attempt, by its number from 1; the last entry counts for all further ones."""

    script = ()

    def __init__(self):
        self.waiting = []

    @classmethod
    def create(cls, options, workers):
        del options, workers
        return cls()

    def start(self, target, emit):
        self.emit = emit

    @property
    def free_slots(self):
        return 1 - len(self.waiting)

    def submit(self, spec):
        self.waiting.append(spec)

    def pump(self, timeout):
        while self.waiting:
            spec = self.waiting.pop()
            self.emit(Started(spec.number, f"run-{spec.attempt}"))
            for event in self.script[min(spec.attempt, len(self.script)) - 1]:
                self.emit(event)

    def prune(self, number):
        """Nothing runs."""

    def stop(self, number, *, now=False):
        """Nothing runs."""

    def close(self, *, now=False):
        """Nothing runs."""
