"""`ridgepole check`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ridgepole.cli.faults import show_problems
from ridgepole.cli.output import counted, say, say_json
from ridgepole.errors import ConfigError, Problem
from ridgepole.pipeline.api import Pipeline
from ridgepole.pipeline.spec.lint import resume_notes

if TYPE_CHECKING:
    from ridgepole.sweeps.spec.spec import SweepSpec


def call(arguments: argparse.Namespace) -> int:
    """Print the problems of a file and what a resume could not restore; return 2 for errors."""
    # A user's module may print at import, which is not part of the result
    with contextlib.redirect_stdout(sys.stderr):
        if _is_sweep_file(Path(arguments.file)):
            problems, notes, summary = _sweep_file(arguments)
        else:
            problems, notes, summary = _pipeline(arguments)
            problems += [each for each in _sweep(arguments) if each not in problems]
    wrong = any(problem.severity == "error" for problem in problems)
    if arguments.json:
        say_json([problem.as_dict() for problem in (*problems, *notes)])
    elif problems:
        show_problems(problems)
    if not wrong and not arguments.json:
        say(summary)
        for note in notes:
            say(note.message)
    return 2 if wrong else 0


def _pipeline(arguments: argparse.Namespace) -> tuple[list[Problem], list[Problem], str]:
    """Return the pipeline's problems, what a resume could not restore, and a line for success."""
    try:
        plan = Pipeline.from_toml(arguments.file, arguments.overrides).plan()
    except ConfigError as error:
        return list(error.problems), [], ""
    declared = sum(not part.default for part in plan.permanences)
    counts = f"{counted(declared, 'permanence')}, {counted(len(plan.processes), 'process')}"
    return list(plan.warnings), resume_notes(plan), f"{arguments.file}: ok, {counts}"


def _is_sweep_file(path: Path) -> bool:
    """Return whether a file is a sweep's own, not a pipeline's."""
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return True
    from ridgepole.config import read
    from ridgepole.sweeps.spec.reading import PIPELINE_TABLES

    try:
        keys = read(path).values.keys()
    except ConfigError:
        return False
    return not PIPELINE_TABLES & keys and bool({"method", "parameters"} & keys)


def _sweep_file(arguments: argparse.Namespace) -> tuple[list[Problem], list[Problem], str]:
    """Return the problems of a sweep's file and its parameters, none, and a line for success."""
    from ridgepole.sweeps.api import pipeline_of
    from ridgepole.sweeps.run.program import find_program, program_of
    from ridgepole.sweeps.run.validate import check_pipeline
    from ridgepole.sweeps.spec.spec import read_sweep

    try:
        spec = read_sweep(arguments.file)
        problems = [*spec.warnings, *_endless(spec)]
        summary = f"{arguments.file}: ok, {counted(len(spec.space.names), 'parameter')}"
        if program_of(spec) is not None:
            find_program(spec)
            return problems, [], f"{summary} of {spec.program or 'a command'}"
        if spec.options.pipeline is None:
            return problems, [], f"{summary}; it names no pipeline to compare them with"
        problems += check_pipeline(spec, pipeline_of(spec), arguments.overrides)
    except ConfigError as error:
        return list(error.problems), [], ""
    return problems, [], f"{summary} of {spec.options.pipeline}"


def _sweep(arguments: argparse.Namespace) -> list[Problem]:
    """Return the problems of the `[sweep]` table, and of its parameters in the pipeline."""
    from ridgepole.config import read

    file = Path(arguments.file)
    try:
        if "sweep" not in read(file).values:
            return []
        from ridgepole.sweeps.run.validate import check_pipeline
        from ridgepole.sweeps.spec.spec import read_sweep

        spec = read_sweep(file)
        return [*spec.warnings, *_endless(spec), *check_pipeline(spec, file, arguments.overrides)]
    except ConfigError as error:
        return list(error.problems)


def _endless(spec: SweepSpec) -> list[Problem]:
    """Warn of a sweep that `sweep start` only takes with `--max-trials`."""
    try:
        spec.limit()
    except ConfigError as error:
        return [replace(problem, severity="warning") for problem in error.problems]
    return []
