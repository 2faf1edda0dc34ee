"""The attempts of a run, also those that were killed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.errors import CheckpointError
from ridgepole.rundir import RunInfo
from ridgepole.runs.keys import flat


def attempts_before(run: Path, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return number, status and seconds of each attempt that has ended, from a run's record.

    An attempt that was killed lasted until its last checkpoint or record.
    """
    known = fields.get("attempts")
    ended = [dict(each) for each in known if isinstance(each, dict)] if isinstance(known, list) else []
    number = fields.get("attempt")
    if not isinstance(number, int) or any(each.get("attempt") == number for each in ended):
        return ended
    status, took = fields.get("status"), fields.get("seconds")
    if not isinstance(took, int | float):
        status, took = "crashed", 0.0
        began = next((line.get("time") for line in rundir.read_attempts(run) if line["attempt"] == number), None)
        if isinstance(began, int | float):
            took = round(max(0.0, _last_sign(run) - began), 3)
    return [*ended, {"attempt": number, "status": status, "seconds": took}]


def used_config(run: RunInfo) -> dict[str, Any]:
    """Return the config of a run by dotted key, with the values in use.

    A restored state may have brought back another value than the one that was asked for, as an
    optimiser's does with its learning rate.
    """
    config = dict(flat(run.json(rundir.RESOLVED)))
    return config | {key: value for key, value in restored_values(run).items() if key in config}


def restored_values(run: RunInfo) -> dict[str, Any]:
    """Return the values in use that a restored state brought back, by the key of the config."""
    found: dict[str, Any] = {}
    if run.fields.get("parent") or run.fields.get("attempt", 1) != 1:
        for line in rundir.read_attempts(run.path):
            changes, restored = line.get("changes"), line.get("restored")
            for key in changes if isinstance(changes, dict) else ():
                found.pop(key, None)
            found |= restored if isinstance(restored, dict) else {}
    return found


def _last_sign(run: Path) -> float:
    """Return the time of the last checkpoint or record of a run; 0 without one."""
    from ridgepole.checkpoint import CheckpointStore  # lists of runs need it for killed ones alone

    times = [0.0]
    with contextlib.suppress(CheckpointError):
        times += [info.time for info in CheckpointStore(run / rundir.CHECKPOINTS).list()]
    for pattern in (rundir.METRICS_GLOB, rundir.SYSTEM_GLOB):
        for path in run.glob(pattern):
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(-min(file.seek(0, os.SEEK_END), 1 << 16), os.SEEK_END)
                for line in file.read().splitlines():
                    with contextlib.suppress(ValueError, TypeError, KeyError):
                        times.append(float(json.loads(line)["time"]))
    return max(times)
