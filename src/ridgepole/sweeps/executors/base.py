"""What runs the trials of a sweep: the contract between the driver and an executor.

One driver, on one thread, owns Optuna and the ledger. An executor runs each trial somewhere and says what happens; it
never touches the storage. `executors/<name>.py` has a function `make(options, workers)` that gives one.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ridgepole.pipeline.signals import SignalGuard
from ridgepole.sweeps.outcome import Outcome
from ridgepole.sweeps.sweepdir import SweepDir

if TYPE_CHECKING:
    from ridgepole.sweeps.jobs import Job


EXCLUSIVE: Final = {"RIDGEPOLE_DEVICE_LEASE": "exclusive", "RIDGEPOLE_DEVICE_WAIT": "604800"}
"""What `Device` does in a worker, unless a pipeline says otherwise: no two workers share a card."""


def for_workers(count: int) -> dict[str, str]:
    """Gives the environment of each of so many workers of this machine: a card of its own, a share of the cores."""
    if count < 2:
        return dict(EXCLUSIVE)
    share = max(1, len(os.sched_getaffinity(0)) // count) if hasattr(os, "sched_getaffinity") else 1
    return {**EXCLUSIVE, "OMP_NUM_THREADS": str(share)}  # else each of them computes on all cores at once


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One attempt of a trial, as plain JSON values.

    Attributes:
        sweep: Id of the sweep.
        number: Number of the trial, from 0.
        attempt: 1, or one more for each retry and each resume.
        values: Its parameters by flat name.
        directory: The sweep's directory, absolute.
        resume: Directory of a run of an earlier attempt that is to go on.
        environ: Environment variables that it is to have.
    """

    sweep: str
    number: int
    attempt: int
    values: Mapping[str, Any]
    directory: str
    resume: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Started:
    """A trial has made a run.

    Attributes:
        number: The trial.
        run: The run directory.
    """

    number: int
    run: str


@dataclass(frozen=True, slots=True)
class Reported:
    """A trial has logged the metric.

    Attributes:
        number: The trial.
        values: Finite values, in order.
        seen: How many values there were before these. After a resume from a checkpoint it goes back.
    """

    number: int
    values: tuple[float, ...]
    seen: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial came to its end by itself.

    Attributes:
        number: The trial.
        outcome: How.
    """

    number: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Died:
    """What ran a trial is gone without a word about it.

    Attributes:
        number: The trial.
        reason: What is known, such as `killed by SIGKILL`.
    """

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Evicted:
    """The place where a trial ran has taken it away, as a scheduler does; it is begun again, and has not failed.

    Attributes:
        number: The trial.
        outcome: How far it came.
        reason: What is known, such as `preempted`.
    """

    number: int
    outcome: Outcome
    reason: str


Event: TypeAlias = Started | Reported | Ended | Died | Evicted


class Executor(ABC):
    """Runs trials. All methods are called by the driver, on its thread, but for `wake`.

    Attributes:
        guard: Of the driver's own process, for trials that run in it; set by the driver before `start`.
        directory: The sweep's; likewise.
    """

    guard: SignalGuard | None = None
    directory: SweepDir

    @abstractmethod
    def start(self, job: Job, emit: Callable[[Event], None]) -> None:
        """Gets ready; once, before anything else.

        Args:
            job: What each trial runs. Can be pickled, or `jobs.pickled` says why not.
            emit: Takes an event; called from `pump` alone. It may call `prune` before it returns.

        Raises:
            SweepError: If trials can't be run there.
            MissingExtraError: If a package is not installed.
        """

    @property
    @abstractmethod
    def free(self) -> int:
        """How many trials may be submitted now."""

    @abstractmethod
    def submit(self, spec: TrialSpec) -> None:
        """Begins a trial. Exactly one `Ended`, `Died` or `Evicted` of that number comes of it."""

    @abstractmethod
    def pump(self, timeout: float) -> None:
        """Waits for something to happen, `timeout` seconds at most, and emits all that has."""

    @abstractmethod
    def prune(self, number: int) -> None:
        """Asks a trial to stop at its next tick, as pruned; a number that doesn't run is ignored."""

    @abstractmethod
    def stop(self, number: int, *, now: bool = False) -> None:
        """Asks a trial to stop at its next tick with a checkpoint, or at once; a number that doesn't run is ignored."""

    def adopt(self, spec: TrialSpec) -> bool:
        """Whether an attempt that a former driver began is still running here; from then on it is as if submitted."""
        del spec
        return False

    def wake(self) -> None:
        """Makes a `pump` that waits return soon; called from a signal's handler."""

    @abstractmethod
    def close(self, *, now: bool = False) -> None:
        """Ends everything that was started; a second call does nothing.

        Args:
            now: Whether trials that still run are killed.
        """
