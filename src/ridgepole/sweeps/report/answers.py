"""The data of a sweep for the page of runs, which draws it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ridgepole.sweeps.report.axes import Axis
from ridgepole.sweeps.report.scale import format_number
from ridgepole.sweeps.report.view import View
from ridgepole.view.wire import key_of

if TYPE_CHECKING:
    from ridgepole.sweeps.result import SweepResult

_DIGITS = 4  # of a place from 0 to 1: finer than any screen
_LABEL = 20


def page_data(view: View) -> dict[str, Any]:
    """Return the data of one sweep as plain JSON values, without the importances.

    Trials are columns, by number.
    """
    scale = view.scale
    return {
        "id": view.id,
        "title": view.title,
        "status": view.status,
        "reason": view.reason,
        "counts": view.counts,
        "limit": view.limit,
        "metric": {"name": view.metric.name, "goal": view.metric.goal, "target": view.metric.target},
        "others": [
            {"name": metric.name, "goal": metric.goal, "values": view.values_of(metric)} for metric in view.metrics[1:]
        ],
        "front": list(view.front),
        "best": view.best_trial,
        "command": view.command,
        "constants": list(view.constants.items()),
        "importances": None,
        "scale": {
            "low": scale.low,
            "high": scale.high,
            "log": scale.log,
            "ticks": _ticks(view.ticks),
            "target": _target(view),
        },
        "axes": [_axis(axis) for axis in view.axes],
        "trials": {
            "number": [trial.number for trial in view.trials],
            "status": [trial.status for trial in view.trials],
            "value": view.values,
            "text": [None if value is None else format_number(value) for value in view.values],
            "place": _rounded([view.place(value) for value in view.values]),
            "best": _rounded([view.place(value) for value in view.best]),
            "run": [trial.run for trial in view.trials],
            "seconds": [None if trial.seconds is None else round(trial.seconds, 3) for trial in view.trials],
            "error": [trial.error.partition("\n")[0][:300] for trial in view.trials],
        },
    }


def _target(view: View) -> float | None:
    target = view.metric.target
    return None if target is None or view.is_beyond(target) else view.place(target)


def _axis(axis: Axis) -> dict[str, Any]:
    whole = axis.kind == "choice" or all(value is None or value.is_integer() for value in axis.values)
    values = [None if value is None else int(value) if whole else value for value in axis.values]
    return {
        "name": axis.name,
        "kind": axis.kind,
        "step": axis.step,
        "ticks": _ticks(axis.ticks),
        "labels": axis.labels(_LABEL),
        "places": _rounded(axis.places),
        "drawn": _rounded([axis.drawn(row) for row in range(len(axis.places))]) if axis.step else None,
        "values": values,
    }


def _ticks(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    return [(round(place, _DIGITS), label) for place, label in ticks]


def _rounded(places: Sequence[float | None]) -> list[float | None]:
    return [None if place is None else round(place, _DIGITS) for place in places]


class HeldSweep:
    """One sweep whose result is at hand, also where its directory is gone.

    Args:
        result: The result.
    """

    def __init__(self, result: SweepResult) -> None:
        self._result = result

    def count(self) -> int:
        """Return 1."""
        return 1

    def listed(self) -> list[dict[str, Any]]:
        """Return its summary."""
        return [summary_of(key_of(self._result.path), self._result, None)]

    def data(self, key: str) -> dict[str, Any] | None:
        """Return what the page draws of it."""
        del key
        return page_data_of(self._result, self._result.report_view())

    def importances(self, key: str) -> dict[str, Any] | None:
        """Return its importances."""
        del key
        return importances_of(self._result.report_view())


def page_data_of(result: SweepResult, view: View) -> dict[str, Any]:
    """Return the data of a sweep without the importances, with the keys of its trials' runs."""
    root = result.path.parents[1].resolve()
    keys = [None if trial.run is None else key_of(root / trial.run) for trial in result.trials]
    return page_data(view) | {"runs": keys}


def importances_of(view: View) -> dict[str, Any]:
    """Return the importances of a sweep's parameters, which take longer than the rest."""
    return {"shares": view.importances.shares, "note": view.importances.note}


def summary_of(key: str, result: SweepResult, started: Any) -> dict[str, Any]:
    """Return a line of the list of sweeps."""
    best = result.best
    metric = result.metric or (result.metrics[0] if result.metrics else None)
    return {
        "key": key,
        "id": result.id,
        "name": result.name,
        "status": result.status,
        "metric": None if metric is None else {"name": metric.name, "goal": metric.goal},
        "trials": len(result.trials),
        "finished": result.counts.get("finished", 0),
        "best": best.value if best is not None else None,
        "started": started,
    }
