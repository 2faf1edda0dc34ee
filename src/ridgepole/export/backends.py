"""Export to TensorBoard, Weights & Biases, MLflow and Trackio: a replay into their loggers."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.errors import PermanenceNotFoundError, RunDirError
from ridgepole.export.places import Exported
from ridgepole.export.replay import refill
from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.permanence import construct, current_run
from ridgepole.rundir import RunInfo
from ridgepole.ticks import Ticks

_MISSING: Any = object()
_WANDB_PARAMETERS = ("project", "entity", "name", "tags", "notes", "group", "job_type", "config")
_MLFLOW_PARAMETERS = ("experiment", "tracking_uri", "name", "tags")
_TRACKIO_PARAMETERS = ("project", "name", "group")


class ReplayContext:
    """A `RunContext` of the exported run, for a logger that writes to the export's directory.

    One process replays the records of all ranks, once, and does not tick.

    Attributes:
        run_dir: The export's directory.
        run_id: The run's id, or another one for the logger.
        config: The run's resolved description; empty for a plain log directory.
        seed: The run's seed; 0 where it has none.
        failed: Whether the run ended with another status than finished.
    """

    def __init__(self, run: RunInfo, out: Path, run_id: str | None = None) -> None:
        self.run_dir = out
        self.run_id = run.path.resolve().name if run_id is None else run_id
        self.config: Mapping[str, Any] = run.json(rundir.RESOLVED)
        seed = run.fields.get("seed")
        self.seed = seed if isinstance(seed, int) else 0
        self.attempt = 1
        self.rank, self.world_size = 0, 1
        self.step = 0
        self.ticks = Ticks()
        self.failed = run.status not in ("finished", "running")

    def tick(self, step: int | None = None) -> None:
        """Do nothing: a replay neither stops nor writes checkpoints."""

    def get_permanence(self, name: str, default: Any = _MISSING) -> Any:
        """Return the default, or raise `PermanenceNotFoundError`: a replay has no permanences."""
        if default is _MISSING:
            raise PermanenceNotFoundError(f"no permanence {name!r}: this is a replay of a run, and the run is over")
        return default


def to_tensorboard(run: RunInfo, path: Path) -> Exported:
    """Write event files."""
    from ridgepole.loggers.tensorboard import TensorBoardLogger

    return _replay("tensorboard", TensorBoardLogger, run, path, {"log_dir": path, "strict": True})


def to_wandb(run: RunInfo, path: Path) -> Exported:
    """Write a new run at Weights & Biases, where the run's own logger would have written it."""
    from ridgepole.loggers.wandb import WandBLogger

    name = run.path.resolve().name
    # The server may have the run already, from its logger or another export: use a new id.
    run_id = f"{re.sub('[^A-Za-z0-9_-]', '-', name)[:48]}-{secrets.token_hex(3)}"
    parameters = {"name": name} | _declared(run, "WandBLogger", _WANDB_PARAMETERS)
    return _replay("wandb", WandBLogger, run, path, parameters, run_id)


def to_mlflow(run: RunInfo, path: Path) -> Exported:
    """Write a new run at MLflow, where the run's own logger would have written it."""
    from ridgepole.loggers.mlflow import MLflowLogger

    parameters = {"name": run.path.resolve().name} | _declared(run, "MLflowLogger", _MLFLOW_PARAMETERS)
    return _replay("mlflow", MLflowLogger, run, path, parameters)


def to_trackio(run: RunInfo, path: Path) -> Exported:
    """Write a new run to Trackio's database, in the project of the run's own logger."""
    from ridgepole.loggers.trackio import TrackioLogger

    parameters = {"name": run.path.resolve().name} | _declared(run, "TrackioLogger", _TRACKIO_PARAMETERS)
    return _replay("trackio", TrackioLogger, run, path, parameters)


def _replay(
    to: str,
    kind: type[BaseLoggerManager],
    run: RunInfo,
    path: Path,
    parameters: dict[str, Any],
    run_id: str | None = None,
) -> Exported:
    token = current_run.set(ReplayContext(run, path, run_id))
    try:
        logger: BaseLoggerManager = construct(kind, **parameters)
    finally:
        current_run.reset(token)
    with logger:
        done = refill(run.path, logger)
    state = logger.get_state()
    if state.get("dropped"):  # an incomplete export must not look complete
        raise RunDirError(f"{kind.__name__} lost {state['dropped']} records of {run.path}; the export was removed")
    return Exported(
        to=to,
        path=path,
        records=done.records,
        media=done.media,
        skipped=done.skipped,
        bad=done.bad,
        hidden=done.hidden,
        url=state.get("url"),
    )


def _declared(run: RunInfo, kind: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the parameters that the run's description gives a permanence of this type."""
    tables = run.json(rundir.RESOLVED).get("permanences", {})
    for table in tables.values() if isinstance(tables, dict) else ():
        if isinstance(table, dict) and table.get("type") == kind:
            given = table.get("params", {})
            return {name: given[name] for name in names if given.get(name) not in (None, "***")}
    return {}
