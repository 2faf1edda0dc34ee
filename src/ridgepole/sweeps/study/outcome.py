"""Outcomes of trials, for the storage and for users. Imported without Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias

from ridgepole.errors import Place, Problem

Ending: TypeAlias = Literal["finished", "pruned", "failed", "interrupted"]

TRIAL_STATUSES = ("running", "waiting", "finished", "pruned", "failed", "stopped", "retried")
"""`waiting`: begun, not running; a resume continues it. `stopped`: ended with the sweep. `retried`:
failed, and another trial runs it again."""


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """The end of one attempt of a trial.

    Attributes:
        status: `finished`, `pruned` by the sweep, `failed`, or `interrupted`: asked to stop, and
            resumable.
        value: The objective: the number that was returned, else the best logged value of the
            metric.
        values: Of several metrics, the last value of each, by name.
        count: The number of finite values of the metric that were logged.
        best: The best of them.
        latest: The last of them.
        runs: Ids of the runs that it made, in order.
        error: The error, in one line.
        traceback: The traceback, with the user's frames only.
        problems: The problems of a pipeline that could not be planned.
        seconds: Wall time.
    """

    status: Ending
    value: float | None = None
    _: KW_ONLY
    values: Mapping[str, float] = field(default_factory=dict)
    count: int = 0
    best: float | None = None
    latest: float | None = None
    runs: tuple[str, ...] = ()
    error: str = ""
    traceback: str = ""
    problems: tuple[Problem, ...] = field(default=())
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return asdict(self) | {"runs": list(self.runs), "problems": [asdict(problem) for problem in self.problems]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialOutcome:
        """Return the outcome that `as_dict` described."""
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        problems = [
            Problem(**{**each, "place": Place(**each["place"]) if each.get("place") else None})
            for each in values.get("problems", ())
        ]
        return cls(**{**known, "runs": tuple(values.get("runs", ())), "problems": tuple(problems)})


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One trial.

    Attributes:
        number: Its number, from 0.
        status: One of `TRIAL_STATUSES`.
        value: Its objective; of a pruned trial, the best value until then.
        params: The parameters that it was run with, by flat name.
        run: Id of the last run that it made; None where it made no run.
        runs: Ids of all its runs.
        attempts: The number of times it was begun.
        error: The error of a failed trial.
        values: Of several metrics, the last value of each, by name.
        imputed: The value that the sampler was told in place of a missing one.
        latest: The last value of the metric that was logged.
        seconds: Wall time of the last attempt.
    """

    number: int
    status: str
    value: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None
    _: KW_ONLY
    runs: tuple[str, ...] = ()
    attempts: int = 1
    error: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    imputed: float | None = None
    latest: float | None = None
    seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the trial as plain JSON values."""
        return asdict(self) | {"runs": list(self.runs)}
