"""One run as a row: its fields, its flat config, and the summary of its metrics."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ridgepole import rundir
from ridgepole.rundir import RunInfo
from ridgepole.runs.attempts import attempts_before, used_config

FIELDS = (
    *("id", "name", "tags", "note", "archived", "status", "pipeline", "started", "ended", "seconds"),
    *("attempt", "seed", "host", "sweep", "trial", "error"),
)
"""The fields of every run, in their order."""

TIMES = ("started", "ended")
"""The fields that are seconds since the epoch."""

_AS_FIELDS = frozenset(("pipeline.name", "pipeline.seed", "pipeline.tags"))
"""Keys of the config that are fields already."""

NOT_FINITE = "not finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run in a table; all its values are plain JSON values.

    Attributes:
        path: The run directory.
        fields: The values of `FIELDS`; None where the run has none.
        config: The values of the config as it was used, by dotted key.
        metrics: The summary of each metric, as in `summary.json`.
    """

    path: str
    fields: Mapping[str, Any]
    config: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]

    @property
    def id(self) -> str:
        """The run id."""
        return str(self.fields["id"])


def read_row(run: RunInfo, metrics: Mapping[str, Mapping[str, Any]] | None = None) -> RunRow:
    """Read a run into a row.

    Args:
        run: The run.
        metrics: The summary of its metrics, if it is known; else it is read or computed.
    """
    summary = summary_of(run).get("metrics", {}) if metrics is None else metrics
    config = {key: value for key, value in used_config(run).items() if key not in _AS_FIELDS}
    return RunRow(path=str(run.path), fields=_fields(run), config=config, metrics=_entries(summary))


def summary_of(run: RunInfo) -> dict[str, Any]:
    """Return a run's summary; compute it if the run is running or was killed."""
    if run.status not in ("running", "crashed"):
        return run.json(rundir.SUMMARY)
    from ridgepole.metrics.codec import decode
    from ridgepole.metrics.summary import Summary, goals_of

    summary, abandoned = Summary(goals_of(run.json(rundir.RESOLVED))), rundir.abandoned_segments(run.path)
    for file in sorted(run.path.glob(rundir.METRICS_GLOB)):
        for line in file.read_bytes().splitlines():
            # A torn or bad line
            with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):
                record = decode(line)
                if not any(first <= record["seq"] < end for first, end in abandoned):
                    summary.update(record["metrics"], record["step"])
    return {"metrics": summary.as_dict()}


def last_of(entry: Mapping[str, Any]) -> Any:
    """Return a metric's last value, or `NOT_FINITE`: summaries have no NaN and no infinities."""
    last = entry.get("last")
    return NOT_FINITE if last is None and entry.get("nonfinite") else last


def best_of(row: RunRow) -> dict[str, Any] | None:
    """Return the best value of the most telling metric, or None."""
    goals = _stated_goals(row)
    name = most_telling(row)
    value = None if name is None else row.metrics[name].get(goals.get(name, "best"))
    return None if value is None else {"metric": name, "value": value}


def most_telling(row: RunRow) -> str | None:
    """Return the metric that tells how good a run is, or None."""
    from ridgepole.metrics.summary import telling

    return next(iter(telling(row.metrics, _stated_goals(row))), None)


def goal_in(row: RunRow, name: str) -> str | None:
    """Return `"min"` or `"max"` for a metric of a run, as the run states it or the name tells."""
    from ridgepole.metrics.summary import goal_of

    return _stated_goals(row).get(name) or goal_of(name)


def _stated_goals(row: RunRow) -> dict[str, str]:
    wanted, mode = (row.config.get(f"pipeline.checkpoint.keep_best.{key}") for key in ("metric", "mode"))
    return {wanted: str(mode)} if isinstance(wanted, str) else {}


def same(a: Any, b: Any) -> bool:
    """Return whether two values are the same; a bool is not the same as a number."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def shown(value: Any) -> Any:
    """Return a value as one cell: a list or an empty table as JSON text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _fields(run: RunInfo) -> dict[str, Any]:
    labels, trial = run.labels, run.fields.get("sweep")
    if not isinstance(trial, dict):
        trial = {}
    return {
        "id": run.id,
        "name": labels.name,
        "tags": list(labels.tags),
        "note": labels.note,
        "archived": labels.archived,
        "status": run.status,
        "pipeline": _text(run.fields.get("pipeline")),
        **{key: _number(run.fields.get(key)) for key in ("started", "ended", "attempt", "seed")},
        "seconds": _seconds(run),
        "host": _text(run.fields.get("host")),
        "sweep": _text(trial.get("id")),
        "trial": _number(trial.get("trial")),
        "error": _error(run.fields.get("error")),
    }


def _seconds(run: RunInfo) -> float | int | None:
    """Return how long a run took; if it was killed, up to its last sign of life."""
    if run.status != "crashed":
        return _number(run.fields.get("seconds"))
    took = sum(_number(each.get("seconds")) or 0.0 for each in attempts_before(run.path, run.fields))
    return round(took, 3) or None


def _entries(summary: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(summary, Mapping):
        return {}
    return {str(name): entry for name, entry in summary.items() if isinstance(entry, Mapping)}


def _error(error: Any) -> str | None:
    if not isinstance(error, dict):
        return None
    return f"{error.get('type')}: {error.get('message')}".partition("\n")[0][:300]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
