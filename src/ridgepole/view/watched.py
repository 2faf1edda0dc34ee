"""Answer what a run was seen to do: system metrics, step times, alerts and reports of stalls."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from ridgepole import rundir
from ridgepole.rundir import RunInfo
from ridgepole.watch import steptime
from ridgepole.watch.killed import alerts_of

_POINTS = 600
"""The most points of a series: a chart has no more pixels."""
_SYSTEM_FILE = re.compile(r"system(-rank-\d+)?\.jsonl")
_LOGS = ((rundir.CONSOLES, re.compile(r"rank-\d+(\.\d+)?\.log")), (rundir.STALLS, re.compile(r"[\w-]+\.txt")))
"""The folders that hold logs, and the names in them."""


def log_names(run: Path) -> list[str]:
    """Return the consoles and the reports of stalls, as paths below the run directory."""
    return [f"{folder}/{name}" for folder, pattern in _LOGS for name in _names(run / folder) if pattern.fullmatch(name)]


def is_log(name: str) -> bool:
    """Return whether a path below the run directory is that of a console or a report of a stall."""
    folder, _, file = name.partition("/")
    return any(folder == known and pattern.fullmatch(file) for known, pattern in _LOGS)


def watched(run: RunInfo) -> dict[str, Any]:
    """Return the verdict on the step times, and the alerts."""
    times = steptime.read(run.path)
    return {
        "verdict": steptime.verdict(times),
        "step_time": [each.described() for each in times],
        "alerts": alerts_of(run)[0][-_POINTS:],
    }


def system(run: Path) -> dict[str, Any]:
    """Return the system metrics of each rank, thinned to what a chart can show."""
    found = [name for name in _names(run) if _SYSTEM_FILE.fullmatch(name)]
    return {"ranks": [_rank(run / name) for name in sorted(found, key=lambda name: (len(name), name))]}


def _rank(path: Path) -> dict[str, Any]:
    header: dict[str, Any] = {}
    series: dict[str, tuple[list[float], list[float]]] = {}
    rank = 0
    for line in _lines(path):
        if isinstance(line.get("header"), dict):
            header = line["header"]
        values, time = line.get("values"), line.get("time")
        if not isinstance(values, dict) or not isinstance(time, int | float):
            continue
        rank = line["rank"] if isinstance(line.get("rank"), int) else rank
        for name, value in values.items():
            if isinstance(value, int | float):
                times, numbers = series.setdefault(name, ([], []))
                times.append(time)
                numbers.append(value)
    thinned = {name: {"time": _means(times), "value": _means(numbers)} for name, (times, numbers) in series.items()}
    return {"rank": header.get("rank", rank), "header": header, "series": thinned}


def _means(values: list[float]) -> list[float]:
    """Return the means of equal stretches, at most `_POINTS` of them."""
    size = -(-len(values) // _POINTS)
    parts = (values[start : start + size] for start in range(0, len(values), max(1, size)))
    return [round(sum(part) / len(part), 3) for part in parts]


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    try:
        texts = path.read_bytes().splitlines()
    except OSError:
        return
    for text in texts:
        try:
            line = orjson.loads(text)
        except ValueError:  # torn
            continue
        if isinstance(line, dict):
            yield line


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names alone
    except OSError:
        return []
