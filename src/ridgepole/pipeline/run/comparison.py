"""Check that a stored run can be resumed with today's pipeline."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.checkpoint import CheckpointInfo
from ridgepole.checkpoint.loading import sharded_keys
from ridgepole.errors import ConfigError, Problem, RunDirError
from ridgepole.pipeline.lifecycle.checkpointing import ResumePoint, other_ranks
from ridgepole.pipeline.run import provenance
from ridgepole.pipeline.spec.plan import Plan, is_stateful
from ridgepole.rundir import RunInfo
from ridgepole.runs.attempts import restored_values
from ridgepole.runs.keys import flat, names_of

_OVER = ("finished", "finished_with_cleanup_errors", "pruned")
_ALWAYS_ALLOWED = (
    "pipeline.name",
    "pipeline.grace_seconds",
    "pipeline.progress",
    "pipeline.system",
    "pipeline.checkpoint",
    "pipeline.console",
    "pipeline.guard",
    "pipeline.mirror",
    "pipeline.tags",
)
"""Keys that may always be changed: they don't affect what is computed."""
_EXACT = ("torch", "numpy", "ridgepole")
"""Packages of which another version may compute another result, if only in the last bit."""
MISSING = object()
"""The value of a key that is not there."""


def unfinished(path: Path) -> RunInfo:
    """Return a run that can be resumed.

    Raises:
        RunDirError: If the directory is not a run, or the run has finished, or had not begun.
    """
    run = rundir.read_run(path)
    if run.status in _OVER:
        word = run.status.replace("_", " ")
        raise RunDirError(
            f"run {run.id} has {word}: there is nothing to resume; ridgepole fork {run.id} -s KEY=VALUE continues it "
            "as a new run, with more epochs or another rate"
        )
    if not has_begun(run):
        raise RunDirError(f"run {run.id} was stopped before it had begun: start a new one with ridgepole run")
    return run


def has_begun(run: RunInfo) -> bool:
    """Return whether a run has recorded its description and origin, as a resume requires."""
    return bool(run.fields and run.json(rundir.RESOLVED) and run.json(rundir.PROVENANCE))


def check_config(run: RunInfo, plan: Plan, config: Mapping[str, Any], allow: Sequence[str]) -> None:
    """Compare the stored description of a run with today's; the keys in `allow` may differ.

    So may values that come from the environment.

    Raises:
        ConfigError: If anything else differs, or an allowed key is in neither.
    """
    problems = differences(run.json(rundir.RESOLVED), config, allow, f"run {run.id}", plan.environ)
    if problems:
        raise ConfigError(problems)


def differences(
    before: Mapping[str, Any],
    config: Mapping[str, Any],
    allow: Sequence[str],
    what: str,
    environ: Collection[str] = (),
) -> list[Problem]:
    """List the differences that forbid a resume.

    Args:
        before: The stored description.
        config: Today's.
        allow: Keys that may differ.
        what: What is resumed, such as `run 20261122-…`.
        environ: Keys that come from the environment, which may differ too.
    """
    names, problems = _resolved(before, config, allow)
    changed = {
        key: pair for key, pair in changes(before, config, environ).items() if not _below(key, [*names.values()])
    }
    if changed:
        lines = [f"{key}: {change(*pair)}" for key, pair in changed.items()]
        hint = f"change it back, or accept it with --allow-change {next(iter(changed))}"
        problems.append(Problem(f"the pipeline is not what {what} was", hint=hint, detail="\n".join(lines)))
    return problems


def unchanged(before: Mapping[str, Any], config: Mapping[str, Any], allow: Sequence[str]) -> Iterator[str]:
    """Yield a line for each key or table that was allowed to change and has not."""
    stored, now = dict(flat(before)), dict(flat(config))
    for name, full in _resolved(before, config, allow)[0].items():
        keys = [key for key in dict.fromkeys([*stored, *now]) if _below(key, (full,))]
        if all(stored.get(key, MISSING) == now.get(key, MISSING) for key in keys):
            how = f"; give it a value in the file or by -s {name}=VALUE" if keys == [full] else ""
            yield f"--allow-change {name}: nothing has changed there{how}"


def _resolved(
    before: Mapping[str, Any], config: Mapping[str, Any], allow: Sequence[str]
) -> tuple[dict[str, str], list[Problem]]:
    """Return the full key or table of each name that may differ, and what is wrong with others.

    A name is a full key, or as much of its end as is unambiguous: `train.epochs`, `epochs`.
    """
    known = [key.split(".") for key, _ in (*flat(before), *flat(config))]
    places = dict.fromkeys(".".join(parts[:end]) for parts in known for end in range(1, len(parts) + 1))
    found: dict[str, str] = {}
    problems = []
    for name in allow:
        full = [name] if name in places else [place for place in places if name in names_of(place)]
        if len(full) == 1:
            found[name] = full[0]
        elif full:
            hint = f"write more of it: {' or '.join(full[:4])}"
            problems.append(Problem(f"--allow-change {name}: could be {len(full)} things", hint=hint))
        else:
            hint = "it takes a name such as train.epochs; -s gives the value"
            problems.append(Problem(f"--allow-change {name}: no such key", hint=hint))
    return found, problems


def in_use(run: RunInfo, pairs: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Return pairs of stored and new values with the stored ones that are in use.

    A restored state may have brought back another value than the one that was asked for.
    """
    restored = restored_values(run)
    return {key: (restored.get(key, old), new) for key, (old, new) in pairs.items()}


def changes(
    before: Mapping[str, Any], config: Mapping[str, Any], environ: Collection[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Return the stored and today's value of each key that differs and affects what is computed.

    A key that one of them lacks has the value `MISSING` there. Keys in `environ` may differ.
    """
    stored, now = dict(flat(before)), dict(flat(config))
    ignored = (*_ALWAYS_ALLOWED, *environ, *_silenced(before), *_silenced(config))
    keys = dict.fromkeys([*stored, *now])
    pairs = {key: (stored.get(key, MISSING), now.get(key, MISSING)) for key in keys if not _below(key, ignored)}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def change(old: Any, new: Any) -> str:
    """Format a change, such as `30 -> 40`."""
    return " -> ".join("(not there)" if value is MISSING else repr(value) for value in (old, new))


def listed(value: Any) -> list[Any]:
    """Return a value of a change as JSON: a list of it, which is empty for `MISSING`."""
    return [] if value is MISSING else [value]


def check_position(run: RunInfo, plan: Plan, point: ResumePoint) -> None:
    """Compare the processes that were done, and the one that was running, with today's.

    Raises:
        ConfigError: If today's pipeline does not begin with them.
    """
    done = [str(outcome["name"]) for outcome in point.outcomes]
    begun = [*done, point.inside] if point.inside is not None else done
    now = [process.name for process in plan.processes]
    if now[: len(begun)] == begun:
        return
    words = [f"{name!r} was done" for name in done]
    if point.inside is not None:
        words.append(f"{point.inside!r} was running")
    message = f"run {run.id} can't be resumed from {point.name}, when {' and '.join(words)}; today they are: "
    hint = "restore their order; add new processes only after them"
    raise ConfigError([Problem(message + (", ".join(now) or "none"), hint=hint)])


def check_ranks(plan: Plan, info: CheckpointInfo, size: int) -> list[str]:
    """Return the states of a checkpoint that have to be resharded for another number of ranks.

    States that are the same on all ranks carry over, and so do tensors in shards.

    Args:
        plan: Today's pipeline.
        info: The checkpoint.
        size: How many ranks resume.

    Raises:
        CheckpointError: If a component whose state differs from rank to rank has no `reshard`.
    """
    if info.world_size == size:
        return []
    meta = info.meta or {}
    components = {f"permanences.{each.name}": each for each in plan.permanences if each.ranks == "all"}
    if info.world_size == 1:
        keys = sharded_keys(info)
        sharded = {name for name in components if any(key.startswith(f"{name}.") for key in keys)}
        held = {name: each for name, each in components.items() if is_stateful(each.target)}
        uneven = [name for name, each in held.items() if each.target.state_ranks == "all" and name not in sharded]
    elif isinstance(meta.get("uneven"), list):
        uneven = [str(name) for name in meta["uneven"] if name == "process" or name in components]
    else:
        raise other_ranks(info, size, "an older Ridgepole has stored it, without saying which states are equal")
    if meta.get("process") is not None and int(meta["position"]) < len(plan.processes):
        components["process"] = plan.processes[int(meta["position"])]
    for name in uneven:
        component = components[name]
        if not callable(getattr(component.target, "reshard", None)):
            what = "process" if name == "process" else "permanence"
            reason = f"the state of the {what} {component.described} belongs to one rank"
            raise other_ranks(info, size, f"{reason}, and it has no reshard(states, rank, world_size)")
    return uneven


def changed_environment(run: RunInfo, plan: Plan, config: Mapping[str, Any]) -> Iterator[str]:
    """List values from the environment that have changed since the run was started, a line each."""
    for key, pair in changes(run.json(rundir.RESOLVED), config).items():
        if _below(key, tuple(plan.environ)):
            hint = "${env!:NAME} in the file forbids it"
            yield f"{key} comes from the environment and has changed: {change(*pair)} ({hint})"


def changed_code(run: RunInfo, plan: Plan) -> Iterator[str]:
    """List changes of code and packages since the run was started, a line each."""
    known = run.json(rundir.PROVENANCE)
    versions = known.get("packages", {})
    installed = provenance.packages()
    for name in _EXACT:
        if name in versions and versions[name] != installed.get(name):
            yield f"{name} was {versions[name]} when run {run.id} was started, and is {installed.get(name, 'gone')} now"
    stored = known.get("code")
    if not isinstance(stored, dict):
        return
    now = provenance.code_files(plan)
    for name in sorted({*stored, *now}):
        if stored.get(name) != now.get(name):
            word = "is new" if name not in stored else "is gone" if name not in now else "has changed"
            yield f"{name} {word} since run {run.id} was started"


def _silenced(config: Mapping[str, Any]) -> list[str]:
    """Return the keys of loggers and displays that were replaced by null objects."""
    null = ("NullLogger", "NullProgressManager")
    return [f"permanences.{name}" for name, table in config.get("permanences", {}).items() if table.get("type") in null]


def _below(key: str, prefixes: Sequence[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
