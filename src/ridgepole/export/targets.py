"""The backends that a run can be exported to."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from ridgepole import rundir
from ridgepole.errors import RunDirError, did_you_mean
from ridgepole.export.context import ReplayContext, described
from ridgepole.export.places import FOLDER, Exported, claimed
from ridgepole.export.record import LocalRecord
from ridgepole.export.replay import refill
from ridgepole.permanence import construct, current_run
from ridgepole.permanences.loggers.base import BaseLoggerManager
from ridgepole.rundir import RunInfo

Target = Literal["tensorboard", "wandb", "csv", "parquet"]

TARGETS: tuple[str, ...] = get_args(Target)
"""What `export_run` and `ridgepole export --to` take."""

_WANDB_PARAMETERS = ("project", "entity", "name", "tags", "notes")


def export_run(directory: str | Path, to: Target | str, out: str | Path | None = None) -> Exported:
    """Exports what a run logged.

    `"csv"` writes a wide table, `"parquet"` the long one of `read_metrics`; `"tensorboard"` and `"wandb"` replay
    metrics, figures and other media into those loggers. The run is only read.

    Args:
        directory: A run directory, or the `log_dir` of a BasicLogger.
        to: One of `TARGETS`.
        out: The directory to write, missing or empty; `export/<to>` inside `directory` when None.

    Returns:
        What was written, and where. Where anything fails, nothing of it is left.

    Raises:
        ValueError: If there is no such target.
        RunDirError: If the directory holds nothing to export, or `out` holds something already.
        MissingExtraError: If the target needs a package that is not installed.
    """
    if to not in TARGETS:
        hint = did_you_mean(to, TARGETS)
        raise ValueError(f"no target is called {to!r}{'; ' + hint if hint else ''}; there are {', '.join(TARGETS)}")
    run = described(Path(directory))
    if next(iter(LocalRecord(run.path)), None) is None:
        raise RunDirError(f"{directory} has logged nothing yet: there is nothing to export")
    path = run.path / FOLDER / to if out is None else Path(out)
    export = _EXPORTS[to]
    with claimed(path, {"run": run.path.resolve().name, "to": to}) as found:
        exported = export(run, path)
        found |= {"records": exported.records, "media": exported.media, "skipped": list(exported.skipped)}
    return exported


def _to_csv(run: RunInfo, path: Path) -> Exported:
    from ridgepole.export.table import read_values, widened

    table = read_values(run.path)
    # A missing cell is empty; NaN and the infinities are words that pandas reads as numbers.
    widened(table.frame).write_csv(path / "metrics.csv")
    return Exported("csv", path, table.frame.height, bad=table.bad + table.torn, hidden=table.hidden)


def _to_parquet(run: RunInfo, path: Path) -> Exported:
    from ridgepole.export.table import read_values

    table = read_values(run.path)
    table.frame.write_parquet(path / "metrics.parquet")
    return Exported("parquet", path, table.frame.height, bad=table.bad + table.torn, hidden=table.hidden)


def _to_tensorboard(run: RunInfo, path: Path) -> Exported:
    from ridgepole.permanences.loggers.tensorboard import TensorBoardLogger

    return _into("tensorboard", TensorBoardLogger, run, path, {"log_dir": path, "strict": True})


def _to_wandb(run: RunInfo, path: Path) -> Exported:
    from ridgepole.permanences.loggers.wandb import WandBLogger

    name = run.path.resolve().name
    # A run of its own at the server: in the run that was logged live, or by an export before, all would stand twice.
    run_id = f"{re.sub('[^A-Za-z0-9_-]', '-', name)[:48]}-{secrets.token_hex(3)}"
    parameters = {"name": name} | _declared(run, "WandBLogger", _WANDB_PARAMETERS)
    return _into("wandb", WandBLogger, run, path, parameters, run_id)


_EXPORTS: Mapping[str, Callable[[RunInfo, Path], Exported]] = {
    "tensorboard": _to_tensorboard,
    "wandb": _to_wandb,
    "csv": _to_csv,
    "parquet": _to_parquet,
}


def _into(
    to: str,
    kind: type[BaseLoggerManager],
    run: RunInfo,
    path: Path,
    parameters: dict[str, Any],
    run_id: str | None = None,
) -> Exported:
    """Replays into a logger that believes to live in the run, with the export's directory as its own."""
    token = current_run.set(ReplayContext(run, path, run_id))
    try:
        logger: BaseLoggerManager = construct(kind, **parameters)
    finally:
        current_run.reset(token)
    with logger:
        done = refill(run.path, logger)
    state = logger.get_state()
    if state.get("dropped"):  # an export that lost something must not look whole
        raise RunDirError(f"{kind.__name__} lost {state['dropped']} records of {run.path}; what it wrote was removed")
    return Exported(to, path, done.records, done.media, done.skipped, done.bad, done.hidden, state.get("url"))


def _declared(run: RunInfo, kind: str, names: tuple[str, ...]) -> dict[str, Any]:
    """What the run's own description gives a permanence of this kind, so that the export lands where the run would."""
    tables = run.json(rundir.RESOLVED).get("permanences", {})
    for table in tables.values() if isinstance(tables, dict) else ():
        if isinstance(table, dict) and table.get("type") == kind:
            given = table.get("params", {})
            return {name: given[name] for name in names if given.get(name) not in (None, "***")}
    return {}
