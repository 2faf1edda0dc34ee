"""The contents of a run's checkpoints: take them, rank them, and find the one to resume from."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ridgepole import rundir, seeding
from ridgepole.checkpoint import CheckpointInfo, CheckpointStore, Loaded, Saved
from ridgepole.checkpoint.manifest import SHARDS
from ridgepole.checkpoint.saving import Part
from ridgepole.data.ranges import Ranges
from ridgepole.errors import CheckpointError, StateError
from ridgepole.pipeline.lifecycle.background import WAITS, BackgroundSaves
from ridgepole.pipeline.lifecycle.process_run import ProcessOutcome, ProcessRun
from ridgepole.pipeline.spec.plan import Plan, is_stateful

STATE_FORMAT = 1
"""The version of what a run stores in a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """The state from which an attempt continues.

    Attributes:
        attempt: The number of the attempt.
        name: The checkpoint; None without one: the attempt starts from the beginning.
        step: The step of the checkpoint.
        position: How many processes are done.
        inside: Name of the next process, if it was running.
        permanences: Their states by name.
        process: The state of the process that was running.
        framework: Counts, random generators and scores.
        outcomes: The outcomes of the processes that are done.
        skipped: The problems of newer checkpoints, one line each.
        ahead: The newest checkpoint, if it can't be resumed from, and why.
        stored_by: How many ranks have stored it.
        sharded: Whether it has tensors that are spread over ranks.
        reseed: Seeds the random generators instead of their stored state.
        left_out: The ranges of batches that the loop which continues leaves out.
        extended: Whether the process inside had ended, and a fork gives it more to do.
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
    skipped: tuple[str, ...] = ()
    ahead: str = ""
    stored_by: int = 1
    sharded: bool = False
    reseed: int | None = None
    left_out: Ranges = ()
    extended: bool = False

    def restore_rng(self) -> None:
        """Restore the random generators, or seed them with other numbers."""
        seeding.restore(self.framework["rng"])
        if self.reseed is not None:
            seeding.reseed(self.reseed)


@dataclass(frozen=True, slots=True)
class RankStates:
    """The states that each of another number of ranks has stored; its owner makes one of them.

    Attributes:
        states: In the order of the ranks.
    """

    states: Sequence[Any]

    def reshard(self, owner: Any, rank: int, world_size: int) -> Any:
        """Return the state of a rank, as the owner's `reshard` makes it."""
        return owner.reshard(self.states, rank, world_size)


class Scores:
    """The best values of the metric that ranks checkpoints.

    Args:
        plan: The plan, whose policy names the metric and how many checkpoints to keep.
        latest: Returns how many values of a metric there were, and the last one.
    """

    def __init__(self, plan: Plan, latest: Callable[[str], tuple[int, Any]]) -> None:
        self._wanted = plan.policy.keep_best
        self._latest = latest
        self._seen = 0
        self._best: list[float] = []
        self._pending: float | None = None
        self._told = False

    def look(self) -> bool:
        """Return whether a new value is among the best; it ranks the next checkpoint."""
        wanted = self._wanted
        if wanted is None:
            return False
        count, value = self._latest(wanted.metric)
        if count == self._seen:
            return False
        self._seen = count
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if len(self._best) >= wanted.k:
            worst = self._best[-1]
            if not (value < worst if wanted.mode == "min" else value > worst):
                return False
        self._pending = float(value)
        return True

    @property
    def pending(self) -> bool:
        """Return whether a new value ranks the next checkpoint."""
        return self._pending is not None

    def take(self) -> float | None:
        """Return the value that ranks the checkpoint which is being taken."""
        value, self._pending = self._pending, None
        if value is not None and self._wanted is not None:
            self._best = sorted([*self._best, value], reverse=self._wanted.mode == "max")[: self._wanted.k]
        return value

    def is_best(self, value: float) -> bool:
        """Return whether no other value is better."""
        return self._best[:1] == [value]

    def problem(self) -> str | None:
        """Return once why nothing is ranked: the metric was logged, and never as a number."""
        wanted = self._wanted
        if wanted is None or self._best or self._told:
            return None
        count, value = self._latest(wanted.metric)
        if not count or (isinstance(value, int | float) and not isinstance(value, bool)):
            return None
        self._told = True
        return (
            f"keep_best: {wanted.metric!r} was logged as {_short(value)}, which is not a number, so no checkpoint is "
            "kept for it; log one number a call"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state to store."""
        return {"seen": self._seen, "best": list(self._best), "rule": self._rule()}

    def _rule(self) -> list[str] | None:
        return None if self._wanted is None else [self._wanted.metric, self._wanted.mode]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint, unless its scores are by another metric or mode."""
        if state["rule"] == self._rule():
            self._seen, self._best = int(state["seen"]), list(state["best"])


def _short(value: object) -> str:
    kinds = {dict: "a histogram", list: "a sequence", str: "text", bool: "a bool"}
    return f"{kinds.get(type(value), type(value).__name__)}" + (
        f" ({value!r:.40})" if not isinstance(value, dict) else ""
    )


class Checkpoints:
    """Takes the checkpoints of a run.

    Args:
        plan: The plan.
        directory: The run directory.
        config: The resolved description.
        attempt: The number of the attempt.

    Attributes:
        seconds: How long the last one took.
        obstacle: Why the process can't be resumed from the last one, "" if it can.
        behind: The saves in the background; None if they are made in the foreground.
    """

    def __init__(self, plan: Plan, directory: Path, config: Mapping[str, Any], attempt: int) -> None:
        policy = plan.policy
        self.store = CheckpointStore(
            directory / rundir.CHECKPOINTS, keep_last=policy.keep_last, keep_best=policy.keep_best
        )
        self.seconds, self.obstacle = 0.0, ""
        limit = policy.host_memory_limit
        self.behind = BackgroundSaves(None if limit is None else limit * 1e9) if policy.background else None
        self._config_hash = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
        self._attempt = attempt

    def has_boundary(self, position: int) -> bool:
        """Return whether there is a checkpoint between the two processes at a position."""
        for info in self.store.list():
            meta = info.meta or {}
            if info.usable and meta.get("position") == position and meta.get("process") is None:
                return True
        return False

    def save(
        self,
        kind: str,
        *,
        permanences: Mapping[str, Any],
        process_run: ProcessRun | None,
        ended: Mapping[str, Any] | None,
        outcomes: Sequence[ProcessOutcome],
        position: int,
        framework: Mapping[str, Any],
        score: float | None,
    ) -> Saved | None:
        """Take a checkpoint.

        Args:
            kind: Why.
            permanences: The states by name.
            process_run: The process that runs; None between two processes.
            ended: The state of the process that has just ended, from which a fork may extend it.
            outcomes: The outcome of each process.
            position: How many processes are done.
            framework: Counts and scores.
            score: The value that ranks it.

        Returns:
            The checkpoint; None on a rank that has stored only its part.

        Raises:
            StateError: If a state holds a value that can't be stored; it names the path.
            CheckpointError: If it can't be written; the ones before are untouched.
        """
        began = time.monotonic()
        process, obstacle = process_run.capture() if process_run is not None else ({}, "")
        in_step = kind == "manual" and process_run is not None and not is_stateful(process_run.process)
        if kind == "error" or in_step:
            # Running the process again would repeat the step
            obstacle = "it was in the middle of a step"
        protect = "inside" if not obstacle else None
        # Two of them are protected, so that a damaged one has another before it
        if process_run is None:
            protect = f"boundary_{position % 2}" + ("" if ended is None else " end")  # a fork may extend what ended
        state = {
            "format": STATE_FORMAT,
            "permanences": dict(permanences),
            "process": process,
            "outcomes": [asdict(outcome) for outcome in outcomes[:position]],
            "framework": dict(framework) | {"rng": seeding.capture()},
        } | ({} if ended is None else {"ended": dict(ended)})
        meta = {
            "position": position,
            "process": outcomes[position].name if process_run is not None else None,
            "resumable": not obstacle,
            "attempt": self._attempt,
            "ended": outcomes[position - 1].name if ended is not None else None,
        } | ({"obstacle": obstacle} if obstacle else {})
        self.obstacle = "" if kind == "error" or in_step else obstacle
        write = partial(self._write, step=int(framework["step"]), kind=kind, score=score, protect=protect, meta=meta)
        try:
            saved = write(state)
        except StateError:
            if "ended" not in state:
                raise
            # Nothing but a fork needs it. Only a single rank has it: a second try by one of several
            # would put them out of step.
            del state["ended"]
            saved = write(state)
        if self.behind is None or saved is not None:  # else the thread measures it
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
        """Store a state; a distributed run does so together with the other ranks."""
        part = Part(state)

        def save(problem: str) -> Saved:
            began = time.monotonic()
            with self.store.begin(step=step, kind=kind) as saving:
                saved = saving.commit(part, score=score, protect=protect, config_hash=self._config_hash, meta=meta)
            self.seconds = time.monotonic() - began
            return replace(saved, problems=(problem, *saved.problems)) if problem else saved

        return self._run(kind, part, save)

    def _run(self, kind: str, part: Part, save: Callable[[str], Saved | None]) -> Saved | None:
        """Save a part in the background if that is wanted and possible.

        Args:
            kind: Why the checkpoint is taken.
            part: What is copied.
            save: Saves it; takes a problem that is to be told with those of the save, or "".
        """
        if self.behind is None or kind in ("signal", "error"):
            return save("")
        problem = self.behind.hold(part)
        if problem:
            told = f"checkpoints are written in the foreground: {problem}" if self.behind.first_time() else ""
            return save(told)
        self.behind.start(lambda: save(""))
        return None

    def refusal(self, kind: str) -> str:
        """Return why a checkpoint of a kind is left out, before any state is asked for; else ""."""
        del kind
        return ""

    def note_shards(self) -> None:
        """Note that the state has tensors that are spread over ranks."""

    # --- in the background

    def must_skip(self, kind: str, *, until: float, best: bool) -> bool:
        """Return whether a checkpoint is left out, because one is being written.

        Args:
            kind: Why it is due.
            until: How long to wait for the save in flight, where this kind waits.
            best: Whether it would be ranked among the best.
        """
        if self.behind is None or not self.behind.busy:
            return False
        if (kind in WAITS or best) and self.behind.wait(until):
            return False
        self.behind.skipped += 1
        return True

    def finish(self, until: float) -> None:
        """Wait for the save in flight; give it up where it has not ended by then."""
        if self.behind is not None and not self.behind.wait(until):
            self.store.give_up()

    def outcome(self) -> Iterator[str]:
        """Yield the problems of the last save in the background, once it has ended."""
        result = None if self.behind is None else self.behind.take_result()
        if self.behind is None or result is None:
            return
        if isinstance(result, Exception):
            yield f"no checkpoint was taken: {result}"
        else:
            yield from result.problems
        if self.behind.skipped:
            count, self.behind.skipped = self.behind.skipped, 0
            yield f"{count} checkpoint{'s' * (count != 1)} left out that came due while another one was written"


Fits = Callable[[CheckpointInfo], Sequence[str]]
"""Names the states that another number of ranks has to reshard; raises where it can't."""

Verify = Callable[[CheckpointStore, str], Sequence[str]]
"""Returns the problems of a checkpoint that the ranks have found together."""


class _OtherRanksError(CheckpointError):
    """A checkpoint of another number of ranks, which is not skipped as a damaged one is."""


def same_ranks(size: int) -> Fits:
    """Return a function that refuses checkpoints of another number of ranks."""

    def fits(info: CheckpointInfo) -> Sequence[str]:
        if info.world_size != size:
            raise other_ranks(info, size, "each rank has a state of its own")
        return ()

    return fits


def other_ranks(info: CheckpointInfo, size: int, reason: str) -> CheckpointError:
    """Return the error of a checkpoint that this number of ranks can't be resumed from."""
    return _OtherRanksError(
        f"run {info.path.parents[1].name} was stored by {_ranks(info.world_size)} ({info.name}) and can't be resumed "
        f"with {_ranks(size)}: {reason}; start it with {info.world_size} again"
    )


def newest_resume_point(
    directory: Path,
    attempt: int,
    size: int = 1,
    *,
    until_step: int | None = None,
    fits: Fits | None = None,
    verify: Verify | None = None,
) -> ResumePoint:
    """Find the newest sound checkpoint to resume from; else the beginning.

    Args:
        directory: The run directory.
        attempt: The number of the attempt.
        size: How many ranks resume.
        fits: Decides about a checkpoint of another number of ranks; such ones are refused when
            None.
        verify: Returns the problems that the ranks have found together; without it, this process
            verifies all by itself.
        until_step: The last step that counts; None for all.

    Raises:
        CheckpointError: If a checkpoint was written by a newer Ridgepole, or by another number of
            ranks and does not fit, or can't be read at the moment.
    """
    store = CheckpointStore(directory / rundir.CHECKPOINTS)
    fits = fits or same_ranks(size)
    skipped: list[str] = []
    ahead = ""
    for info in reversed(store.list()):
        if info.newer:
            raise CheckpointError(f"{info.path}: {info.problem}")
        if info.problem:
            skipped.append(f"checkpoint {info.name} can't be used: {info.problem}")
            continue
        if until_step is not None and info.step > until_step:
            continue
        if not (info.usable and (info.meta or {}).get("resumable", False)):
            ahead = ahead or _obstacle(info)
            continue
        try:
            if verify is None:
                uneven = fits(info)
                loaded = store.load(info.name, ranks=range(1, info.world_size if uneven else 1))
            elif problems := verify(store, info.name):
                skipped.extend(f"checkpoint {info.name} can't be used: {problem}" for problem in problems)
                continue
            else:
                uneven = fits(info)
                loaded = store.load_verified(info.name, ranks=range(1, info.world_size if uneven else 1))
        except CheckpointError as error:
            # Neither a passing error of the system nor another number of ranks is damage
            if error.errno is not None or isinstance(error, _OtherRanksError):
                raise
            skipped.append(str(error))
            continue
        return replace(resume_point_of(loaded, attempt, size=size, uneven=uneven), skipped=tuple(skipped), ahead=ahead)
    return ResumePoint(attempt=attempt, skipped=tuple(skipped), ahead=ahead)


def _obstacle(info: CheckpointInfo) -> str:
    """Describe a checkpoint that can't be resumed from; empty if it is not known why."""
    meta = info.meta or {}
    reason = meta.get("obstacle")
    return f"not from step {info.step}, because of {meta.get('process')}: {reason}" if reason and info.usable else ""


def where_to_resume(directory: Path) -> tuple[CheckpointInfo | None, str]:
    """Return the checkpoint that a resume begins at, by its manifest, and why at no later one.

    None stands for the beginning, and "" for no reason.
    """
    ahead = ""
    for info in reversed(CheckpointStore(directory / rundir.CHECKPOINTS).list()):
        if info.usable and (info.meta or {}).get("resumable", False):
            return info, ahead
        ahead = ahead or _obstacle(info)
    return None, ahead


def resume_point_of_rank(
    directory: Path, attempt: int, name: str | None, rank: int, size: int, fits: Fits
) -> ResumePoint:
    """Return the resume point that rank 0 has chosen, with another rank's own states.

    Args:
        directory: The run directory.
        attempt: The number of the attempt.
        name: The checkpoint, which the ranks have verified; None for the beginning.
        rank: The rank, from 1 on.
        size: How many ranks resume.
        fits: Decides about a checkpoint of another number of ranks.

    Raises:
        CheckpointError: If the checkpoint can't be read here.
    """
    if name is None:
        return ResumePoint(attempt=attempt)
    store = CheckpointStore(directory / rundir.CHECKPOINTS)
    info = store.find(name)
    uneven = fits(info)
    ranks = [rank] if info.world_size == size else range(1, info.world_size if uneven else 1)
    return resume_point_of(store.load_verified(name, ranks=ranks), attempt, rank=rank, size=size, uneven=uneven)


def _ranks(count: int) -> str:
    return f"{count} rank{'s' * (count != 1)}"


def check_format(loaded: Loaded) -> None:
    """Refuse a checkpoint whose state has another format.

    Raises:
        CheckpointError: If it has.
    """
    found = loaded.state.get("format")
    if found != STATE_FORMAT:
        raise CheckpointError(f"{loaded.info.path} was written by another version of Ridgepole (state {found})")


def resume_point_of(
    loaded: Loaded, attempt: int, *, rank: int = 0, size: int = 1, uneven: Sequence[str] = ()
) -> ResumePoint:
    """Return the resume point of a rank.

    Args:
        loaded: The checkpoint, with the parts of the ranks that are needed.
        attempt: The number of the attempt.
        rank: The rank.
        size: How many ranks resume.
        uneven: The states that have to be resharded.

    Raises:
        CheckpointError: If its state has another format.
    """
    info, state, meta = loaded.info, loaded.state, loaded.info.meta or {}
    check_format(loaded)
    permanences, process, framework = dict(state["permanences"]), dict(state["process"]), dict(state["framework"])
    if info.world_size != size:
        for section, _, name in (each.partition(".") for each in uneven):
            if section == "process":
                parts = [part["process"]["state"] for part in loaded.parts.values()]
                process["state"] = RankStates([process["state"], *parts])
            elif name in permanences:
                parts = [part["permanences"][name] for part in loaded.parts.values()]
                permanences[name] = RankStates([permanences[name], *parts])
        text = f"{info.path.parents[1].name} {info.step} {rank} of {size}"
        framework["rng"] = {"seed": int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])}
    elif rank:
        own = loaded.parts[rank]
        permanences |= own["permanences"]
        process, framework["rng"] = own["process"], own["rng"]
    return ResumePoint(
        attempt=attempt,
        name=info.name,
        step=info.step,
        position=int(meta["position"]),
        inside=meta["process"],
        permanences=permanences,
        process=process,
        framework=framework,
        outcomes=state["outcomes"],
        stored_by=info.world_size,
        sharded=SHARDS in (info.files or {}),
    )
