"""The export targets by name, and the export itself."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from ridgepole import rundir
from ridgepole.errors import RunDirError, did_you_mean
from ridgepole.export.local_record import LocalRecord
from ridgepole.export.places import FOLDER, Exported, claimed
from ridgepole.rundir import RunInfo

Exporter = Callable[[RunInfo, Path], Exported]
"""Writes what a run logged to an empty directory. The run is only read."""

ENTRY_POINTS = "ridgepole.exporters"
"""The group of entry points by which plug-ins add targets: a name, and an `Exporter`."""

_BUILT_IN = {
    "csv": "ridgepole.export.table:to_csv",
    "mlflow": "ridgepole.export.backends:to_mlflow",
    "parquet": "ridgepole.export.table:to_parquet",
    "tensorboard": "ridgepole.export.backends:to_tensorboard",
    "trackio": "ridgepole.export.backends:to_trackio",
    "wandb": "ridgepole.export.backends:to_wandb",
}

TARGETS = tuple(_BUILT_IN)
"""The targets that come with Ridgepole."""


def find_exporter(name: str) -> Exporter:
    """Import the exporter of a target; a built-in target wins over a plug-in of the same name.

    Raises:
        ValueError: If no target has this name.
        MissingExtraError: If the target needs a package that is not installed.
    """
    points = {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}
    points |= {each: metadata.EntryPoint(each, target, ENTRY_POINTS) for each, target in _BUILT_IN.items()}
    if name not in points:
        hint = did_you_mean(name, points)
        raise ValueError(f"no export target {name!r}{'; ' + hint if hint else ''}; there are: {', '.join(points)}")
    exporter: Exporter = points[name].load()
    return exporter


def export_run(directory: str | Path, to: str, out: str | Path | None = None) -> Exported:
    """Export what a run logged.

    `"csv"` writes a wide table, `"parquet"` the long one of `read_metrics`. `"tensorboard"`,
    `"wandb"`, `"mlflow"` and `"trackio"` replay what those loggers take: metrics, figures and other
    media. The run is only read.

    Args:
        directory: A run directory, or the `log_dir` of a BasicLogger.
        to: `"csv"`, `"parquet"`, `"tensorboard"`, `"wandb"`, `"mlflow"`, `"trackio"`,
            or the name of a plug-in.
        out: The directory to write, missing or empty; by default `export/<to>` inside `directory`.

    Returns:
        The numbers of exported records and media, and their place.

    Raises:
        ValueError: If the target does not exist.
        RunDirError: If the directory has nothing to export, or `out` is not empty.
        MissingExtraError: If the target needs a package that is not installed.
        Exception: The error of a failed export. All that it wrote is removed.
    """
    export = find_exporter(to)
    path = Path(directory)
    # A plain log directory has no record of its run.
    run = rundir.read_run(path) if (path / rundir.RUN).exists() else RunInfo(path, {}, "finished")
    if next(iter(LocalRecord(path)), None) is None:
        raise RunDirError(f"{directory} has logged nothing yet: there is nothing to export")
    target = path / FOLDER / to if out is None else Path(out)
    with claimed(target, {"run": path.resolve().name, "to": to}) as found:
        exported = export(run, target)
        found |= {"records": exported.records, "media": exported.media, "skipped": list(exported.skipped)}
    return exported
