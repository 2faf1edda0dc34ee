"""Read from a stored run: the states of its checkpoints, and its pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ridgepole import project, rundir
from ridgepole.checkpoint import CheckpointStore
from ridgepole.errors import CheckpointError, RunDirError
from ridgepole.permanence import active_run
from ridgepole.pipeline.api import Pipeline
from ridgepole.pipeline.lifecycle.checkpointing import check_format
from ridgepole.pipeline.trial_hook import TrialHook
from ridgepole.project import plain_path
from ridgepole.rundir import RunInfo
from ridgepole.runs.keys import names_of


def load_checkpoint(
    run: str | Path | None = None, which: str = "best", root: str | Path | None = None
) -> dict[str, Any]:
    """Load the states of a run's permanences from one of its checkpoints.

    None of the run's code is needed or run. Every byte is verified. If `latest` or `best` was asked
    for, damaged checkpoints are skipped with a warning.

    Args:
        run: Id, unique prefix, `latest`, or the path of a run directory; it may have finished,
            failed, or be running. None is the run of this script or pipeline.
        which: `best` by the metric of `keep_best`, `latest`, or the name of a checkpoint.
        root: The directory that holds runs. When None, the one that holds the run of this script
            or pipeline, else `runs`. Not needed with a path.

    Returns:
        The `state_dict()` of each permanence, by the permanence's name. Tensors are on the CPU.

    Raises:
        RunDirError: If the run is not found, or not unique.
        CheckpointError: If the checkpoint does not exist (`best` without a metric among them), all
            candidates are damaged, or a newer Ridgepole wrote it.
        MissingExtraError: If it holds tensors or arrays and their package is not installed.

    Example:
        ```python
        network.load_state_dict(load_checkpoint("latest", "best")["network"])
        ```
    """
    here = active_run()
    if run is None and here is None:
        raise RunDirError("load_checkpoint needs a run: give its id, its path, or 'latest'")
    own = here.run_dir if here is not None else Path("runs") / "none"
    found = rundir.find_run(str(own if run is None else run), Path(own.parent if root is None else root))
    store = CheckpointStore(found.path / rundir.CHECKPOINTS)
    infos = store.list()
    if which == "best" and infos and not any(info.score or info.problem for info in infos):
        raise CheckpointError(
            f"no checkpoint of run {found.id} has a score: log the metric of [pipeline.checkpoint] keep_best, "
            "or ask for 'latest'"
        )
    loaded = store.load(which)
    for skipped in loaded.passed_over:
        warnings.warn(str(skipped), UserWarning, stacklevel=2)
    check_format(loaded)
    states: dict[str, Any] = loaded.state["permanences"]
    return states


def load_pipeline(run: RunInfo, overrides: Sequence[str] = (), say: Callable[[str], None] = warnings.warn) -> Pipeline:
    """Load the pipeline that a run was started from: today's file, else the run's own copy.

    The file of the project around the run comes first, so that a copied project runs its own code.

    Args:
        run: The run.
        overrides: More `-s` values, applied after those that the run was started with.
        say: Called with a line if the file is not the one of the project around the run.

    Raises:
        RunDirError: If the run was started from Python, or a secret `-s` value has to be given
            again.
        ConfigError: If the file can't be read any more.
    """
    provenance = run.json(rundir.PROVENANCE)
    if not run.fields.get("file"):
        raise RunDirError(
            f"run {run.id} was started from Python: resume it there, with Pipeline(...).resume({str(run.path)!r})"
        )
    stored = [str(text) for text in provenance.get("overrides", [])]
    given = {text.partition("=")[0].strip() for text in overrides}
    secret = [text.partition("=")[0].strip() for text in stored if "***" in text]
    missing = [name for name in secret if name not in given]
    if missing:
        raise RunDirError(
            f"run {run.id} was started with -s {missing[0]}=..., a secret that is not stored: give it again"
        )
    values = [text for text in stored if "***" not in text and text.partition("=")[0].strip() not in given]
    values += overrides
    root = plain_path(run.path).parent
    found = project.locate(run.fields, root, say)
    if found is not None:
        pipeline = Pipeline.from_toml(found, values)
    else:
        directory = project.directory_of(run.fields, root)
        pipeline = Pipeline.from_toml(plain_path(run.path) / rundir.CONFIG, values, directory=directory)
    trial = run.fields.get("sweep")
    if isinstance(trial, dict) and isinstance(trial.get("values"), dict):
        chosen = trial["values"].items()
        kept = {name: value for name, value in chosen if not any(_same(name, each) for each in given)}
        pipeline.for_trial(TrialHook(kept))
    return pipeline


def _same(name: str, other: str) -> bool:
    """Return whether two names, of which one may be longer, stand for the same parameter."""
    short, long = sorted((each.replace(".params.", ".") for each in (name, other)), key=len)
    return short in names_of(long)
