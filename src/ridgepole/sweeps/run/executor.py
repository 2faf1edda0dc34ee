"""The contract between the driver of a sweep and an executor, which runs the trials.

One driver, on one thread, owns Optuna and the trial store. An executor runs each trial somewhere
and emits events; it never touches the storage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.sweeps.run.targets import Target
from ridgepole.sweeps.run.trial import TrialSpec
from ridgepole.sweeps.spec.options import Options
from ridgepole.sweeps.study.outcome import TrialOutcome
from ridgepole.sweeps.sweepdir import SweepDir

if TYPE_CHECKING:
    from ridgepole.sweeps.run.driver import Sweep, TrialSource


@dataclass(frozen=True, slots=True)
class Started:
    """A trial has made a run."""

    number: int
    run: str  # the run directory


@dataclass(frozen=True, slots=True)
class Reported:
    """A trial has logged finite values of the metric."""

    number: int
    values: tuple[float, ...]
    seen: int  # the number of values before these; it decreases after a resume from a checkpoint


@dataclass(frozen=True, slots=True)
class Completed:
    """A trial has ended by itself."""

    number: int
    outcome: TrialOutcome


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The process that ran a trial has died without an outcome."""

    number: int
    reason: str  # the known cause, such as "killed by SIGKILL"


@dataclass(frozen=True, slots=True)
class Preempted:
    """A scheduler has taken a trial's place away. The trial has not failed, and is begun again."""

    number: int
    outcome: TrialOutcome  # its progress until then
    reason: str  # the known cause, such as "preempted"


Event: TypeAlias = Started | Reported | Completed | WorkerLost | Preempted


class Executor(ABC):
    """A way to run trials. The driver calls its methods on one thread, `wake` in a signal handler.

    Attributes:
        guard: The signal guard of the driver's process. The driver sets it before `start`.
        directory: The sweep's directory, likewise.
    """

    guard: SignalGuard | None = None
    directory: SweepDir

    # --- before the sweep

    @classmethod
    def validate(cls, options: Options) -> None:
        """Check what can be known before anything is made.

        Raises:
            SweepError: If trials can't be run there.
            MissingExtraError: If a package is not installed.
        """

    @classmethod
    @abstractmethod
    def create(cls, options: Options, workers: int) -> Executor:
        """Return an executor that runs so many trials at a time; it may be one of another class."""

    @classmethod
    def trial_source(cls, sweep: Sweep) -> TrialSource | None:
        """Return where the trials come from; None: the sweep's own method draws them."""
        del sweep
        return None

    # --- while it runs

    @abstractmethod
    def start(self, target: Target, emit: Callable[[Event], None]) -> None:
        """Get ready; called once, before anything else.

        Args:
            target: What each trial runs. `targets.pickled` prepares it for another process.
            emit: Takes an event. Call it from `pump` alone; it may call `prune` before it returns.

        Raises:
            SweepError: If trials can't be run there.
            MissingExtraError: If a package is not installed.
        """

    @property
    @abstractmethod
    def free_slots(self) -> int:
        """Return the number of trials that may be submitted now."""

    @abstractmethod
    def submit(self, spec: TrialSpec) -> None:
        """Begin a trial. Exactly one `Completed`, `WorkerLost` or `Preempted` follows."""

    @abstractmethod
    def pump(self, timeout: float) -> None:
        """Wait for something to happen, `timeout` seconds at most, and emit all events."""

    @abstractmethod
    def prune(self, number: int) -> None:
        """Ask a trial to stop at its next tick, as pruned. Ignore a number that doesn't run."""

    @abstractmethod
    def stop(self, number: int, *, now: bool = False) -> None:
        """Ask a trial to stop at its next tick with a checkpoint, or at once.

        Ignore a number that doesn't run.
        """

    def adopt(self, spec: TrialSpec) -> bool:
        """Take over an attempt of a former driver, as if submitted; return whether it runs."""
        del spec
        return False

    def wake(self) -> None:
        """Make a `pump` that waits return soon; called from a signal's handler."""

    @abstractmethod
    def close(self, *, now: bool = False) -> None:
        """End everything that was started; a second call does nothing.

        Args:
            now: Whether to kill trials that still run.
        """
