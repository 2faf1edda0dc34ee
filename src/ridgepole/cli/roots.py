"""Find the directory of runs that a command reads."""

from __future__ import annotations

import argparse
import os
import tomllib
from pathlib import Path

from ridgepole.cli.output import complain, near

VARIABLE = "RIDGEPOLE_RUNS_DIR"
"""The environment variable that names the directory of runs where none is found."""

_RUNS = "runs"


def runs_root(arguments: argparse.Namespace, *names: str | None) -> Path:
    """Return the directory of runs, and name it on stderr if it is not the obvious one.

    `--runs-dir` comes first, then `runs/` of the working directory. Then comes `runs/` beside the
    only pipeline file in the working directory and its folders, then the environment variable.

    Args:
        arguments: The command's arguments, with `runs_dir`.
        names: The runs or sweeps that the command names. Paths need no directory of runs.
    """
    if arguments.runs_dir:
        return Path(arguments.runs_dir)
    root = Path(_RUNS)
    if root.is_dir() or (names and all(name is not None and _is_path(name) for name in names)):
        return root
    found = _beside_the_only_pipeline()
    if found is None and os.environ.get(VARIABLE):
        found = Path(os.environ[VARIABLE])
    if found is None:
        return root
    complain(f"looking for runs in {near(found)}")
    return found


def run_and_checkpoint(spec: str) -> tuple[str, str]:
    """Return the run and the checkpoint that `RUN[@CHECKPOINT]` names; the latest by default.

    The run is empty where only a checkpoint is named.
    """
    name, at, which = spec.rpartition("@")
    return (name, which) if at and not Path(spec).exists() else (spec, "latest")


def _is_path(name: str) -> bool:
    return os.sep in name or Path(name).is_dir()


def _beside_the_only_pipeline() -> Path | None:
    """Return `runs/` beside the only pipeline file here, if it exists."""
    pipelines = [file for pattern in ("*.toml", "*/*.toml") for file in Path().glob(pattern) if _is_pipeline(file)]
    if len(pipelines) != 1:
        return None
    root = pipelines[0].parent / _RUNS
    return root if root.is_dir() else None


def _is_pipeline(file: Path) -> bool:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values.get("processes"), dict)
