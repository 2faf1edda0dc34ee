"""Change a sweep that was started: more trials, or narrower ranges."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ridgepole.config import parse_override
from ridgepole.errors import ConfigError, Problem, SweepError, did_you_mean
from ridgepole.sweeps.spec.space import Space
from ridgepole.sweeps.spec.spec import SweepSpec, read_sweep
from ridgepole.sweeps.sweepdir import find_sweep

_ENDS = ("min", "max")
_CHOICES = ("values", "value", "probabilities")


def edit_sweep(
    sweep: str | None = None,
    changes: Sequence[str] = (),
    *,
    root: str | Path = "runs",
    count: int | None = None,
    note: str = "",
) -> list[str]:
    """Change a sweep that is not running; a resume continues with the change.

    Args:
        sweep: Id, unique prefix, path, or `latest`; the newest when None.
        changes: Narrower ends of ranges, such as `train.lr.max=0.01`.
        root: The directory that holds runs.
        count: The most trials of the sweep from now on.
        note: Why, for the history of the sweep.

    Returns:
        What has changed, a line each.

    Raises:
        ConfigError: If a change is wrong.
        SweepError: If nothing is to change, or the sweep is running.
        RunDirError: If the sweep is not found.
    """
    if not changes and count is None:
        raise SweepError("nothing to change: give --max-trials N, or -s PARAMETER.max=VALUE")
    directory = find_sweep(sweep, Path(root))
    lock = directory.lock
    if not lock.take(patience=1.0):
        raise SweepError(f"sweep {directory.id} is running: stop it before you change it")
    try:
        fields, values = directory.record(), copy.deepcopy(directory.spec())
        before = read_sweep(values)
        lines = [_narrow(before, values, change) for change in changes]
        spec = read_sweep(values)
        if count is not None:
            lines.append(f"max_trials {fields.get('limit')} -> {count}")
            fields["count"] = count
        fields["limit"] = spec.limit(fields.get("count"))
        fields["history"] = [*fields.get("history", ()), {"time": time.time(), "changes": lines, "note": note}]
        directory.write_spec(values, b"", "")
        directory.write_record({key: value for key, value in fields.items() if key not in ("format", "id")})
    finally:
        lock.release()
    return lines


def _narrow(spec: SweepSpec, values: dict[str, Any], change: str) -> str:
    """Set one end of a range in a sweep's definition; return the change as a line."""
    override = parse_override(change)
    *names, end = override.path
    name = ".".join(names)

    def wrong(message: str, hint: str = "") -> ConfigError:
        return ConfigError([Problem(message, override.place, hint)])

    if name not in spec.space.names:
        raise wrong(f"no parameter is called {name!r}", did_you_mean(name, spec.space.names))
    entry = _entry(spec.space, values, name)
    if end in _CHOICES and "values" in entry:
        message = f"the values of {name} can't change: Optuna takes one list of choices for all trials of a sweep"
        raise wrong(message, "start a new sweep with the values that are left")
    if end not in _ENDS or end not in entry:
        raise wrong(f"{name} has no {end!r} to change", "only min and max of a range can become narrower")
    old, new = entry[end], override.value
    if isinstance(new, bool) or not isinstance(new, int | float):
        raise wrong(f"{end} must be a number")
    if new < old if end == "min" else new > old:
        raise wrong(f"{end} would become {new}, outside of the range, which ends at {old}", "a range can only shrink")
    entry[end] = new
    return f"{name}.{end} {old} -> {new}"


def _entry(space: Space, values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the entry of a parameter in the definition, which may nest it."""
    table: dict[str, Any] = values
    for part in space.path(name):
        table = table["parameters"][part]
    return table
