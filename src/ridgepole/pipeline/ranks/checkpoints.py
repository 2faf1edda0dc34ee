"""Checkpoints that several ranks store together: each its own part, rank 0 the rest and the last word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ridgepole.checkpoint import Saved, write_part
from ridgepole.errors import CheckpointError
from ridgepole.pipeline.checkpoints import Checkpoints
from ridgepole.pipeline.plan import Plan
from ridgepole.pipeline.ranks.team import Team

COME_SECONDS = 600.0
"""How long a rank waits at a checkpoint for the others: as long as they write, and not for ever if they never come."""

_PROBLEM = "?"
"""In place of a file's name, where a rank could not write its part."""


class RankCheckpoints(Checkpoints):
    """Takes the checkpoints of a run together with the other ranks.

    Args:
        team: The ranks.
        plan: The plan.
        directory: The run directory.
        config: The resolved description.
        attempt: The number of the attempt.
    """

    def __init__(self, team: Team, plan: Plan, directory: Path, config: Mapping[str, Any], attempt: int) -> None:
        super().__init__(plan, directory, config, attempt)
        self._team = team
        self._taken = 0

    def _write(
        self,
        state: Mapping[str, Any],
        *,
        step: int,
        kind: str,
        score: float | None,
        protect: str | None,
        meta: Mapping[str, Any],
    ) -> Saved | None:
        if kind == "error":  # the other ranks are somewhere else; it is to be looked at, not resumed from
            if not self._leads:
                return None
            return super()._write(state, step=step, kind=kind, score=score, protect=protect, meta=meta)
        self._taken += 1
        key = f"checkpoint {self._taken} of this attempt"
        if not self._leads:
            self._follow(key, state, resumable=meta["resumable"])
            return None
        answers = self._team.gather(key, meta["resumable"], seconds=COME_SECONDS)
        resumable = all(answers.values())
        name = None
        try:
            with self.store.begin(step=step, kind=kind) as saving:
                name = self._team.share(key, saving.directory.name)
                receipts = self._team.gather(f"the parts of {key}", None)
                saved = saving.commit(
                    state,
                    parts=[_checked(rank, receipt) for rank, receipt in receipts.items() if rank],
                    score=score,
                    protect=protect if resumable else None,
                    config_hash=self.config_hash,
                    world_size=self._team.size,
                    meta=dict(meta) | {"resumable": resumable},
                )
        finally:  # also where it failed: the others are waiting
            if name is None:
                self._team.share(key, None)
            self._team.share(f"the end of {key}")
        return saved

    @property
    def _leads(self) -> bool:
        return not self._team.rank

    def _follow(self, key: str, state: Mapping[str, Any], *, resumable: bool) -> None:
        """The side of a rank that is not 0."""
        self._team.gather(key, resumable)
        name = self._team.share(key, seconds=COME_SECONDS)
        if name is not None:
            part = {part: state[part] for part in ("permanences", "process")} | {"rng": state["framework"]["rng"]}
            try:
                receipt = write_part(self.store.path / name, self._team.rank, part)
            except CheckpointError as error:
                receipt = {_PROBLEM: str(error)}
            self._team.gather(f"the parts of {key}", receipt)
        self._team.share(f"the end of {key}")


def _checked(rank: int, receipt: Mapping[str, Any]) -> Mapping[str, Any]:
    if _PROBLEM in receipt:
        raise CheckpointError(f"rank {rank}: {receipt[_PROBLEM]}")
    return receipt
