"""The run as a replaying logger sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.errors import PermanenceNotFoundError
from ridgepole.rundir import RunInfo
from ridgepole.ticks import Ticks

_MISSING: Any = object()


def described(directory: Path) -> RunInfo:
    """What a directory says of itself; a plain log directory says nothing.

    Raises:
        RunDirError: If a newer Ridgepole wrote it.
    """
    return rundir.read_run(directory) if (directory / rundir.RUN).exists() else RunInfo(directory, {}, "finished")


class ReplayContext:
    """A `RunContext` with the exported run's id, description and seed, and the export's directory as its own.

    Args:
        run: The run that is exported.
        out: Where a logger that logs to its run directory is to write.
        run_id: What to call the run; its own id when None.

    Attributes:
        run_dir: The export's directory, which does not carry the run's id.
        run_id: Id of the run as the logger sees it.
        config: Its resolved description; empty for a plain log directory.
        seed: Its seed; 0 where it has none.
        attempt: 1: a replay begins anew, whatever the run went through.
        rank: 0: one process replays what all ranks did.
        world_size: 1, for the same reason.
        step: 0: a replay does not tick.
        ticks: Counts nothing.
        failed: Whether the run ended otherwise than finished.
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
        """Does nothing: there is nobody to stop and nothing to checkpoint."""

    def get_permanence(self, name: str, default: Any = _MISSING) -> Any:
        """There is none.

        Args:
            name: Its name.
            default: What to return.

        Returns:
            The default.

        Raises:
            PermanenceNotFoundError: If no default was given.
        """
        if default is _MISSING:
            raise PermanenceNotFoundError(f"no permanence {name!r}: this is a replay of a run, and the run is over")
        return default
