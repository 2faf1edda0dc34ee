"""The base of executors that submit each trial as a task of a scheduler."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from typing import Generic, NamedTuple, TypeVar

from ridgepole.errors import SweepError
from ridgepole.sweeps.executors.remote_task import FileWatch, TaskPayload
from ridgepole.sweeps.run.executor import Completed, Event, Executor, Preempted, WorkerLost
from ridgepole.sweeps.run.targets import Target
from ridgepole.sweeps.run.trial import TrialSpec
from ridgepole.sweeps.study.outcome import TrialOutcome

_DELAY_SECONDS = 2.0
"""Time after a task's end in which a shared file system may still hide its outcome."""
_FORCE_SECONDS = 5.0  # time for a trial to stop at once, before its task is killed
_STOP_SECONDS = 30.0  # time for trials to stop at a tick when the driver ends

Handle = TypeVar("Handle")


class TaskExited(NamedTuple):
    """The end of a task."""

    reason: str  # the known cause
    fatal: bool = False  # no task can run a trial there: the sweep has to end
    preempted: bool = False  # the scheduler took it away


@dataclass(eq=False)
class Task(Generic[Handle]):
    """A trial that was submitted."""

    spec: TrialSpec
    handle: Handle  # the scheduler's id of it
    _: KW_ONLY
    watch: FileWatch
    requested: int = 0  # 1: to stop at a tick, 2: at once
    deadline: float = float("inf")  # when it is killed, by the monotonic clock
    exited_at: float | None = None  # when its end was seen, likewise
    outcome: TrialOutcome | None = None  # an interruption whose cause is not known yet

    @classmethod
    def of(cls, spec: TrialSpec, handle: Handle) -> Task[Handle]:
        """Return the task of an attempt."""
        return cls(spec, handle, watch=FileWatch(spec))


class TaskExecutor(Executor, Generic[Handle]):
    """An executor that submits trials to a scheduler, whose methods a subclass implements.

    Args:
        workers: The most tasks to submit at a time.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._emit: Callable[[Event], None] = lambda _event: None
        self._tasks: dict[int, Task[Handle]] = {}
        self._payload: TaskPayload | None = None
        self._closed = False
        self._outcome_delay = _DELAY_SECONDS

    # --- the scheduler

    @abstractmethod
    def _open(self, target: Target) -> TaskPayload:
        """Connect, and pack the target."""

    @abstractmethod
    def _launch(self, payload: TaskPayload, spec: TrialSpec) -> Handle:
        """Submit a task that calls `run_remote_trial`."""

    @abstractmethod
    def _exit_of(self, task: Task[Handle]) -> TaskExited | None:
        """Return the end of a task; None while it waits or runs."""

    @abstractmethod
    def _cancel(self, task: Task[Handle]) -> None:
        """Remove a task that waits from the queue; stop one that has begun at its next tick."""

    @abstractmethod
    def _kill(self, task: Task[Handle]) -> None:
        """End a task at once."""

    def _clean_up(self, task: Task[Handle]) -> None:
        """Remove the traces of a task that has ended."""

    @abstractmethod
    def _wait(self, timeout: float) -> None:
        """Wait until something may have happened."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Release the scheduler; never raise."""

    # --- the contract

    def start(self, target: Target, emit: Callable[[Event], None]) -> None:
        """Connect to the scheduler."""
        self._emit = emit
        self._payload = self._open(target)

    @property
    def free_slots(self) -> int:
        """Return the number of tasks that may still be submitted.

        The scheduler decides how many of them run.
        """
        return self._workers - len(self._tasks)

    def submit(self, spec: TrialSpec) -> None:
        """Submit a task."""
        assert self._payload is not None
        self._tasks[spec.number] = Task.of(spec, self._launch(self._payload, spec))

    def pump(self, timeout: float) -> None:
        """Read the tasks' events, and find tasks that have ended."""
        self._wait(timeout)
        for task in list(self._tasks.values()):
            self._poll(task)

    def prune(self, number: int) -> None:
        """Write a request for the task."""
        task = self._tasks.get(number)
        if task is not None and not task.requested:
            task.watch.request("prune")

    def stop(self, number: int, *, now: bool = False) -> None:
        """Remove a task that waits from the queue; write a request for one that runs.

        A task that does not stop at once, if asked to, is killed.
        """
        task = self._tasks.get(number)
        if task is None:
            return
        if not task.requested:
            task.requested = 1
            task.watch.request("stop")
            if not task.watch.has_begun():
                self._cancel(task)
        if not now:
            return
        if task.requested < 2:
            task.requested, task.deadline = 2, time.monotonic() + _FORCE_SECONDS
            task.watch.request("now")
        if time.monotonic() >= task.deadline:
            task.deadline = float("inf")
            self._kill(task)

    def close(self, *, now: bool = False) -> None:
        """Stop the tasks that still run, at a tick and in the end by force."""
        if self._closed:
            return
        self._closed = True
        forced = any(task.requested > 1 for task in self._tasks.values())
        try:
            for number in self._tasks:
                self.stop(number)
            self._wait_for_all(_STOP_SECONDS if now and not forced else _FORCE_SECONDS)
            for task in self._tasks.values():
                self._kill(task)
            self._wait_for_all(_FORCE_SECONDS)
        finally:
            self._tasks.clear()
            self._disconnect()

    def _wait_for_all(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while self._tasks and time.monotonic() < deadline:
            self._wait(0.1)
            self._tasks = {number: task for number, task in self._tasks.items() if self._exit_of(task) is None}

    # --- tasks

    def _poll(self, task: Task[Handle]) -> None:
        exited = self._exit_of(task)  # asked first: events before its end are read below
        for event in task.watch.poll() if task.outcome is None else ():
            if not isinstance(event, Completed):
                self._emit(event)
            elif event.outcome.status == "interrupted" and not task.requested:
                task.outcome = event.outcome
                return  # the cause is known when the task has ended, which the next poll finds out
            else:
                self._finish(task, event)
                return
        if exited is None:
            return
        if exited.fatal:
            raise SweepError(exited.reason)
        task.exited_at = task.exited_at or time.monotonic()
        if task.outcome is not None or task.requested or time.monotonic() - task.exited_at >= self._outcome_delay:
            self._finish(task, self._end_of(task, exited))

    def _end_of(self, task: Task[Handle], exited: TaskExited) -> Event:
        """Return the event of a task that has ended before its trial."""
        number = task.spec.number
        outcome = replace(task.outcome or TrialOutcome("interrupted"), error=exited.reason)
        if exited.preempted and not task.requested:
            return Preempted(number, outcome, exited.reason)
        if task.outcome is not None or task.requested:
            return Completed(number, outcome)
        return WorkerLost(number, exited.reason)

    def _finish(self, task: Task[Handle], event: Event) -> None:
        del self._tasks[task.spec.number]
        self._clean_up(task)
        self._emit(event)
