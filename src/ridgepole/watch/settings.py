"""The tables of `[pipeline]` that say how a run is watched over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSettings:
    """`system = { every_seconds = 10 }` of `[pipeline]`."""

    every_seconds: Annotated[float, Ge(0.1)] = 10.0
    """Seconds between two samples of the host, the run's processes and its cards."""


VARIABLE = "RIDGEPOLE_SYSTEM_SECONDS"
"""Seconds between two samples in the runs of scripts, which have no `[pipeline]`; 0 for none."""


def interval_of_scripts(environ: Mapping[str, str]) -> float | None:
    """Return the seconds between two samples of a script's run; None where there are to be none.

    Raises:
        ValueError: If the variable is not a number of at least 0.
    """
    text = environ.get(VARIABLE, "")
    try:
        seconds = float(text or SystemSettings().every_seconds)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{VARIABLE} must be a number of seconds, or 0 for no system metrics, not {text!r}")
    return max(seconds, 0.1) if seconds else None


def interval(system: SystemSettings | bool) -> float | None:
    """Return the seconds between two samples; None where there are to be none."""
    if isinstance(system, bool):
        return SystemSettings().every_seconds if system else None
    return system.every_seconds
