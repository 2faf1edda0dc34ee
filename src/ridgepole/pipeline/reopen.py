"""The pipeline of a run that is there already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ridgepole import rundir
from ridgepole.errors import RunDirError
from ridgepole.pipeline.api import Pipeline
from ridgepole.pipeline.overlay import Overlay
from ridgepole.rundir import RunInfo


def pipeline_of(run: RunInfo, overrides: Sequence[str] = ()) -> Pipeline:
    """Reads the pipeline that a run was started from: today's file, else the run's own copy.

    Args:
        run: The run.
        overrides: More `-s` values, behind those that the run was started with.

    Returns:
        The pipeline.

    Raises:
        RunDirError: If the run was started from Python, or a secret `-s` value has to be given again.
        ConfigError: If the file can't be read any more.
    """
    provenance = run.json(rundir.PROVENANCE)
    file = run.fields.get("file")
    if not file:
        raise RunDirError(
            f"run {run.id} was started from Python: resume it there, with Pipeline(...).resume({str(run.path)!r})"
        )
    stored = [str(text) for text in provenance.get("overrides", [])]
    given = {text.partition("=")[0].strip() for text in overrides}
    secret = [text.partition("=")[0].strip() for text in stored if text.endswith("***")]
    missing = [name for name in secret if name not in given]
    if missing:
        raise RunDirError(
            f"run {run.id} was started with -s {missing[0]}=..., a secret that is stored nowhere: give it again"
        )
    values = [text for text in stored if not text.endswith("***")] + list(overrides)
    if Path(file).is_file():
        pipeline = Pipeline.from_toml(file, values)
    else:
        directory = provenance.get("pipeline_directory") or Path(file).parent
        pipeline = Pipeline.from_toml(run.path / rundir.CONFIG, values, directory=directory)
    trial = run.fields.get("sweep")
    if isinstance(trial, dict) and isinstance(trial.get("values"), dict):
        pipeline.with_overlay(Overlay(trial["values"]))
    return pipeline
