"""Compare runs: their config, code, packages and metrics, aligned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ridgepole import rundir
from ridgepole.metrics.summary import goal_of
from ridgepole.rundir import RunInfo
from ridgepole.runs.attempts import used_config
from ridgepole.runs.row import last_of, read_row, same
from ridgepole.runs.table import Names

SECTIONS = ("config", "code", "packages", "metrics")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedValue:
    """One thing of several runs.

    Attributes:
        key: Its name.
        label: Its shortest name that no other has.
        values: The value of each run; None where it has none.
        differs: Whether the runs differ in it.
        percent: The change of each number against the baseline, in percent; None where there is
            none. Empty without a baseline.
    """

    key: str
    label: str
    values: Sequence[Any]
    differs: bool
    percent: Sequence[float | None] = ()

    @property
    def goal(self) -> str | None:
        """Return whether small or large values are good, if the name of the metric tells."""
        return goal_of(self.key)


def compare(
    runs: Sequence[RunInfo],
    *,
    baseline: int | None = None,
    everything: bool = False,
    metrics: Sequence[Mapping[str, Mapping[str, Any]]] | None = None,
) -> dict[str, list[ComparedValue]]:
    """Compare runs.

    Args:
        runs: The runs.
        baseline: The index of the run that the metrics of others are compared with, in percent.
        everything: Whether to return also what does not differ.
        metrics: The summaries of the runs, if they are known.

    Returns:
        What differs, for each of `SECTIONS`.
    """
    rows = [read_row(run, metrics[at] if metrics is not None else None) for at, run in enumerate(runs)]
    names = Names(rows)
    provenance = [run.json(rundir.PROVENANCE) for run in runs]
    sides: dict[str, list[Mapping[str, Any]]] = {
        "config": [used_config(run) for run in runs],
        "code": [_code(each) for each in provenance],
        "packages": [_mapping(each.get("packages")) for each in provenance],
        "metrics": [{name: last_of(entry) for name, entry in row.metrics.items()} for row in rows],
    }
    labels: dict[str, Callable[[str], str]] = {
        "config": lambda key: names.labels.get(("config", key), key),
        "metrics": lambda key: key,
    }
    return {
        section: [
            value
            for value in _aligned(sides[section], labels.get(section, str), baseline if section == "metrics" else None)
            if everything or value.differs
        ]
        for section in SECTIONS
    }


def _aligned(
    sides: Sequence[Mapping[str, Any]], label: Callable[[str], str], baseline: int | None
) -> list[ComparedValue]:
    keys = dict.fromkeys(key for side in sides for key in side)
    found = []
    for key in keys:
        values = [side.get(key) for side in sides]
        percent = () if baseline is None else [_percent(value, values[baseline]) for value in values]
        differs = len({key in side for side in sides}) > 1 or not all(same(value, values[0]) for value in values)
        found.append(ComparedValue(key=key, label=label(key), values=values, differs=differs, percent=percent))
    return found


def _percent(value: Any, base: Any) -> float | None:
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (value, base))
    if not numbers or base == 0:
        return None
    change = (value - base) / abs(base) * 100
    return float(change) if change - change == 0.0 else None


def _code(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of the repository, and the hash of each source file."""
    git = _mapping(provenance.get("git"))
    state = {key: git.get(key) for key in ("commit", "branch", "changed")} if git else {}
    return state | dict(_mapping(provenance.get("code")))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
