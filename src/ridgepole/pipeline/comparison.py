"""Whether a run may go on with what its pipeline is today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.errors import ConfigError, Problem, RunDirError
from ridgepole.pipeline import provenance
from ridgepole.pipeline.checkpoints import Resumption
from ridgepole.pipeline.plan import Plan
from ridgepole.rundir import RunInfo

_OVER = ("finished", "finished_with_cleanup_errors", "pruned")
_FREE = ("pipeline.grace_seconds", "pipeline.progress", "pipeline.checkpoint")
"""What may always be changed: it is no part of what is computed."""
_EXACT = ("torch", "numpy", "ridgepole")
"""Packages of which another version may compute something else, if only in the last bit."""


def unfinished(path: Path) -> RunInfo:
    """A run that can go on, once it is owned.

    Args:
        path: The run directory.

    Raises:
        RunDirError: If it is no run, has finished, or had not begun.
    """
    run = rundir.read_run(path)
    if run.status in _OVER:
        word = run.status.replace("_", " ")
        raise RunDirError(f"run {run.id} has {word}: there is nothing to resume; start a new one with ridgepole run")
    if not has_begun(run):
        raise RunDirError(f"run {run.id} was stopped before it had begun: start a new one with ridgepole run")
    return run


def has_begun(run: RunInfo) -> bool:
    """Whether all that a run writes of itself before it begins is there: without it nobody knows what it was to do."""
    return bool(run.fields and run.json(rundir.RESOLVED) and run.json(rundir.PROVENANCE))


def check_config(run: RunInfo, config: Mapping[str, Any], allow: Sequence[str]) -> None:
    """Compares the stored description with today's.

    Args:
        run: The stored run.
        config: Today's resolved description.
        allow: Keys that may differ.

    Raises:
        ConfigError: If anything else differs, or an allowed key is in neither.
    """
    problems = differences(run.json(rundir.RESOLVED), config, allow, f"run {run.id}")
    if problems:
        raise ConfigError(problems)


def differences(before: Mapping[str, Any], config: Mapping[str, Any], allow: Sequence[str], what: str) -> list[Problem]:
    """What speaks against going on with a pipeline that is not what it was.

    Args:
        before: The stored description.
        config: Today's.
        allow: Keys that may differ.
        what: What goes on, such as `run 20261122-…`.
    """
    stored, now = dict(flat(before)), dict(flat(config))
    free = (*allow, *_FREE, *_silenced(before), *_silenced(config))
    keys = [*stored, *(key for key in now if key not in stored)]
    problems = [
        Problem(f"--allow-change {key}: there is no such key", hint="give it as the list of changes shows it")
        for key in allow
        if not any(_below(known, (key,)) for known in keys)
    ]
    changed = [key for key in keys if stored.get(key, _MISSING) != now.get(key, _MISSING) and not _below(key, free)]
    if changed:
        lines = [f"{key}: {_shown(stored.get(key, _MISSING))} -> {_shown(now.get(key, _MISSING))}" for key in changed]
        hint = f"change it back, or accept it with --allow-change {changed[0]}"
        problems.append(Problem(f"the pipeline is not what {what} was", hint=hint, detail="\n".join(lines)))
    return problems


def check_place(run: RunInfo, plan: Plan, resumption: Resumption) -> None:
    """Compares the processes that were done, and the one that was running, with today's.

    Args:
        run: The stored run.
        plan: The pipeline as it is described today.
        resumption: Where the run goes on.

    Raises:
        ConfigError: If today's pipeline does not begin with them.
    """
    done = [str(outcome["name"]) for outcome in resumption.outcomes]
    begun = [*done, resumption.inside] if resumption.inside is not None else done
    now = [part.name for part in plan.processes]
    if now[: len(begun)] == begun:
        return
    words = [f"{name!r} was done" for name in done]
    if resumption.inside is not None:
        words.append(f"{resumption.inside!r} was running")
    said = f"run {run.id} can't go on from {resumption.name}, when {' and '.join(words)}; today they are: "
    hint = "put them back as they were; new ones may only come behind them"
    raise ConfigError([Problem(said + (", ".join(now) or "none"), hint=hint)])


def changed_code(run: RunInfo, plan: Plan) -> Iterator[str]:
    """What has changed in the user's code, and in what it computes with, since the run was started; a line each."""
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


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A nested description as dotted keys and plain values."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


_MISSING = object()


def _silenced(config: Mapping[str, Any]) -> list[str]:
    """The loggers and displays that `logger = false` and `progress = false` have put a null object in the place of."""
    null = ("NullLogger", "NullProgressManager")
    return [f"permanences.{name}" for name, table in config.get("permanences", {}).items() if table.get("type") in null]


def _shown(value: object) -> str:
    return "(not there)" if value is _MISSING else repr(value)


def _below(key: str, prefixes: Sequence[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
