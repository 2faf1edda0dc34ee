"""`ridgepole check`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from ridgepole.cli.faults import show_problems
from ridgepole.cli.output import counted, say, say_json
from ridgepole.errors import ConfigError, Problem
from ridgepole.pipeline.api import Pipeline
from ridgepole.pipeline.restorable import resume_notes


def call(arguments: argparse.Namespace) -> int:
    """Prints every problem of a pipeline's file, and what a resume could not restore; 2 where there is an error."""
    with contextlib.redirect_stdout(sys.stderr):  # what a user's module prints at import is no part of the result
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
    """The problems of the pipeline, what a resume could not restore, and what there is to say where all is well."""
    try:
        plan = Pipeline.from_toml(arguments.file, arguments.overrides).plan()
    except ConfigError as error:
        return list(error.problems), [], ""
    declared = sum(not part.default for part in plan.permanences)
    counts = f"{counted(declared, 'permanence')}, {counted(len(plan.processes), 'process')}"
    return list(plan.warnings), resume_notes(plan), f"{arguments.file}: ok, {counts}"


def _sweep(arguments: argparse.Namespace) -> list[Problem]:
    """The problems of the file's `[sweep]` table, and of its parameters with the pipeline."""
    from ridgepole.config import read

    file = Path(arguments.file)
    try:
        if "sweep" not in read(file).values:
            return []
        from ridgepole.sweeps.precheck import check_pipeline
        from ridgepole.sweeps.spec import read_sweep

        spec = read_sweep(file)
        return [*spec.warnings, *check_pipeline(spec, file, arguments.overrides)]
    except ConfigError as error:
        return list(error.problems)
