"""The result of a sweep, for users."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import RidgepoleError, RunDirError
from ridgepole.rundir import read_run
from ridgepole.sweeps.report.axes import masked
from ridgepole.sweeps.spec.objective import Metric
from ridgepole.sweeps.spec.space import Space
from ridgepole.sweeps.spec.spec import SweepSpec, read_sweep
from ridgepole.sweeps.study.outcome import TrialResult
from ridgepole.sweeps.sweepdir import SweepDir

if TYPE_CHECKING:
    from ridgepole.sweeps.report.view import View

NO_METRIC = "no trial logs the metric"
"""The reason of a sweep that ended because its first trials all failed to log the metric."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class SweepResult:
    """A sweep, finished or not.

    Attributes:
        id: Its id.
        path: Its directory.
        name: Its name.
        status: `finished`, `stopped` by how its trials went, `failed`, `interrupted`, `running`, or
            `crashed`.
        reason: Why it stopped.
        metric: The metric that it optimises.
        metrics: The metrics of a search for trade-offs; `metric` is None then.
        trials: All trials that were ever begun, by number.
        limit: The number of trials in all.
        pipeline: The pipeline's file; None where the sweep runs a function.
        overrides: The `-s` values below the sweep's parameters.
        directory: The working directory of a sweep's program; None where it runs no program.
        seconds: Wall time of the last driver; None while it runs, or if it was killed.
    """

    id: str
    path: Path
    _: KW_ONLY
    name: str | None = None
    status: str = "finished"
    reason: str = ""
    metric: Metric | None = None
    metrics: tuple[Metric, ...] = ()
    trials: Sequence[TrialResult] = ()
    limit: int = 0
    pipeline: str | None = None
    overrides: tuple[str, ...] = ()
    directory: str | None = None
    seconds: float | None = None

    @classmethod
    def from_record(
        cls,
        directory: SweepDir,
        spec: SweepSpec,
        fields: Mapping[str, Any],
        trials: Sequence[TrialResult],
        *,
        alive: bool,
    ) -> SweepResult:
        """Return the result of a sweep from its record.

        Args:
            directory: Its directory.
            spec: The sweep.
            fields: The fields of its record.
            trials: Its trials.
            alive: Whether a driver is at work on it.
        """
        status = str(fields.get("status", "running"))
        return cls(
            directory.id,
            directory.path,
            name=fields.get("name"),
            status="crashed" if status == "running" and not alive else status,
            reason=str(fields.get("reason", "")),
            metric=spec.metric,
            metrics=spec.metrics,
            trials=tuple(trials),
            limit=int(fields.get("limit", 0)),
            pipeline=fields.get("pipeline"),
            directory=fields.get("directory"),
            overrides=tuple(text for text in fields.get("overrides", ()) if not text.endswith("***")),
            seconds=fields.get("seconds"),
        )

    @property
    def best(self) -> TrialResult | None:
        """The finished trial with the best objective, the first of equals; None without one.

        Several metrics have no best trial; see `pareto`.
        """
        metric = self.metric or Metric("objective")
        best = None
        for trial in self.trials:
            if trial.status != "finished" or trial.value is None:
                continue
            if best is None or metric.better(trial.value, best.value or 0.0):
                best = trial
        return best

    @property
    def pareto(self) -> list[TrialResult]:
        """The finished trials of several metrics that no other one beats in all of them."""
        finished = [trial for trial in self.trials if trial.status == "finished" and trial.values]
        costs = [tuple(metric.sign * trial.values[metric.name] for metric in self.metrics) for trial in finished]

        def is_beaten(cost: tuple[float, ...]) -> bool:
            return any(other != cost and all(a <= b for a, b in zip(other, cost, strict=True)) for other in costs)

        return [trial for trial, cost in zip(finished, costs, strict=True) if not is_beaten(cost)]

    @property
    def counts(self) -> dict[str, int]:
        """The number of trials of each status."""
        return dict(Counter(trial.status for trial in self.trials))

    def settings(self, trial: TrialResult | None = None) -> list[str]:
        """Return the `-s` values that reproduce a trial.

        Args:
            trial: The trial; the best when None.

        Returns:
            One `key=value` a parameter; the seed of its run too, where the sweep doesn't set it.
        """
        trial = trial or self.best
        if trial is None or self.directory is not None:  # a program has its command line
            return []
        lines = [*self.overrides, *(f"{_key(name)}={override_value(value)}" for name, value in trial.params.items())]
        seed = self._seed_of(trial)
        given = {line.partition("=")[0].rpartition(".")[2] for line in lines}
        return lines if seed is None or "seed" in given else [*lines, f"pipeline.seed={seed}"]

    def command(self, trial: TrialResult | None = None) -> str:
        """Return the command that reproduces a trial; empty where the sweep runs a function."""
        chosen = trial or self.best
        if self.directory is not None and chosen is not None:
            script = self._run_of(chosen).get("script", {})
            return shlex.join(map(str, script.get("command", ())))
        if self.pipeline is None or chosen is None:
            return ""
        values = " ".join(f"-s {shlex.quote(line)}" for line in self.settings(trial))
        return f"ridgepole run {shlex.quote(self.pipeline)} {values}".rstrip()

    def report(self, directory: str | Path | None = None, *, pictures: bool | None = None) -> list[Path]:
        """Write a report: an interactive page, which needs no network, and pictures.

        Args:
            directory: The directory to write to; `report` in the sweep's directory when None. Files
                of the same names are replaced.
            pictures: Whether to draw `history.png`, `parallel.png`, `importances.png` and
                `slices.png`, which takes matplotlib and some seconds; when None, where matplotlib
                is installed.

        Returns:
            The files, the page first.

        Raises:
            SweepError: If they can't be written.
            MissingExtraError: If pictures are asked for and matplotlib is not installed, or Optuna
                is not.
        """
        from ridgepole.sweeps.report.write import write_report  # most users of a result write no report

        home = Path(directory) if directory is not None else SweepDir(self.path).report
        return write_report(self, home, pictures)

    def report_view(self) -> View:
        """Return the data of the report."""
        from ridgepole.sweeps.report.view import View

        best = self.best
        first = self.metrics[0] if self.metrics else None  # the page has one axis for a value
        return View(
            id=self.id,
            title=self.name or f"sweep {self.id}",
            status=self.status,
            reason=self.reason,
            limit=self.limit,
            counts=self.counts,
            metric=first or self.metric or Metric("objective"),
            metrics=self.metrics,
            front=[trial.number for trial in self.pareto],
            trials=[replace(each, value=each.values.get(first.name)) for each in self.trials] if first else self.trials,
            space=self._space(),
            best_trial=None if best is None else best.number,
            command=self._masked_command(),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the sweep as plain JSON values."""
        best, page = self.best, SweepDir(self.path).page
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "reason": self.reason,
            "path": str(self.path),
            "metric": None if self.metric is None else asdict(self.metric),
            "metrics": [asdict(metric) for metric in self.metrics],
            "pareto": [trial.number for trial in self.pareto],
            "limit": self.limit,
            "pipeline": self.pipeline,
            "counts": self.counts,
            "seconds": self.seconds,
            "best": None if best is None else best.number,
            "reproduce": self.command(),
            "report": None if page is None else str(page),
            "trials": [trial.as_dict() for trial in self.trials],
        }

    def _seed_of(self, trial: TrialResult) -> int | None:
        seed = self._run_of(trial).get("seed")
        return seed if isinstance(seed, int) else None

    def _run_of(self, trial: TrialResult) -> Mapping[str, Any]:
        """Return the record of a trial's run; empty where it was removed."""
        if trial.run is None:
            return {}
        try:
            return read_run(self.path.parents[1] / trial.run).fields
        except (RunDirError, OSError):
            return {}

    def _space(self) -> Space | None:
        try:
            return read_sweep(SweepDir(self.path).spec()).space
        except (RidgepoleError, OSError):  # the directory was removed; the trials hold enough
            return None

    def _masked_command(self) -> str:
        """Return the command that reproduces the best trial, or its parameters, without secrets."""
        best = self.best
        if best is None:
            return ""
        params = {name: masked(name, value) for name, value in best.params.items()}
        return self.command(replace(best, params=params)) or json.dumps(params, ensure_ascii=False)


def _key(name: str) -> str:
    """Return a flat name as a dotted key of TOML."""
    parts = name.split(".")
    return ".".join(part if _BARE_KEY.fullmatch(part) else _quoted(part) for part in parts)


def override_value(value: Any) -> str:
    """Return a value of JSON as `-s` reads it: in TOML, or in JSON where TOML can't hold it."""
    text = _toml_value(value)
    return json.dumps(value, ensure_ascii=False) if text is None else text


def _toml_value(value: Any) -> str | None:
    """Return a value in TOML, strings always between quotes; None where TOML can't hold it."""
    if value == {"null": True}:  # a word for null in Ridgepole's TOML
        return None
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        pairs = [(_quoted(str(key)), _toml_value(item)) for key, item in value.items()]
        inner = [f"{key} = {text}" for key, text in pairs if text is not None]
        return f"{{ {', '.join(inner)} }}" if len(inner) == len(pairs) else None
    if isinstance(value, list | tuple):
        items = [_toml_value(item) for item in value]
        texts = [item for item in items if item is not None]
        return f"[{', '.join(texts)}]" if len(texts) == len(items) else None
    if value is None:
        return None
    if isinstance(value, float):
        text = repr(value)
        return text if value - value == 0 else text.replace("infinity", "inf")
    if value is None:
        return "{ null = true }"
    return "true" if value is True else "false" if value is False else str(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
