"""The trials of a sweep as the storage keeps them. Imported only where Optuna is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ridgepole.sweeps.outcome import Outcome
from ridgepole.sweeps.result import TrialResult
from ridgepole.sweeps.spec import SweepSpec
from ridgepole.sweeps.storage import Store
from ridgepole.sweeps.sweepdir import SweepDir

BEGUN, OUTCOME = "ridgepole", "outcome"
"""Names of a trial's attributes: how it was begun, and how it ended."""


@dataclass(slots=True)
class Row:
    """A trial, as the driver knows it.

    Attributes:
        number: Its number.
        trial_id: What the storage calls it.
        values: Its parameters; empty while they are not all drawn.
        attempts: How often it was begun.
        failures: How many of these attempts failed by themselves, so that retries count them.
        settled: The last attempt whose end has been dealt with: what it left must not count again.
        pruning: Whether the sweep has decided to stop it early.
        runs: Directories of its runs, as ids.
        environ: Environment variables that belong to it.
        history: Finite values of the metric, where pruning needs them.
        bests: The best of them up to a band.
        judged: At which count of runs there it was judged last at a band.
        latest: The last of them.
        outcome: How it ended for good; None while it is in flight.
        imputed: What Optuna was told instead of a value.
        stopped: Whether it ended only because the sweep did.
        told: Whether Optuna knows its end.
        stuck: How often it was taken away soon after its start.
    """

    number: int
    trial_id: int
    values: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0
    failures: int = 0
    settled: int = 0
    pruning: bool = False
    runs: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    history: list[float] = field(default_factory=list)
    bests: dict[int, float] = field(default_factory=dict)
    judged: dict[int, int] = field(default_factory=dict)
    latest: float | None = None
    outcome: Outcome | None = None
    imputed: float | None = None
    stopped: bool = False
    told: bool = False
    stuck: int = 0

    def begun(self) -> dict[str, Any]:
        """What the storage keeps of how it was begun."""
        told = {"values": self.values, "attempts": self.attempts, "failures": self.failures, "runs": self.runs}
        rare = {"environ": self.environ, "settled": self.settled, "pruning": self.pruning}
        return told | {name: value for name, value in rare.items() if value}

    def result(self, *, alive: bool) -> TrialResult:
        """The trial for people; `alive` says whether a driver is at work."""
        outcome = self.outcome
        status = ("running" if alive else "waiting") if outcome is None else outcome.status
        return TrialResult(
            self.number,
            "stopped" if self.stopped else status,
            None if outcome is None else outcome.value,
            dict(self.values),
            self.runs[-1] if self.runs else None,
            tuple(self.runs),
            self.attempts,
            "" if outcome is None else outcome.error,
            self.imputed,
            self.latest if outcome is None else outcome.latest,
            None if outcome is None else outcome.seconds,
        )


def state_of(row: Row, *, needs_value: bool) -> tuple[TrialState, float | None]:
    """What Optuna is told of a trial that has ended."""
    outcome = row.outcome
    assert outcome is not None
    if row.stopped:
        return TrialState.FAIL, None
    value = outcome.value if outcome.value is not None else row.imputed
    if outcome.status == "pruned":
        return TrialState.PRUNED, value
    if outcome.status == "failed":
        value = row.imputed
    if value is None and (needs_value or outcome.status == "failed"):
        return TrialState.FAIL, None
    return TrialState.COMPLETE, value


def rows_of(store: Store, spec: SweepSpec) -> list[Row]:
    """All trials of a storage."""
    trials = store.patiently(lambda: store.study.get_trials(deepcopy=False))
    return [_row(store, spec, trial) for trial in trials]


def _row(store: Store, spec: SweepSpec, trial: FrozenTrial) -> Row:
    find = store.storage.get_trial_id_from_study_id_trial_number
    row = Row(trial.number, store.patiently(lambda: find(store.study_id, trial.number)))
    begun, told = trial.user_attrs.get(BEGUN, {}), trial.user_attrs.get(OUTCOME)
    row.values = dict(begun.get("values", {}))
    if not row.values and len(trial.params) == len(spec.space.distributions()):
        row.values = spec.space.decode(trial.params)
    row.attempts, row.failures = int(begun.get("attempts", 0)), int(begun.get("failures", 0))
    row.settled, row.pruning = int(begun.get("settled", 0)), bool(begun.get("pruning"))
    row.runs, row.environ = list(begun.get("runs", ())), dict(begun.get("environ", {}))
    row.history = [value for _, value in sorted(trial.intermediate_values.items())]
    row.told = trial.state.is_finished()
    row.latest = row.history[-1] if row.history else None
    if told is not None:
        row.outcome, row.imputed, row.stopped = Outcome.from_dict(told), told.get("imputed"), bool(told.get("stopped"))
        row.runs = list(told.get("runs", row.runs))
        del row.history[row.outcome.count :]  # what an attempt before had logged further on
    return row


def read_trials(directory: SweepDir, spec: SweepSpec, *, alive: bool) -> list[TrialResult]:
    """The trials of a sweep, without changing anything.

    Args:
        directory: The sweep's directory.
        spec: The sweep.
        alive: Whether a driver is at work on it.

    Raises:
        SweepError: If the storage can't be read.
    """
    try:
        store = Store(directory, spec, writes=False)
    except (KeyError, FileNotFoundError):  # killed before it had a study
        return []
    try:
        return [row.result(alive=alive) for row in rows_of(store, spec)]
    finally:
        store.close()
