"""`ridgepole check`."""

from __future__ import annotations

import argparse
import contextlib
import sys

from ridgepole.cli.faults import show_problems
from ridgepole.cli.output import counted, say, say_json
from ridgepole.errors import ConfigError, Problem
from ridgepole.pipeline.api import Pipeline
from ridgepole.pipeline.restorable import resume_notes


def call(arguments: argparse.Namespace) -> int:
    """Prints every problem of a pipeline's file, and what a resume could not restore; 2 where there is an error."""
    summary = ""
    notes: list[Problem] = []
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a user's module prints at import is no part of the result
            plan = Pipeline.from_toml(arguments.file, arguments.overrides).plan()
        problems: list[Problem] = list(plan.warnings)
        notes = resume_notes(plan)
        declared = sum(not part.default for part in plan.permanences)
        summary = f"{arguments.file}: ok, {counted(declared, 'permanence')}, {counted(len(plan.processes), 'process')}"
    except ConfigError as error:
        problems = list(error.problems)
    if arguments.json:
        say_json([problem.as_dict() for problem in (*problems, *notes)])
    elif problems:
        show_problems(problems)
    if summary and not arguments.json:
        say(summary)
        for note in notes:
            say(note.message)
    return 0 if summary else 2
