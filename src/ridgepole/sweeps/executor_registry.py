"""The names of executors, built in or of installed plugins, and where their classes are.

A plugin announces its class by an entry point in the group `ridgepole.executors`.
"""

from __future__ import annotations

_GROUP = "ridgepole.executors"
_BUILT_IN = {
    "inline": "ridgepole.sweeps.executors.inline:InlineExecutor",
    "process": "ridgepole.sweeps.executors.process:ProcessExecutor",
    "ray": "ridgepole.sweeps.executors.ray:RayExecutor",
    "slurm": "ridgepole.sweeps.executors.slurm:SlurmExecutor",
    "wandb": "ridgepole.sweeps.executors.wandb:WandbExecutor",
}


def executor_path(name: str) -> str | None:
    """Return the path `module:Class` of an executor, or None if the name is unknown."""
    return _BUILT_IN.get(name) or _with_plugins().get(name)


def executor_names() -> tuple[str, ...]:
    """Return the names that `executor` may have in a sweep's file."""
    return tuple(sorted(_with_plugins()))


def _with_plugins() -> dict[str, str]:
    # Slow to import, and needed for a plugin or an error only
    from importlib.metadata import entry_points

    return {entry.name: entry.value for entry in entry_points(group=_GROUP)} | _BUILT_IN
