"""What a checkpoint of a run holds, how it is taken and how a run goes on from it."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.checkpoint import CheckpointStore, Loaded, Saved, rng
from ridgepole.errors import CheckpointError
from ridgepole.permanence import Permanence
from ridgepole.pipeline.outcome import Outcome
from ridgepole.pipeline.plan import Plan
from ridgepole.pipeline.running import Running, is_stateful

STATE_FORMAT = 1
"""Version of what a run stores in a checkpoint."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where an attempt goes on.

    Attributes:
        attempt: The number of the attempt.
        name: The checkpoint; None where there is none to go on from, and the attempt starts from the beginning.
        step: The step of the checkpoint.
        position: Number of processes that are done.
        inside: Name of the next one, if it was running.
        permanences: Their states by name.
        process: What was stored of the process that was running.
        framework: Counts, random generators and scores.
        outcomes: How the processes that are done went.
        passed_over: What was wrong with newer checkpoints, one line each.
    """

    attempt: int
    name: str | None = None
    step: int = 0
    position: int = 0
    inside: str | None = None
    permanences: Mapping[str, Any] = field(default_factory=dict)
    process: Mapping[str, Any] = field(default_factory=dict)
    framework: Mapping[str, Any] = field(default_factory=dict)
    outcomes: Sequence[Mapping[str, Any]] = ()
    passed_over: tuple[str, ...] = ()


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of a resolved description, as hex."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


class Scores:
    """The best values of the metric that checkpoints are ranked by, and whether a new one is among them.

    Args:
        plan: The plan, whose policy says which metric and how many.
        latest: How many values of a metric there were, and the last one.
    """

    def __init__(self, plan: Plan, latest: Callable[[str], tuple[int, Any]]) -> None:
        self._wanted = plan.policy.keep_best
        self._latest = latest
        self._seen = 0
        self._best: list[float] = []
        self._pending: float | None = None

    def look(self) -> bool:
        """Whether a value has been logged that is among the best; it ranks the next checkpoint."""
        wanted = self._wanted
        if wanted is None:
            return False
        count, value = self._latest(wanted.metric)
        if count == self._seen:
            return False
        self._seen = count
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if len(self._best) >= wanted.k and not self._better(value, self._best[-1]):
            return False
        self._pending = float(value)
        return True

    def _better(self, value: float, other: float) -> bool:
        assert self._wanted is not None
        return value < other if self._wanted.mode == "min" else value > other

    def take(self) -> float | None:
        """The value that ranks the checkpoint which is being taken."""
        value, self._pending = self._pending, None
        if value is not None and self._wanted is not None:
            self._best = sorted([*self._best, value], reverse=self._wanted.mode == "max")[: self._wanted.k]
        return value

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"seen": self._seen, "best": list(self._best), "rule": self._rule()}

    def _rule(self) -> list[str] | None:
        return None if self._wanted is None else [self._wanted.metric, self._wanted.mode]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint; scores by another metric or mode say nothing of this one."""
        if state["rule"] == self._rule():
            self._seen, self._best = int(state["seen"]), list(state["best"])


class Checkpoints:
    """Takes the checkpoints of a run.

    Args:
        plan: The plan.
        directory: The run directory.
        config: The resolved description.
        attempt: The number of the attempt.

    Attributes:
        seconds: How long the last one took.
        config_hash: Identifies the resolved description.
    """

    def __init__(self, plan: Plan, directory: Path, config: Mapping[str, Any], attempt: int) -> None:
        policy = plan.policy
        self.store = CheckpointStore(
            directory / rundir.CHECKPOINTS, keep_last=policy.keep_last, keep_best=policy.keep_best
        )
        self.seconds = 0.0
        self.config_hash = config_hash(config)
        self._attempt = attempt

    def has_boundary(self, position: int) -> bool:
        """Whether there is a checkpoint between the processes before and after a position."""
        for info in self.store.list():
            meta = info.meta or {}
            if info.usable and meta.get("position") == position and meta.get("process") is None:
                return True
        return False

    def save(
        self,
        kind: str,
        permanences: Mapping[str, Any],
        running: Running | None,
        outcomes: Sequence[Outcome],
        position: int,
        framework: Mapping[str, Any],
        score: float | None,
    ) -> Saved | None:
        """Takes one.

        Args:
            kind: Why.
            permanences: The states of those that have one, by name.
            running: The process that runs; None between two processes.
            outcomes: How each process went.
            position: Number of processes that are done.
            framework: Counts and scores.
            score: The value that it is ranked by.

        Returns:
            The checkpoint; None on a rank that has only stored its part of it.

        Raises:
            StateError: If a state holds what can't be stored; it names the path.
            CheckpointError: If it can't be written; the ones before are untouched.
        """
        began = time.monotonic()
        process, resumable = running.capture() if running is not None else ({}, True)
        if kind == "error" or (kind == "manual" and running is not None and not is_stateful(running.process)):
            resumable = False  # in the middle of a step, which running the process again would do twice
        name = outcomes[position].name if running is not None else None
        state = {
            "format": STATE_FORMAT,
            "permanences": dict(permanences),
            "process": process,
            "outcomes": [asdict(outcome) for outcome in outcomes[:position]],
            "framework": dict(framework) | {"rng": rng.capture()},
        }
        saved = self._write(
            state,
            step=int(framework["step"]),
            kind=kind,
            score=score,
            protect=_protection(running, position, resumable=resumable),
            meta={
                "position": position,
                "process": name,
                "resumable": resumable,
                "attempt": self._attempt,
            },
        )
        self.seconds = time.monotonic() - began
        return saved

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
        """Stores a state; where there are several ranks, together with the others."""
        return self.store.save(
            state, step=step, kind=kind, score=score, protect=protect, config_hash=self.config_hash, meta=meta
        )


def _protection(running: Running | None, position: int, *, resumable: bool) -> str | None:
    """What a checkpoint is kept for, however many newer ones there are that a run can't go on from.

    Two between processes, so that a damaged one has another before it, and one inside a process.
    """
    if running is None:
        return f"boundary_{position % 2}"
    return "inside" if resumable else None


def states_of(permanences: Mapping[str, Permanence], call: Callable[[str, Callable[[], Any]], Any]) -> dict[str, Any]:
    """The states of those permanences that have one.

    Args:
        permanences: All permanences by name.
        call: Calls a permanence's `state_dict`.
    """
    return {name: call(name, held.state_dict) for name, held in permanences.items() if is_stateful(held)}


def newest_resumption(directory: Path, attempt: int, size: int = 1) -> Resumption:
    """Where an attempt goes on: the newest sound checkpoint that a run can go on from.

    Args:
        directory: The run directory.
        attempt: The number of the attempt.
        size: How many ranks go on.

    Returns:
        The place, as rank 0 needs it; that of the beginning where there is no checkpoint to go on from.

    Raises:
        CheckpointError: If a checkpoint was written by a newer Ridgepole, or another number of ranks, or can't be
            read at the moment.
    """
    store = CheckpointStore(directory / rundir.CHECKPOINTS)
    passed: list[str] = []
    for info in reversed(store.list()):
        if info.newer:
            raise CheckpointError(f"{info.path}: {info.problem}")
        if info.problem:
            passed.append(f"checkpoint {info.name} can't be used: {info.problem}")
            continue
        if not (info.usable and (info.meta or {}).get("resumable", False)):
            continue
        if info.world_size != size:
            raise CheckpointError(
                f"run {directory.name} was stored by {_ranks(info.world_size)} ({info.name}) and can't go on with "
                f"{_ranks(size)}: each rank has a state of its own; start it with {info.world_size} again"
            )
        try:
            loaded = store.load(info.name)
        except CheckpointError as error:
            if error.errno is not None:  # the system can't read it at the moment: that is no damage
                raise
            passed.append(str(error))
            continue
        return _resumption(loaded, attempt, tuple(passed))
    return Resumption(attempt, passed_over=tuple(passed))


def resumption_of(directory: Path, attempt: int, name: str | None, rank: int) -> Resumption:
    """Where a rank goes on, after rank 0 has chosen.

    Args:
        directory: The run directory.
        attempt: The number of the attempt.
        name: The checkpoint; None for the beginning.
        rank: The rank, from 1 on.

    Returns:
        The place, with what the rank itself had stored in place of what rank 0 had.

    Raises:
        CheckpointError: If the checkpoint can't be read here.
    """
    if name is None:
        return Resumption(attempt)
    loaded = CheckpointStore(directory / rundir.CHECKPOINTS).load(name, ranks=[rank])
    part = loaded.parts[rank]
    common = _resumption(loaded, attempt, ())
    return replace(
        common,
        permanences=dict(common.permanences) | part["permanences"],
        process=part["process"],
        framework=dict(common.framework) | {"rng": part["rng"]},
    )


def _ranks(count: int) -> str:
    return f"{count} rank{'s' * (count != 1)}"


def check_format(loaded: Loaded) -> None:
    """Refuses a checkpoint that holds something else than this version stores.

    Raises:
        CheckpointError: If it does.
    """
    found = loaded.state.get("format")
    if found != STATE_FORMAT:
        raise CheckpointError(f"{loaded.info.path} was written by another version of Ridgepole (state {found})")


def _resumption(loaded: Loaded, attempt: int, passed: tuple[str, ...]) -> Resumption:
    info, state, meta = loaded.info, loaded.state, loaded.info.meta or {}
    check_format(loaded)
    return Resumption(
        attempt,
        info.name,
        info.step,
        int(meta["position"]),
        meta["process"],
        state["permanences"],
        state["process"],
        state["framework"],
        state["outcomes"],
        passed,
    )
