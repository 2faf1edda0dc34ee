"""The driver's side of trials that are tasks of a scheduler: what they say, and are asked for, goes through files."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

from ridgepole.errors import SweepError
from ridgepole.sweeps.executors.base import Died, Ended, Event, Evicted, Executor, TrialSpec
from ridgepole.sweeps.executors.errand import Parcel
from ridgepole.sweeps.executors.files import FileWatch
from ridgepole.sweeps.jobs import Job
from ridgepole.sweeps.outcome import Outcome

_LATE_SECONDS = 2.0
"""How much later than a task's end its outcome may be seen on a shared file system."""
_INSIST_SECONDS = 5.0
"""How long a trial may take to stop at once, before its task is killed."""
_STOP_SECONDS = 30.0
"""How long the trials may take to stop at a tick when the driver ends."""

Handle = TypeVar("Handle")


class Gone(NamedTuple):
    """That a task doesn't run any more.

    Attributes:
        reason: What is known of its end.
        useless: Whether no task can run a trial there, so that the sweep has to end.
        evicted: Whether the scheduler took it away.
    """

    reason: str
    useless: bool = False
    evicted: bool = False


@dataclass(eq=False)
class Task(Generic[Handle]):
    """A trial that was submitted.

    Attributes:
        spec: The attempt.
        handle: What the scheduler knows it by.
        watch: Reads what it says.
        asked: 1: to stop at a tick, 2: at once.
        deadline: When it is killed, by the monotonic clock.
        gone_at: When its end was seen, likewise.
        outcome: An interruption whose cause is not known yet.
    """

    spec: TrialSpec
    handle: Handle
    watch: FileWatch = field(init=False)
    asked: int = 0
    deadline: float = float("inf")
    gone_at: float | None = None
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        self.watch = FileWatch(self.spec)


class TaskExecutor(Executor, Generic[Handle]):
    """Submits each trial to a scheduler. What differs from one to another are the methods below.

    Args:
        workers: How many tasks are submitted at a time.
    """

    def __init__(self, workers: int) -> None:
        self._count = workers
        self._emit: Callable[[Event], None] = lambda _event: None
        self._tasks: dict[int, Task[Handle]] = {}
        self._parcel: Parcel | None = None
        self._closed = False
        self._late = _LATE_SECONDS

    # --- what a scheduler has to do

    @abstractmethod
    def _open(self, job: Job) -> Parcel:
        """Connects to it, and packs the job for it."""

    @abstractmethod
    def _launch(self, parcel: Parcel, spec: TrialSpec) -> Handle:
        """Submits a task that calls `perform_errand`."""

    @abstractmethod
    def _gone(self, task: Task[Handle]) -> Gone | None:
        """What became of a task; None while it waits or runs."""

    @abstractmethod
    def _drop(self, task: Task[Handle]) -> None:
        """Takes a task that has not begun out of the queue; one that has is asked to stop at its next tick."""

    @abstractmethod
    def _kill(self, task: Task[Handle]) -> None:
        """Ends a task at once."""

    def _forget(self, task: Task[Handle]) -> None:
        """Removes what a task that has ended has left."""

    @abstractmethod
    def _rest(self, timeout: float) -> None:
        """Waits until something may have happened."""

    @abstractmethod
    def _shut(self) -> None:
        """Lets go of the scheduler; never raises."""

    # --- the contract

    def start(self, job: Job, emit: Callable[[Event], None]) -> None:
        """Connects to the scheduler."""
        self._emit = emit
        self._parcel = self._open(job)

    @property
    def free(self) -> int:
        """Tasks that may still be submitted; how many of them run is the scheduler's to say."""
        return self._count - len(self._tasks)

    def submit(self, spec: TrialSpec) -> None:
        """Submits a task."""
        assert self._parcel is not None
        self._tasks[spec.number] = Task(spec, self._launch(self._parcel, spec))

    def pump(self, timeout: float) -> None:
        """Reads what tasks say, and finds those that have ended."""
        self._rest(timeout)
        for task in list(self._tasks.values()):
            self._look(task)

    def prune(self, number: int) -> None:
        """Asks the task through its file."""
        task = self._tasks.get(number)
        if task is not None and not task.asked:
            task.watch.ask("prune")

    def stop(self, number: int, *, now: bool = False) -> None:
        """Takes a task that waits out of the queue; asks one that runs through its file, and kills it in the end."""
        task = self._tasks.get(number)
        if task is None:
            return
        if not task.asked:
            task.asked = 1
            task.watch.ask("stop")
            if not task.watch.begun():
                self._drop(task)
        if not now:
            return
        if task.asked < 2:
            task.asked, task.deadline = 2, time.monotonic() + _INSIST_SECONDS
            task.watch.ask("now")
        if time.monotonic() >= task.deadline:
            task.deadline = float("inf")
            self._kill(task)

    def close(self, *, now: bool = False) -> None:
        """Stops the tasks that still run, at a tick and in the end by force."""
        if self._closed:
            return
        self._closed = True
        try:
            self._end_all(patience=_STOP_SECONDS if now else _INSIST_SECONDS)
        finally:
            self._tasks.clear()
            self._shut()

    def _end_all(self, patience: float) -> None:
        if any(task.asked > 1 for task in self._tasks.values()):
            patience = _INSIST_SECONDS
        for number in self._tasks:
            self.stop(number)
        self._wait_for_all(patience)
        for task in self._tasks.values():
            self._kill(task)
        self._wait_for_all(_INSIST_SECONDS)

    def _wait_for_all(self, patience: float) -> None:
        until = time.monotonic() + patience
        while self._tasks and time.monotonic() < until:
            self._rest(0.1)
            self._tasks = {number: task for number, task in self._tasks.items() if self._gone(task) is None}

    # --- tasks

    def _look(self, task: Task[Handle]) -> None:
        gone = self._gone(task)  # asked first: what it said before its end is read below
        for event in task.watch.poll() if task.outcome is None else ():
            if not isinstance(event, Ended):
                self._emit(event)
            elif event.outcome.status == "interrupted" and not task.asked:
                task.outcome = event.outcome
                return  # by whom is known when the task has ended, which the next look finds out
            else:
                self._finish(task, event)
                return
        if gone is None:
            return
        if gone.useless:
            raise SweepError(gone.reason)
        task.gone_at = task.gone_at or time.monotonic()
        if task.outcome is not None or task.asked or time.monotonic() - task.gone_at >= self._late:
            self._finish(task, self._end_of(task, gone))

    def _end_of(self, task: Task[Handle], gone: Gone) -> Event:
        """What it means that a task has ended and its trial has not."""
        number = task.spec.number
        outcome = replace(task.outcome or Outcome("interrupted"), error=gone.reason)
        if gone.evicted and not task.asked:
            return Evicted(number, outcome, gone.reason)
        return Ended(number, outcome) if task.outcome is not None or task.asked else Died(number, gone.reason)

    def _finish(self, task: Task[Handle], event: Event) -> None:
        del self._tasks[task.spec.number]
        self._forget(task)
        self._emit(event)
