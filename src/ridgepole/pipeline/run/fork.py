"""Begin a new run with the states of another one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.checkpoint import CheckpointInfo, CheckpointStore, Loaded
from ridgepole.errors import CheckpointError, ConfigError, Problem, RunDirError
from ridgepole.files import Flock, remove_tree
from ridgepole.metrics.codec import decode
from ridgepole.pipeline.lifecycle.checkpointing import ResumePoint, resume_point_of
from ridgepole.pipeline.run.comparison import change, changes, check_position, has_begun, in_use
from ridgepole.pipeline.spec.plan import Plan
from ridgepole.rundir import RunDir, RunInfo
from ridgepole.runs.attempts import restored_values

_LAST_SEQ = 2**62  # behind all sequence numbers of a record


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A run that may be forked, and the checkpoint to begin at.

    Attributes:
        parent: The run.
        info: Its checkpoint.
        loaded: The content of the checkpoint.
        point: The state from which the fork continues.
        seed: The seed of the fork.
        changes: The value in use in the parent and that of the fork, for each key that differs.
        restored: The values in use that states brought back, for keys that don't differ.
    """

    parent: RunInfo
    info: CheckpointInfo
    loaded: Loaded
    point: ResumePoint
    seed: int
    changes: Mapping[str, tuple[Any, Any]]
    restored: Mapping[str, Any]

    def lineage(self) -> dict[str, Any]:
        """Return what `run.json` says of the parent."""
        return {"run": self.parent.id, "checkpoint": self.info.name, "step": self.info.step}

    def lines(self) -> Iterator[str]:
        """Yield what to tell the user about the fork."""
        yield f"forks run {self.parent.id} at {self.info.name}, step {self.info.step}"
        for key, pair in self.changes.items():
            yield f"{key}: {change(*pair)}"

    def create(self, root: Path, plan: Plan) -> RunDir:
        """Make the directory of the fork, with the parent's metrics and the checkpoint in it.

        So it does not need the parent any more, and a resume finds where it began.

        Raises:
            RunDirError: If it can't be written.
            CheckpointError: If the checkpoint can't be written.
        """
        directory = RunDir.create(root)
        try:
            self._copy_metrics(plan, directory.path)
            self._store(plan, directory.path)
        except BaseException as error:
            directory.close()
            with contextlib.suppress(OSError):
                remove_tree(directory.path)
            if isinstance(error, OSError) and not isinstance(error, CheckpointError):
                raise RunDirError(f"the metrics of run {self.parent.id} can't be copied: {error}") from error
            raise
        return directory

    def _copy_metrics(self, plan: Plan, target: Path) -> None:
        """Copy the records that the parent had logged up to the checkpoint."""
        positions = (_position(self.point.permanences.get(name)) for name in plan.loggers)
        end = max((position for position in positions if position < _LAST_SEQ), default=0)
        hidden = rundir.abandoned_segments(self.parent.path)
        for path in sorted(self.parent.path.glob(rundir.METRICS_GLOB)):
            with path.open("rb") as source, (target / path.name).open("wb") as file:
                for line in source:
                    with contextlib.suppress(ValueError, TypeError, IndexError, KeyError):  # torn or bad
                        seq = decode(line)["seq"]
                        if line.endswith(b"\n") and seq < end and not any(one <= seq < last for one, last in hidden):
                            file.write(line)

    def _store(self, plan: Plan, target: Path) -> None:
        """Store the state as the fork's first checkpoint."""
        point, best = self.point, plan.policy.keep_best
        ended = (self.info.meta or {}).get("ended") if point.inside is None else None
        state = {key: value for key, value in self.loaded.state.items() if key != "ended" or ended}
        state |= {
            "permanences": dict(point.permanences),
            "process": point.process,
            "outcomes": list(point.outcomes),
        }
        meta = {"position": point.position, "process": point.inside, "resumable": True, "attempt": 1}
        meta |= {"ended": ended}
        protect = "inside" if point.inside is not None else f"boundary_{point.position % 2}{' end' if ended else ''}"
        score = self.info.score
        ranked = score is not None and best is not None and (score.metric, score.mode) == (best.metric, best.mode)
        CheckpointStore(target / rundir.CHECKPOINTS, keep_last=plan.policy.keep_last, keep_best=best).save(
            state,
            step=point.step,
            kind="fork",
            score=score.value if ranked and score is not None else None,
            protect=protect,
            meta=meta,
        )


def find_fork(plan: Plan, run: Path, which: str) -> Fork:
    """Find where a fork begins, and check that the pipeline fits the states.

    Args:
        plan: The pipeline of the fork.
        run: The directory of the parent.
        which: A checkpoint: `best`, a name, a number, or `latest`: the newest one that comes before
            everything that has changed.

    Raises:
        RunDirError: If the parent is running, or had not begun.
        CheckpointError: If the checkpoint does not exist, is damaged, or can't be continued from.
        ConfigError: If a change does not fit the checkpoint.
    """
    parent = rundir.read_run(run)
    if parent.status == "running":
        owner = Flock(parent.path / rundir.OWNER).who()
        raise RunDirError(f"run {parent.id} is running ({owner}): fork it when it has ended")
    if not has_begun(parent):
        raise RunDirError(f"run {parent.id} was stopped before it had begun: start a new one with ridgepole run")
    seed = int(parent.fields.get("seed", 0)) if plan.settings.seed is None else plan.settings.seed
    pairs = in_use(parent, changes(parent.json(rundir.RESOLVED), plan.resolved(seed)))
    restored = {key: value for key, value in restored_values(parent).items() if key not in pairs}
    info = find_checkpoint(parent, which)
    if which == "latest":
        info = _newest_that_fits(parent, info, plan, pairs)
    if info.world_size != 1:
        raise CheckpointError(
            f"checkpoint {info.name} of run {parent.id} was stored by {info.world_size} ranks, and only a run of one "
            "process can be forked"
        )
    loaded = CheckpointStore(parent.path / rundir.CHECKPOINTS).load(info.name)
    point = resume_point_of(loaded, 1)
    check_position(parent, plan, point)
    point = _extended(parent, info, point, loaded.state.get("ended"), pairs)
    point = replace(point, permanences=_for_new_run(point.permanences, plan))
    if point.position == len(plan.processes):
        raise ConfigError([_nothing_left(parent, info, pairs)])
    return Fork(parent=parent, info=info, loaded=loaded, point=point, seed=seed, changes=pairs, restored=restored)


def find_checkpoint(run: RunInfo, which: str) -> CheckpointInfo:
    """Return the checkpoint of a run to continue from.

    Raises:
        CheckpointError: If it does not exist, or can't be continued from; the text says why.
    """
    store = CheckpointStore(run.path / rundir.CHECKPOINTS)
    if which == "latest":
        usable = [info for info in store.list() if _is_resumable(info)]
        if not usable:
            raise CheckpointError(f"run {run.id} has no checkpoint to continue from")
        return usable[-1]
    info = store.find(which)
    if info.problem:
        raise CheckpointError(f"checkpoint {info.name} of run {run.id} can't be used: {info.problem}")
    if not _is_resumable(info):
        meta = info.meta or {}
        reason = meta.get("obstacle") or "it was taken because of an error"
        others = [other.name for other in store.list() if _is_resumable(other)]
        raise CheckpointError(
            f"checkpoint {info.name} of run {run.id} can't be continued from: {reason}; "
            + (f"these can: {', '.join(others)}" if others else "none of this run can")
            + f"; its states are in ridgepole.load_checkpoint({run.id!r}, {info.name!r})"
        )
    return info


def go_back(run: RunInfo, which: str, size: int, warn: Callable[[str], None]) -> None:
    """Put the checkpoints of a run aside that are newer than a chosen one.

    Args:
        run: The run.
        which: The checkpoint: `latest`, `best`, a name or a number.
        size: How many ranks resume.
        warn: Called with a line that names the checkpoints that were put aside.

    Raises:
        CheckpointError: If the chosen one does not exist, is damaged, can't be continued from, or
            was stored by another number of ranks. Nothing is put aside then.
    """
    info, store = find_checkpoint(run, which), CheckpointStore(run.path / rundir.CHECKPOINTS)
    problems = store.verify(info.name)
    if problems:
        raise CheckpointError(f"checkpoint {info.name} of run {run.id} can't be used: {problems[0]}")
    if info.world_size != size:
        raise CheckpointError(
            f"checkpoint {info.name} of run {run.id} was stored by {info.world_size} ranks, and not by {size}: "
            "going back takes as many"
        )
    undone = store.undo_after(info)
    if undone:
        warn(f"newer checkpoints are put aside as {store.path}/.undone-*: {', '.join(undone)}")


def _newest_that_fits(
    run: RunInfo, newest: CheckpointInfo, plan: Plan, pairs: Mapping[str, tuple[Any, Any]]
) -> CheckpointInfo:
    """Return the newest checkpoint that comes before every process that has changed.

    Treat a process that had just ended as not done if it can be extended. Fall back to the newest
    checkpoint. Leave out one from before the first process: that would be a new run.
    """
    before, names = list(run.json(rundir.RESOLVED).get("processes") or ()), [each.name for each in plan.processes]
    changed = {name for name in names if any(_affects(key, name) for key in pairs)}
    retyped = {name for name in names if f"processes.{name}.type" in pairs}
    store = CheckpointStore(run.path / rundir.CHECKPOINTS)
    for info in reversed(store.list()) if changed or before != names else ():
        meta = info.meta or {}
        position, inside = int(meta.get("position", 0)), meta.get("process")
        same = before[:position] == names[:position]
        same &= inside is None or (names[position : position + 1] == [inside] and inside not in retyped)
        if not _is_resumable(info) or not same or not (position or inside):
            continue
        lost = changed & {*names[:position]}
        last = {names[position - 1]} - retyped if position and inside is None else set()
        if not lost or (lost == last and _can_extend(store, info)):
            return info
    return newest


def _affects(key: str, name: str) -> bool:
    """Return whether a key of the config changes what a process computes."""
    return key == f"processes.{name}.type" or key.startswith(f"processes.{name}.params.")


def _can_extend(store: CheckpointStore, info: CheckpointInfo) -> bool:
    """Return whether the process that had just ended can be continued from a checkpoint."""
    meta = info.meta or {}
    if "ended" in meta:
        return bool(meta["ended"])
    try:
        return bool(store.load(info.name).state.get("ended"))  # stored by version 0.2.0 or before
    except CheckpointError:
        return False


def _is_resumable(info: CheckpointInfo) -> bool:
    return info.usable and bool((info.meta or {}).get("resumable", False))


def _position(state: Any) -> int:
    """Return the next sequence number in a logger's state; 0 where it keeps no record."""
    if not isinstance(state, Mapping):
        return 0
    own = state.get("seq")
    members = state.get("members")
    inner = [_position(member) for member in members] if isinstance(members, Sequence) else []
    return max([own if type(own) is int else 0, *inner])


def _for_new_run(states: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """Return the states with no position in records outside of the run directory.

    Parent and fork share these, and a restored position would hide what the parent logged later.
    """
    given = {each.name: each.arguments().get("log_dir") for each in plan.permanences if each.name in plan.loggers}
    shared = {name for name, log_dir in given.items() if log_dir is not None}
    return {
        name: dict(state) | {"seq": _LAST_SEQ} if name in shared and "seq" in state else state
        for name, state in states.items()
    }


def _extended(
    run: RunInfo,
    info: CheckpointInfo,
    point: ResumePoint,
    ended: Mapping[str, Any] | None,
    pairs: Mapping[str, tuple[Any, Any]],
) -> ResumePoint:
    """Go back into the process that has just ended, if the fork changes its parameters.

    Raises:
        ConfigError: If the fork changes parameters of processes that were done before.
    """
    done = [str(outcome["name"]) for outcome in point.outcomes]
    changed = [key for key in pairs if any(key.startswith(f"processes.{name}.params.") for name in done)]
    if not changed:
        return point
    last = done[-1] if point.inside is None else None
    late = [key for key in changed if last is None or not ended or not key.startswith(f"processes.{last}.params.")]
    if late:
        name = late[0].split(".")[1]
        why, how = f"{name} was done by then", ""
        if name == last:
            why = f"{name} has no position to continue from at its end"
            how = "; one with state_dict and load_state_dict has, or with a loop over a ResumableLoader"
        hint = f"fork an earlier checkpoint (ridgepole checkpoints ls {run.id}), or start a new run{how}"
        message = f"{late[0]} does not fit checkpoint {info.name} of run {run.id}: {why}"
        raise ConfigError([Problem(message, hint=hint, detail=f"{late[0]}: {change(*pairs[late[0]])}")])
    position = len(done) - 1
    return replace(
        point,
        position=position,
        inside=last,
        process=dict(ended or {}),
        outcomes=list(point.outcomes)[:position],
        extended=True,
    )


def _nothing_left(run: RunInfo, info: CheckpointInfo, pairs: Mapping[str, tuple[Any, Any]]) -> Problem:
    more = _more_of(run)
    alone = "what has changed gives no process more to do; " if pairs else ""
    return Problem(
        f"nothing is left to run: at checkpoint {info.name} all processes of run {run.id} were done",
        hint=f"{alone}{f'give a process more to do, as by -s {more}, or ' if more else ''}fork an earlier checkpoint: "
        f"ridgepole checkpoints ls {run.id} lists them, ridgepole fork {run.id}@NAME begins at one",
        detail="\n".join(f"{key}: {change(*pair)}" for key, pair in pairs.items()),
    )


def _more_of(run: RunInfo) -> str:
    """Return an override that gives the last process that can have it more to do; or ""."""
    infos = reversed(CheckpointStore(run.path / rundir.CHECKPOINTS).list())
    name = next((str(meta["ended"]) for meta in (info.meta or {} for info in infos) if meta.get("ended")), "")
    described = run.json(rundir.RESOLVED).get("processes", {}).get(name, {})
    counts = {key: value for key, value in described.get("params", {}).items() if type(value) is int and value > 0}
    key = next((key for key in counts if re.fullmatch(r"(num_|n_|max_)?(epochs|steps|iterations)", key)), None)
    return "" if key is None else f"{name}.{key}={2 * counts[key]}"
