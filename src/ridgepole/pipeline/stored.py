"""The checkpoints of a run that is there already, for those who only read them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.checkpoint import CheckpointStore
from ridgepole.errors import CheckpointError
from ridgepole.pipeline.checkpoints import check_format


def load_checkpoint(run: str | Path, which: str = "best", root: str | Path | None = None) -> dict[str, Any]:
    """The states that a run's permanences had at one of its checkpoints.

    Nothing of the run's code is needed or run. Every byte is verified. A checkpoint that is damaged is passed over
    with a warning where `latest` or `best` was asked for.

    Args:
        run: Id, unique prefix, `latest`, or the path of a run directory; it may have finished, failed, or be running.
        which: `best` by the metric of `keep_best`, `latest`, or the name of a checkpoint.
        root: The directory that holds runs; `runs` when None. Not needed with a path.

    Returns:
        What the `state_dict()` of each permanence gave, by the permanence's name. Tensors are on the CPU.

    Raises:
        RunDirError: If there is no such run, or more than one.
        CheckpointError: If there is no such checkpoint (`best` without a metric among them), none of those that fit is
            sound, or a newer Ridgepole wrote it.
        MissingExtraError: If it holds tensors or arrays and their package is not installed.

    Example:
        ```python
        network.load_state_dict(load_checkpoint("latest", "best")["network"])
        ```
    """
    found = rundir.find_run(str(run), Path("runs" if root is None else root))
    store = CheckpointStore(found.path / rundir.CHECKPOINTS)
    infos = store.list()
    if which == "best" and infos and not any(info.score or info.problem for info in infos):
        raise CheckpointError(
            f"no checkpoint of run {found.id} has a score: log the metric of [pipeline.checkpoint] keep_best, "
            "or ask for 'latest'"
        )
    loaded = store.load(which)
    for passed in loaded.passed_over:
        warnings.warn(str(passed), UserWarning, stacklevel=2)
    check_format(loaded)
    states: dict[str, Any] = loaded.state["permanences"]
    return states
