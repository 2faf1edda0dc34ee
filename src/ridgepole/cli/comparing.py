"""`ridgepole runs compare|diff`: what several runs did differently."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ridgepole.cli.chosen import chosen_runs
from ridgepole.cli.output import cell, columns, complain, say, say_json
from ridgepole.errors import RunDirError
from ridgepole.rundir import RunInfo, find_run, list_runs
from ridgepole.runs.compare import ComparedValue
from ridgepole.runs.compare import compare as compare_runs

_MOST = 10
"""The most runs that are compared without being named."""


def compare(arguments: argparse.Namespace, root: Path) -> int:
    """`runs compare`: align config, code, packages and metrics of runs; show what differs."""
    runs = chosen_runs(arguments.runs, arguments.filter, root)
    if not arguments.runs and arguments.filter is None:
        every = [run for run in list_runs(root) if not run.labels.archived]
        runs = every[:_MOST]
        if len(every) > len(runs):
            complain(f"the newest {_MOST} of {len(every)} runs; name others, or choose them with --filter")
    if len(runs) < 2:
        count = "only one run" if runs else "no run"
        which = "passes the filter" if arguments.filter else "is named" if arguments.runs else f"is in {root}"
        raise RunDirError(
            f"{count} {which}: name two or more to compare, or choose them with --filter 'status == \"finished\"'"
        )
    baseline = None
    if arguments.baseline is not None:
        base = find_run(arguments.baseline, root)
        if base.path not in [run.path for run in runs]:
            runs.insert(0, base)
        baseline = [run.path for run in runs].index(base.path)
    found = compare_runs(runs, baseline=baseline, everything=arguments.all)
    if arguments.json:
        say_json(_as_json(runs, baseline, found))
        return 0
    rows = [
        (section, cell(value.label), *_cells(value, baseline)) for section, values in found.items() for value in values
    ]
    if rows:
        columns(rows, ("", "KEY", *_heads(runs)), repeated=2)
    else:
        say("no differences")
    if found["metrics"]:
        complain(f"metrics are last values{'; * marks the best' if any(map(_best, found['metrics'])) else ''}")
    return 0


def diff(arguments: argparse.Namespace, root: Path) -> int:
    """`runs diff`: what two runs did differently."""
    runs = [find_run(arguments.a, root), find_run(arguments.b, root)]
    found = compare_runs(runs)
    if arguments.json:
        parts = {
            section: [{"key": value.key, "a": value.values[0], "b": value.values[1]} for value in values]
            for section, values in found.items()
        }
        say_json({"a": runs[0].id, "b": runs[1].id} | parts)
        return 0
    rows = [
        (section, cell(value.key), *map(cell, value.values)) for section, values in found.items() for value in values
    ]
    if rows:
        columns(rows, ("", "KEY", *_heads(runs)), repeated=2)
    else:
        say("no differences")
    return 0


def _as_json(
    runs: Sequence[RunInfo], baseline: int | None, found: Mapping[str, Sequence[ComparedValue]]
) -> dict[str, Any]:
    def entry(value: ComparedValue) -> dict[str, Any]:
        more = {"percent": list(value.percent)} if value.percent else {}
        return {"key": value.key, "label": value.label, "values": list(value.values), "differs": value.differs} | more

    sections = {section: [entry(value) for value in values] for section, values in found.items()}
    return {"runs": [run.id for run in runs], "baseline": None if baseline is None else runs[baseline].id} | sections


def _cells(value: ComparedValue, baseline: int | None) -> list[str]:
    cells = [cell(each) for each in value.values]
    for at, percent in enumerate(value.percent):
        if percent is not None and at != baseline:
            cells[at] += f" ({percent:+.0f}%)" if abs(percent) >= 1000 else f" ({percent:+.3g}%)"
    return [text + " *" * (at in _best(value)) for at, text in enumerate(cells)]


def _best(value: ComparedValue) -> set[int]:
    """Return which runs have the best value; none where that is not known."""
    there = {at: each for at, each in enumerate(value.values) if type(each) in (int, float)}
    if not value.goal or len(there) < 2:
        return set()
    best = (min if value.goal == "min" else max)(there.values())
    return {at for at, each in there.items() if each == best}


def _heads(runs: Sequence[RunInfo]) -> list[str]:
    """Return the name of each run, or its id where it has none or another one has the same.

    Of more than two ids only the last parts are returned, which commands take as well.
    """
    names, ids = [run.labels.name for run in runs], [run.id for run in runs]
    ends = [each.rpartition("-")[2] for each in ids]
    if len(runs) > 2 and len({*ends}) == len(ends):
        ids = ends
    return [cell(name, 30) if name and names.count(name) == 1 else each for name, each in zip(names, ids, strict=True)]
