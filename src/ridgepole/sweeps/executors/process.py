"""Runs trials in worker processes of this machine, each with a device of its own."""

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
from ridgepole.sweeps.executors.base import Died, Ended, Event, Executor, TrialSpec, for_workers
from ridgepole.sweeps.executors.blocking import OURS, blocked
from ridgepole.sweeps.jobs import Job, pickled
from ridgepole.sweeps.options import Options
from ridgepole.sweeps.outcome import Outcome
from ridgepole.sweeps.sweepdir import SweepDir

_STARTS = 5
"""How often a worker may be killed before it is ready, one after another."""
_INSIST_SECONDS = 5.0
"""How long a trial may take to stop at once, before its worker is killed."""
_LEAVE_SECONDS = 3.0
"""How long a worker may take to leave after its last trial."""
_STOP_SECONDS = 30.0
"""How long the trials may take to stop at a tick when the driver ends."""


def make(options: Options, workers: int) -> ProcessExecutor:
    """The executor, with so many workers at most."""
    return ProcessExecutor(workers, reuse=options.reuse_workers)


class _Worker:
    """One worker process, as the driver sees it."""

    def __init__(self, process: BaseProcess, conn: Connection[Any, Any]) -> None:
        self.process, self.conn = process, conn
        self.ready = False
        self.leaving = False
        self.spec: TrialSpec | None = None
        self.asked = 0
        self.deadline = float("inf")

    def send(self, *message: object) -> None:
        with contextlib.suppress(OSError):  # it has died, which the next look finds out
            self.conn.send(message)

    def kill(self) -> None:
        """Ends it and whatever it has started: it leads a process group of its own."""
        pid = self.process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid is not None and os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
        self.process.kill()

    def drain(self) -> None:
        """Reads what it says, so that it can go on; nobody needs it any more."""
        with contextlib.suppress(EOFError, OSError):
            while not self.conn.closed and self.conn.poll():
                self.conn.recv()

    def sweep_up(self) -> None:
        """Ends what it has left behind, now that it is gone."""
        pid = self.process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid is not None and self.ready:  # else it may not lead a group yet
                os.killpg(pid, signal.SIGKILL)


class ProcessExecutor(Executor):
    """Spawned workers, a fresh one for each trial unless `reuse`.

    A worker that dies fails its own trial and no other. One that has lost its driver stops its trial at the next tick.

    Args:
        workers: How many trials run at a time.
        reuse: Whether a worker runs one trial after another; one whose trial has failed is replaced all the same.
    """

    def __init__(self, workers: int, *, reuse: bool) -> None:
        self._count, self._reuse = workers, reuse
        self._job = b""
        self._emit: Callable[[Event], None] = lambda _event: None
        self._workers: list[_Worker] = []
        self._wake_out, self._wake_in = -1, -1
        self._killed_early = 0

    # --- the contract

    def start(self, job: Job, emit: Callable[[Event], None]) -> None:
        """Makes sure that the job can be sent; workers start with their first trial."""
        self._job, self._emit = pickled(job), emit
        self._wake_out, self._wake_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    def free(self) -> int:
        """Workers that could run a trial now; as many may be about to leave, and further ones are waited for."""
        leaving = sum(each.leaving for each in self._workers)
        return self._count - sum(each.spec is not None for each in self._workers) - max(0, leaving - self._count)

    def submit(self, spec: TrialSpec) -> None:
        """Gives the trial to a worker that waits, else to a new one."""
        idle = [each for each in self._workers if each.spec is None and not each.leaving and each.process.is_alive()]
        chosen = idle[0] if self._reuse and idle else self._spawn()
        chosen.spec, chosen.asked, chosen.deadline = spec, 0, float("inf")
        chosen.send("run", spec)

    def pump(self, timeout: float) -> None:
        """Reads what workers say, and finds those that have died."""
        conns = {each.conn: each for each in self._workers if not each.conn.closed}
        for ready in wait([*conns, self._wake_out], timeout):
            if ready == self._wake_out:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_out, 4096)
        for each in list(self._workers):
            dead = not each.process.is_alive()  # asked first: what it said before its death is read below
            self._read(each)
            if each.leaving and time.monotonic() >= each.deadline:  # a thread of the trial keeps it, and its memory
                each.kill()
            if dead:
                self._bury(each)

    def wake(self) -> None:
        """Writes into a pipe that `pump` waits for."""
        with contextlib.suppress(OSError):
            os.write(self._wake_in, b".")

    def prune(self, number: int) -> None:
        """Tells the trial's worker."""
        for each in self._running(number):
            each.send("prune")

    def stop(self, number: int, *, now: bool = False) -> None:
        """Has the worker interrupt itself once, or twice for at once; after that it is killed."""
        for each in self._running(number):
            while each.asked < 1 + now:
                each.asked += 1
                each.send("stop")
                if each.asked > 1:
                    each.deadline = time.monotonic() + _INSIST_SECONDS
            if time.monotonic() >= each.deadline:
                each.kill()

    def close(self, *, now: bool = False) -> None:
        """Ends the workers: those that wait at once, trials that run at their next tick, and in the end by force."""
        for each in self._workers:
            if each.spec is not None and not each.asked:
                self.stop(each.spec.number)
            each.send("close")
        hurried = any(each.asked > 1 for each in self._workers)
        until = time.monotonic() + (_STOP_SECONDS if now and not hurried else _INSIST_SECONDS)
        while time.monotonic() < until and any(each.process.is_alive() for each in self._workers):
            waited = [each.process.sentinel for each in self._workers if each.process.is_alive()]
            wait([*waited, *(each.conn for each in self._workers)], 0.1)
            for each in self._workers:
                each.drain()  # a worker that can't say anything any more never comes to its tick
        for each in self._workers:
            if each.process.is_alive():
                each.kill()
                each.process.join()
            each.sweep_up()
            each.conn.close()
            each.process.close()
        self._workers.clear()
        for fd in (self._wake_out, self._wake_in):
            if fd >= 0:
                os.close(fd)
        self._wake_out = self._wake_in = -1

    # --- workers

    def _running(self, number: int) -> list[_Worker]:
        return [each for each in self._workers if each.spec is not None and each.spec.number == number]

    def _spawn(self) -> _Worker:
        context = multiprocessing.get_context("spawn")  # a fork would take CUDA, threads and locks along
        ours, theirs = context.Pipe()
        # not a daemon: a training may have processes of its own, such as those of a DataLoader
        process = context.Process(
            target=worker.main, args=(theirs, self._job, for_workers(self._count)), name="ridgepole-worker"
        )
        try:
            with blocked(OURS):
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
                self._hear(each, each.conn.recv())
        except (EOFError, OSError):
            pass  # it is dying, which the next look finds out

    def _hear(self, each: _Worker, message: tuple[Any, ...]) -> None:
        if message[0] == "ready":
            each.ready, self._killed_early = True, 0
        elif message[0] == "broken":
            raise SweepError(f"a worker process can't load what it is to run: {message[1]}")
        else:
            event = message[1]
            if isinstance(event, Ended):
                each.spec = None
                if not self._reuse or event.outcome.status == "failed":  # which may have left anything behind
                    each.leaving, each.deadline = True, time.monotonic() + _LEAVE_SECONDS
                    each.send("close")
            self._emit(event)

    def _bury(self, each: _Worker) -> None:
        """Finds out what became of the trial of a worker that has died."""
        self._workers.remove(each)
        spec, code = each.spec, each.process.exitcode
        each.sweep_up()
        each.conn.close()
        each.process.close()
        if spec is None:
            return
        directory = SweepDir(Path(spec.directory))
        told = read_json(directory.trial_result(spec.number, spec.attempt))
        if told:  # it came to its end, and only could not say so any more
            self._emit(Ended(spec.number, Outcome.from_dict(told)))
        elif each.ready:
            log = directory.trial_log(spec.number)
            self._emit(Died(spec.number, f"its worker process {_manner(code)}; see {log}"))
        else:
            self._died_early(each, spec, code)

    def _died_early(self, each: _Worker, spec: TrialSpec, code: int | None) -> None:
        """A worker that was killed as it started has run nothing, and is replaced; one that can't start is no use."""
        if each.asked:
            self._emit(Ended(spec.number, Outcome("interrupted")))
            return
        self._killed_early += 1
        if code is None or code >= 0 or self._killed_early > _STARTS:
            raise SweepError(f"a worker process can't start: it {_manner(code)}; what it said stands above")
        self.submit(spec)


def _manner(code: int | None) -> str:
    if code is None or code >= 0:
        return f"has exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (perhaps because memory ran out)" if name == "SIGKILL" else "")
