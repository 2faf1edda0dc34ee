"""What a sweep has come to."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ridgepole.sweeps.objective import Metric

TRIAL_STATUSES = ("running", "waiting", "finished", "pruned", "failed", "stopped")
"""`waiting`: begun, and nobody runs it now; a resume goes on with it. `stopped`: ended with the sweep, for good."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One trial.

    Attributes:
        number: Its number, from 0.
        status: One of `TRIAL_STATUSES`.
        value: Its objective; of a pruned trial, the best value until then.
        params: Its parameters by flat name, as they were used.
        run: Id of the last run that it made; None where it made none.
        runs: Ids of all its runs.
        attempts: How often it was begun.
        error: What it failed with.
        imputed: What the sampler was told in the place of a value.
        latest: The last value of the metric that was logged.
        seconds: Wall time of the last attempt.
    """

    number: int
    status: str
    value: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None
    runs: tuple[str, ...] = ()
    attempts: int = 1
    error: str = ""
    imputed: float | None = None
    latest: float | None = None
    seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The trial as plain JSON values."""
        return asdict(self) | {"runs": list(self.runs)}


@dataclass(frozen=True, slots=True)
class SweepResult:
    """A sweep, finished or not.

    Attributes:
        id: Its id.
        path: Its directory.
        name: Its name.
        status: `finished`, `stopped` by how its trials went, `failed`, `interrupted`, `running`, or `crashed`.
        reason: Why it stopped.
        metric: What is optimised.
        trials: All trials that were ever begun, by number.
        limit: How many there are to be.
        pipeline: The pipeline's file; None where the sweep runs a function.
        overrides: The `-s` values below the sweep's parameters.
    """

    id: str
    path: Path
    name: str | None = None
    status: str = "finished"
    reason: str = ""
    metric: Metric | None = None
    trials: Sequence[TrialResult] = ()
    limit: int = 0
    pipeline: str | None = None
    overrides: tuple[str, ...] = ()

    @property
    def best(self) -> TrialResult | None:
        """The finished trial with the best objective, the first of equals; None where none has one."""
        done = [trial for trial in self.trials if trial.status == "finished" and trial.value is not None]
        goal = self.metric or Metric("objective")
        best = None
        for trial in done:
            if best is None or goal.better(trial.value or 0.0, best.value or 0.0):
                best = trial
        return best

    @property
    def counts(self) -> dict[str, int]:
        """How many trials there are of each status."""
        counts: dict[str, int] = {}
        for trial in self.trials:
            counts[trial.status] = counts.get(trial.status, 0) + 1
        return counts

    def settings(self, trial: TrialResult | None = None) -> list[str]:
        """The `-s` values that reproduce a trial.

        Args:
            trial: The trial; the best when None.

        Returns:
            One `key=value` a parameter; the seed of its run too, where the sweep doesn't set it.
        """
        trial = trial or self.best
        if trial is None:
            return []
        # TOML has no null, and a parameter that is None is nearly always so by default.
        values = ((name, value) for name, value in trial.params.items() if value is not None)
        lines = [*self.overrides, *(f"{name}={toml_value(value)}" for name, value in values)]
        seed = self._seed_of(trial)
        given = {line.partition("=")[0].rpartition(".")[2] for line in lines}
        return lines if seed is None or "seed" in given else [*lines, f"pipeline.seed={seed}"]

    def command(self, trial: TrialResult | None = None) -> str:
        """The command that reproduces a trial; empty where the sweep runs a function."""
        if self.pipeline is None or (trial or self.best) is None:
            return ""
        values = " ".join(f"-s {shlex.quote(line)}" for line in self.settings(trial))
        return f"ridgepole run {shlex.quote(self.pipeline)} {values}".rstrip()

    def report(self, directory: str | Path | None = None, *, pictures: bool | None = None) -> list[Path]:
        """Writes a report: a page to look into, which needs no network, and pictures.

        Args:
            directory: Where to; `report` in the sweep's directory when None. Files of the same names are replaced.
            pictures: Whether to draw `history.png`, `parallel.png`, `importances.png` and `slices.png`, which takes
                matplotlib and some seconds; when None, where matplotlib is installed.

        Returns:
            The files, the page first.

        Raises:
            SweepError: If they can't be written.
            MissingExtraError: If pictures are asked for and matplotlib is not installed, or Optuna is not.
        """
        from ridgepole.sweeps.report.write import write_report

        return write_report(self, directory, pictures)

    def as_dict(self) -> dict[str, Any]:
        """The sweep as plain JSON values."""
        from ridgepole.sweeps.sweepdir import SweepDir

        best, page = self.best, SweepDir(self.path).page
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "reason": self.reason,
            "path": str(self.path),
            "metric": None if self.metric is None else asdict(self.metric),
            "limit": self.limit,
            "pipeline": self.pipeline,
            "counts": self.counts,
            "best": None if best is None else best.number,
            "reproduce": self.command(),
            "report": None if page is None else str(page),
            "trials": [trial.as_dict() for trial in self.trials],
        }

    def _seed_of(self, trial: TrialResult) -> int | None:
        from ridgepole.errors import RunDirError
        from ridgepole.rundir import read_run

        if trial.run is None:
            return None
        try:
            seed = read_run(self.path.parents[1] / trial.run).fields.get("seed")
        except (RunDirError, OSError):  # the run was removed
            return None
        return seed if isinstance(seed, int) else None


def toml_value(value: Any) -> str:
    """A value as `-s` reads it: TOML, a text always between quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(str(key))} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, float):
        text = repr(value)
        return text if value - value == 0 else text.replace("infinity", "inf")
    return "true" if value is True else "false" if value is False else str(value)
