"""What a sweep lays over a pipeline for one trial: parameters, and a listener to what it logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgepole.config import Override
from ridgepole.errors import Place
from ridgepole.permanence import Permanence

LISTENER = "sweep_listener"
"""The name of the listener among the permanences of a trial."""


@dataclass(frozen=True)
class Overlay:
    """The last layer over a pipeline: `extends` < file < `-s` < this.

    Attributes:
        values: Parameters by the name that the sweep gives them: `train.lr`, or `lr` where that is unambiguous.
        label: What `run.json` says of the trial.
        places: Where the parameters stand in the sweep's file.
        listener: Gives a logger class that is added to the run; None for none.
        root: The directory that holds the sweep's runs, for a run that names none; None for the pipeline's own.
        started: Is told the run directory as soon as it exists.
        earlier: Gives, once, the run of an earlier attempt that is to go on.
        say: Is told what the user should know.
    """

    values: Mapping[str, Any]
    label: Mapping[str, Any] | None = None
    places: Mapping[str, Place] = field(default_factory=dict)
    listener: Callable[[], type[Permanence]] | None = None
    root: Path | None = None
    started: Callable[[Path], None] = lambda _path: None
    earlier: Callable[[], Path | None] = lambda: None
    say: Callable[[str], None] = lambda _line: None

    def overrides(self) -> list[Override]:
        """The parameters as overrides, whose names are still to be resolved."""
        return [
            Override(tuple(name.split(".")), value, self.places.get(name) or Place(f"sweep parameter {name!r}"))
            for name, value in self.values.items()
        ]


current_overlay: ContextVar[Overlay | None] = ContextVar("ridgepole_overlay", default=None)
"""What lies over every pipeline that is planned: that of the trial which is running."""
