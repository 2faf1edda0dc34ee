"""Run trials in worker processes of this machine, each with a device of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ridgepole.errors import SweepError
from ridgepole.files import read_json
from ridgepole.sweeps.executors import worker
from ridgepole.sweeps.executors.trial_process import signals_blocked, worker_environ
from ridgepole.sweeps.run.executor import Completed, Event, Executor, WorkerLost
from ridgepole.sweeps.run.targets import Target, pickled
from ridgepole.sweeps.run.trial import TrialSpec
from ridgepole.sweeps.spec.options import Options
from ridgepole.sweeps.study.outcome import TrialOutcome
from ridgepole.sweeps.sweepdir import SweepDir

_STARTS = 5  # the most workers in a row that may be killed before they are ready
_FORCE_SECONDS = 5.0  # time for a trial to stop at once, before its worker is killed
_LEAVE_SECONDS = 3.0  # time for a worker to leave after its last trial
_STOP_SECONDS = 30.0  # time for trials to stop at a tick when the driver ends


class _Worker:
    """One worker process, as the driver sees it."""

    def __init__(self, process: BaseProcess, conn: Connection[Any, Any]) -> None:
        self.process, self.conn = process, conn
        self.ready = False
        self.leaving = False
        self.spec: TrialSpec | None = None
        self.requested = 0
        self.deadline = float("inf")

    def send(self, *message: object) -> None:
        with contextlib.suppress(OSError):  # it has died, which the next pump finds out
            self.conn.send(message)

    def kill(self) -> None:
        """Kill it and its children: it leads a process group of its own."""
        pid = self.process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid is not None and os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
        self.process.kill()

    def drain(self) -> None:
        """Read and drop its messages, so that it is not blocked."""
        with contextlib.suppress(EOFError, OSError):
            while not self.conn.closed and self.conn.poll():
                self.conn.recv()

    def dispose(self) -> None:
        """Kill the children of a worker that has ended, and free its handles."""
        pid = self.process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid is not None and self.ready:  # else it may not lead a group yet
                os.killpg(pid, signal.SIGKILL)
        self.conn.close()
        self.process.close()


class ProcessExecutor(Executor):
    """Spawned workers, a fresh one for each trial unless `reuse`.

    If a worker dies, only its own trial fails. If the driver dies, each worker stops its trial at
    the next tick.

    Args:
        workers: The number of trials that run at a time.
        reuse: Whether a worker runs one trial after another. A worker whose trial has failed is
            replaced all the same.
    """

    def __init__(self, workers: int, *, reuse: bool) -> None:
        self._count, self._reuse = workers, reuse
        self._target = b""
        self._emit: Callable[[Event], None] = lambda _event: None
        self._workers: list[_Worker] = []
        self._wake_out, self._wake_in = -1, -1
        self._killed_early = 0

    # --- the contract

    @classmethod
    def create(cls, options: Options, workers: int) -> ProcessExecutor:
        """Return an executor with so many workers at most."""
        return cls(workers, reuse=options.reuse_workers)

    def start(self, target: Target, emit: Callable[[Event], None]) -> None:
        """Pickle the target; workers start with their first trial."""
        self._target, self._emit = pickled(target), emit
        self._wake_out, self._wake_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    def free_slots(self) -> int:
        """Return the number of workers that could run a trial now.

        As many more may be about to leave; further ones count as busy.
        """
        leaving = sum(each.leaving for each in self._workers)
        return self._count - sum(each.spec is not None for each in self._workers) - max(0, leaving - self._count)

    def submit(self, spec: TrialSpec) -> None:
        """Give the trial to an idle worker, else to a new one."""
        idle = [each for each in self._workers if each.spec is None and not each.leaving and each.process.is_alive()]
        chosen = idle[0] if self._reuse and idle else self._spawn()
        chosen.spec, chosen.requested, chosen.deadline = spec, 0, float("inf")
        chosen.send("run", spec)

    def pump(self, timeout: float) -> None:
        """Read the workers' messages, and find workers that have died."""
        conns = {each.conn: each for each in self._workers if not each.conn.closed}
        for ready in wait([*conns, self._wake_out], timeout):
            if ready == self._wake_out:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_out, 4096)
        for each in list(self._workers):
            # Checked first: messages before its death are read below
            dead = not each.process.is_alive()
            self._read(each)
            # A thread of the trial keeps it, and its memory
            if each.leaving and time.monotonic() >= each.deadline:
                each.kill()
            if dead:
                self._reap(each)

    def wake(self) -> None:
        """Write into a pipe that `pump` waits for."""
        with contextlib.suppress(OSError):
            os.write(self._wake_in, b".")

    def prune(self, number: int) -> None:
        """Send the request to the trial's worker."""
        for each in self._running(number):
            each.send("prune")

    def stop(self, number: int, *, now: bool = False) -> None:
        """Have the worker interrupt itself, twice for at once; kill it after that."""
        for each in self._running(number):
            while each.requested < 1 + now:
                each.requested += 1
                each.send("stop")
                if each.requested > 1:
                    each.deadline = time.monotonic() + _FORCE_SECONDS
            if time.monotonic() >= each.deadline:
                each.kill()

    def close(self, *, now: bool = False) -> None:
        """End idle workers at once, running trials at their next tick, and in the end by force."""
        for each in self._workers:
            if each.spec is not None and not each.requested:
                self.stop(each.spec.number)
            each.send("close")
        forced = any(each.requested > 1 for each in self._workers)
        deadline = time.monotonic() + (_STOP_SECONDS if now and not forced else _FORCE_SECONDS)
        while time.monotonic() < deadline and any(each.process.is_alive() for each in self._workers):
            alive = [each for each in self._workers if each.process.is_alive()]
            wait([what for each in alive for what in (each.process.sentinel, each.conn)], 0.1)
            for each in alive:
                each.drain()  # a worker whose pipe is full never reaches its tick
        for each in self._workers:
            if each.process.is_alive():
                each.kill()
                each.process.join()
            each.dispose()
        self._workers.clear()
        for fd in (self._wake_out, self._wake_in):
            if fd >= 0:
                os.close(fd)
        self._wake_out = self._wake_in = -1

    # --- workers

    def _running(self, number: int) -> list[_Worker]:
        return [each for each in self._workers if each.spec is not None and each.spec.number == number]

    def _spawn(self) -> _Worker:
        # A fork would take CUDA, threads and locks along
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        # not a daemon: a training may have processes of its own, such as those of a DataLoader
        process = context.Process(
            target=worker.main, args=(theirs, self._target, worker_environ(self._count)), name="ridgepole-worker"
        )
        try:
            with signals_blocked():
                process.start()
        except OSError as error:
            ours.close()
            raise SweepError(f"a worker process can't be started: {error}") from error
        finally:
            theirs.close()
        made = _Worker(process, ours)
        self._workers.append(made)
        return made

    def _read(self, each: _Worker) -> None:
        try:
            while not each.conn.closed and each.conn.poll():
                self._on_message(each, each.conn.recv())
        except (EOFError, OSError):
            pass  # it is dying, which the next pump finds out

    def _on_message(self, each: _Worker, message: tuple[Any, ...]) -> None:
        if message[0] == "ready":
            each.ready, self._killed_early = True, 0
        elif message[0] == "broken":
            raise SweepError(f"a worker process can't load the trial's code: {message[1]}")
        else:
            event = message[1]
            if isinstance(event, Completed):
                each.spec = None
                # It may have left anything behind
                if not self._reuse or event.outcome.status == "failed":
                    each.leaving, each.deadline = True, time.monotonic() + _LEAVE_SECONDS
                    each.send("close")
            self._emit(event)

    def _reap(self, each: _Worker) -> None:
        """Emit the end of the trial of a worker that has died."""
        self._workers.remove(each)
        spec, code = each.spec, each.process.exitcode
        each.dispose()
        if spec is None:
            return
        directory = SweepDir(Path(spec.directory))
        result = read_json(directory.trial_result(spec.number, spec.attempt))
        if result:  # the trial has ended, and only the message is lost
            self._emit(Completed(spec.number, TrialOutcome.from_dict(result)))
        elif each.ready:
            log = directory.trial_log(spec.number)
            self._emit(WorkerLost(spec.number, f"its worker process {_describe_exit(code)}; see {log}"))
        else:
            self._died_early(each, spec, code)

    def _died_early(self, each: _Worker, spec: TrialSpec, code: int | None) -> None:
        """Replace a worker that was killed as it started; raise an error if workers can't start."""
        if each.requested:
            self._emit(Completed(spec.number, TrialOutcome("interrupted")))
            return
        self._killed_early += 1
        if code is None or code >= 0 or self._killed_early > _STARTS:
            raise SweepError(f"a worker process can't start: it {_describe_exit(code)}; see its output above")
        self.submit(spec)


def _describe_exit(code: int | None) -> str:
    if code is None or code >= 0:
        return f"has exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (perhaps because memory ran out)" if name == "SIGKILL" else "")
