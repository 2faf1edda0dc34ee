"""`ridgepole check`."""

from __future__ import annotations

import argparse
import contextlib
import sys

from ridgepole.cli.faults import show_problems
from ridgepole.cli.output import counted, say, say_json
from ridgepole.errors import ConfigError, Problem
from ridgepole.pipeline.api import Pipeline


def call(arguments: argparse.Namespace) -> int:
    """Prints every problem of a pipeline's file; 2 where one of them is an error."""
    summary = ""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a user's module prints at import is no part of the result
            plan = Pipeline.from_toml(arguments.file, arguments.overrides).plan()
        problems: list[Problem] = list(plan.warnings)
        declared = sum(not part.default for part in plan.permanences)
        summary = f"{arguments.file}: ok, {counted(declared, 'permanence')}, {counted(len(plan.processes), 'process')}"
    except ConfigError as error:
        problems = list(error.problems)
    if arguments.json:
        say_json([problem.as_dict() for problem in problems])
    elif problems:
        show_problems(problems)
    if summary and not arguments.json:
        say(summary)
    return 0 if summary else 2
