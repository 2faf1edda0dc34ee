"""The hook of a sweep into the pipelines of a trial. The sweeps package implements it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ridgepole.config import Override
from ridgepole.errors import Place
from ridgepole.permanence import Permanence

LISTENER = "sweep_listener"
"""The name of the listener among the permanences of a trial."""


class TrialHook:
    """The parameters of one trial, and what the sweep does while a pipeline of the trial runs.

    The parameters are the last layer over a pipeline: `extends` < file < `-s` < these.
    By itself this class only sets the parameters. A running sweep overrides the methods.

    Args:
        values: Parameters by the name that the sweep gives them: `train.lr`, or `lr` where that is
            unambiguous.
        label: The description of the trial in `run.json`.
        places: Where the parameters are in the sweep's file.
        root: The directory that holds the sweep's runs; None for the pipeline's own.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        label: Mapping[str, Any] | None = None,
        places: Mapping[str, Place] | None = None,
        root: Path | None = None,
    ) -> None:
        self.values, self.label, self.root = values, label, root
        self._places = places or {}

    def overrides(self) -> list[Override]:
        """Return the parameters as overrides, whose names are not resolved yet."""
        return [
            Override(tuple(name.split(".")), value, self._places.get(name) or Place(f"sweep parameter {name!r}"))
            for name, value in self.values.items()
        ]

    def listener(self) -> type[Permanence] | None:
        """Return the logger class to add to the run, or None."""
        return None

    def earlier_run(self) -> Path | None:
        """Return the run of an earlier attempt of the trial that is to be resumed, or None."""
        return None

    def run_started(self, run: Path) -> None:
        """Handle the start of a run; called as soon as its directory exists."""

    def warn(self, message: str) -> None:
        """Show a warning to the user."""


current_hook: ContextVar[TrialHook | None] = ContextVar("ridgepole_trial_hook", default=None)
"""The hook of the trial that is running. It applies to every pipeline that is planned."""
