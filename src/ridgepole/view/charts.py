"""Answer a request for a chart: one metric of all chosen runs, as a container."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson

from ridgepole.view.columns import Points, RunColumns
from ridgepole.view.container import Array, Writer, narrow
from ridgepole.view.reduce import Curve, in_order, moving_average, reduce

_INLINE = 2 << 20
"""Bytes that are still unread of all runs together and are read within a request."""


class QueryError(ValueError):
    """A query that is not as the wire's page says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartQuery:
    """A request for a chart; see docs/internals/view-wire.md."""

    metric: str
    runs: tuple[str, ...]
    x: str | tuple[Literal["metric"], str] = "step"
    range: tuple[float, float] | None = None
    columns: int = 1000
    smooth: float = 0.0
    log_x: bool = False
    time: bool = False

    @classmethod
    def read(cls, given: Any) -> ChartQuery:
        """Check a query that was decoded from JSON.

        Raises:
            QueryError: If it is not valid.
        """
        if not isinstance(given, dict):
            raise QueryError("a chart is asked for with an object")
        unknown = given.keys() - set(cls.__dataclass_fields__)
        if unknown:
            raise QueryError(f"a chart has no member {min(unknown)!r}")
        metric = given.get("metric")
        if not isinstance(metric, str):
            raise QueryError("'metric' must be the name of a metric")
        x = given.get("x", "step")
        if isinstance(x, dict) and isinstance(x.get("metric"), str):
            x = ("metric", x["metric"])
        elif x not in ("step", "time", "relative"):
            raise QueryError('\'x\' must be "step", "time", "relative" or {"metric": name}')
        return cls(
            metric=metric,
            runs=keys_in(given.get("runs"), "runs"),
            x=x,
            range=_range(given.get("range")),
            columns=int(_number(given.get("columns", 1000), "columns", 16, 4000)),
            smooth=_number(given.get("smooth", 0), "smooth", 0, 0.999),
            log_x=bool(given.get("log_x", False)),
            time=bool(given.get("time", False)),
        )


def keys_in(value: Any, name: str) -> tuple[str, ...]:
    """Return a list of keys of a query.

    Raises:
        QueryError: If it is not a list of texts.
    """
    if not isinstance(value, list) or not all(isinstance(key, str) for key in value):
        raise QueryError(f"{name!r} must be a list of keys")
    return tuple(dict.fromkeys(value))


def _range(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and len(value) == 2
    if not numbers or any(isinstance(each, bool) or not isinstance(each, int | float) for each in value):
        raise QueryError("'range' must be [low, high]")
    low, high = float(value[0]), float(value[1])
    if not low <= high:
        raise QueryError("'range' must be [low, high], the smaller one first")
    return low, high


def _number(value: Any, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise QueryError(f"{name!r} must be a number from {low:g} to {high:g}")
    return float(value)


@dataclass(slots=True, kw_only=True)
class _Series:
    """The points of one run, by ascending x."""

    key: str
    state: str
    x: Array
    y: Array
    more: dict[str, Array]

    @classmethod
    def missing(cls, key: str) -> _Series:
        return cls(key=key, state="missing", x=np.empty(0), y=np.empty(0), more={})


def etag_of(query: ChartQuery, columns: Mapping[str, RunColumns]) -> str:
    """Return what changes whenever the answer does; follow the files first."""
    states = []
    budget = _INLINE
    for key in query.runs:
        found = columns.get(key)
        if found is not None:
            before = found.offset
            if found.complete or budget > 0:
                found.update(_INLINE if found.complete else budget)
                budget -= found.offset - before
            states.append((key, *found.state, found.complete))
    digest = hashlib.blake2s(orjson.dumps([repr(query), states]), digest_size=12).hexdigest()
    return f'"{digest}"'


def draw(query: ChartQuery, columns: Mapping[str, RunColumns]) -> bytes:
    """Return the container of a chart."""
    series = {key: _series(query, key, columns.get(key)) for key in query.runs}
    ends = [(each.x[0], each.x[-1]) for each in series.values() if len(each.x)]
    domain = [float(min(low for low, _ in ends)), float(max(high for _, high in ends))] if ends else None
    low, high = query.range or domain or (0.0, 0.0)
    if query.log_x and low <= 0:
        low = domain[0] if domain else 1.0
    writer = Writer()
    curves = {
        key: reduce(each.x, each.y, low, max(low, high), query.columns, log=query.log_x and low > 0, more=each.more)
        for key, each in series.items()
    }
    header = {
        "format": 1,
        "metric": query.metric,
        "x": query.x if isinstance(query.x, str) else {"metric": query.x[1]},
        "domain": domain,
        "indexing": sum(each.state == "preview" for each in series.values()),
        "series": [_described(writer, series[key], curves[key]) for key in query.runs],
    }
    return writer.finish(header)


def _series(query: ChartQuery, key: str, columns: RunColumns | None) -> _Series:
    if columns is None:
        return _Series.missing(key)
    if columns.complete:
        points, state = columns.points(query.metric), "exact"
    else:
        points, state = columns.sampled(query.metric), "preview"
    if points is None or (state == "exact" and not len(points.value)):
        return _Series.missing(key)
    x = _x_of(query, points, columns)
    if x is None:
        return _Series.missing(key)
    if query.log_x:
        keep = x > 0
        points = Points(points.rows[keep], points.step[keep], points.time[keep], points.value[keep])
        x = x[keep]
    more = {"time": points.time} if query.time else {}
    names = list(more)
    x, y, *others = in_order(x, points.value, *more.values())
    more = dict(zip(names, others, strict=True))
    if query.smooth:
        more["smooth"] = moving_average(y, query.smooth)
    return _Series(key=key, state=state, x=x, y=y, more=more)


def _x_of(query: ChartQuery, points: Points, columns: RunColumns) -> Array | None:
    if query.x == "step":
        return points.step.astype("<f8")
    if query.x == "time":
        return points.time
    if query.x == "relative":
        began = columns.began()
        return points.time - (began if began is not None else 0.0)
    other = columns.points(query.x[1])
    if other is None or not len(other.rows):
        return None
    at = np.searchsorted(other.rows, points.rows, "right") - 1
    return np.where(at >= 0, other.value[np.maximum(at, 0)], np.nan)  # its newest value at each record


def _described(writer: Writer, series: _Series, curve: Curve) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "run": series.key,
        "state": series.state,
        "points": len(series.x),
        "raw": curve.raw,
        "x": writer.add(curve.x),
        "y": writer.add(narrow(curve.y)),
    }
    for name, array in (("low", curve.low), ("high", curve.high), ("last", curve.last)):
        if array is not None:
            entry[name] = writer.add(narrow(array))
    for name, array in curve.more.items():
        entry[name] = writer.add(array if name == "time" else narrow(array))
    if len(curve.special_x):
        entry["special"] = {"x": writer.add(curve.special_x), "kind": writer.add(curve.special_kind)}
    return entry


def metric_list(columns: Sequence[RunColumns], summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metrics of some runs, for the list of charts.

    Args:
        columns: Their columns, as far as they are indexed.
        summaries: The summaries of their metrics, which name what is not indexed yet.
    """
    from ridgepole.metrics.summary import goal_of

    counts: dict[str, list[int]] = {}
    texts: dict[str, None] = {}
    for each, summary in zip(columns, summaries, strict=True):
        found = {name: len(values) for name, (_, values) in list(each.metrics.items())}
        for name, entry in summary.items() if not each.complete else ():
            if entry.get("min") is not None:
                found.setdefault(name, int(entry.get("count", 0)))
        for name, count in found.items():
            counts.setdefault(name, []).append(count)
        texts.update(dict.fromkeys(each.texts))
    metrics = [
        {
            "name": name,
            "section": name.partition("/")[0] if "/" in name else "",
            "runs": len(each),
            "points": sum(each),
            "goal": goal_of(name),
        }
        for name, each in counts.items()
    ]
    metrics.sort(key=lambda entry: (entry["section"], entry["name"]))
    return {"metrics": metrics, "texts": [name for name in texts if name not in counts]}
