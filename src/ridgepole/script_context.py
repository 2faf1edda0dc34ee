"""The run of a script, as far as the environment of its process tells.

`ridgepole run train.py` and a sweep of a program set the variables. They are read when a permanence
needs its run, not when Ridgepole is imported.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.errors import PermanenceNotFoundError
from ridgepole.files import read_json
from ridgepole.launch import global_rank, place
from ridgepole.ticks import Ticks

RUN_DIR = "RIDGEPOLE_RUN_DIR"
"""The variable that names the run directory."""
RESUME = "RIDGEPOLE_RESUME"
"""The variable that is 1 where the script is to resume."""

_MISSING: Any = object()


class ScriptContext:
    """The run of the script that this process is part of.

    Attributes:
        run_dir: Directory of this run; its name is the run id.
        ticks: Counts steps; nothing is ever due.
        failed: False; the end of a script is known only after it.
        taken: Whether a `ridgepole.run` of this process is that run; a second one makes its own.
    """

    failed = False

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.ticks = Ticks()
        self.taken = False

    @property
    def run_id(self) -> str:
        """Return the run id."""
        return self.run_dir.name

    @functools.cached_property
    def config(self) -> Mapping[str, Any]:
        """Return the script's parameters, as in `config.resolved.json`."""
        return read_json(self.run_dir / rundir.RESOLVED)

    @property
    def seed(self) -> int:
        """Return the seed that the script gave to `ridgepole.run`, else 0."""
        return int(self._fields.get("seed") or 0)

    @property
    def attempt(self) -> int:
        """Return 1 for a fresh run, one more for each resume."""
        return int(self._fields.get("attempt") or 1)

    @property
    def rank(self) -> int:
        """Return the rank of this process, as its launcher says; 0 without one."""
        return global_rank()

    @property
    def world_size(self) -> int:
        """Return the number of ranks."""
        return place()[1]

    @property
    def step(self) -> int:
        """Return the step that `tick` counts."""
        return self.ticks.step

    def tick(self, step: int | None = None) -> None:
        """Count a step."""
        self.ticks.tick(step)

    def get_permanence(self, name: str, default: Any = _MISSING) -> Any:
        """Return the default: a script has no permanences of its own.

        Raises:
            PermanenceNotFoundError: If there is no default.
        """
        if default is _MISSING:
            raise PermanenceNotFoundError(f"the script's run {self.run_id} has no permanence {name!r}")
        return default

    @functools.cached_property
    def _fields(self) -> dict[str, Any]:
        return read_json(self.run_dir / rundir.RUN)


def script_run() -> ScriptContext | None:
    """Return the run that the environment names; None where it names no run directory."""
    name = os.environ.get(RUN_DIR)
    return _context(name) if name and (Path(name) / rundir.RUN).is_file() else None


@functools.cache
def _context(name: str) -> ScriptContext:
    return ScriptContext(Path(name).absolute())
