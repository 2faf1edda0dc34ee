"""`ridgepole check`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ridgepole.cli.faults import show_problems
from ridgepole.cli.output import say, say_json
from ridgepole.errors import ConfigError, Problem
from ridgepole.pipeline.api import Pipeline


def call(arguments: argparse.Namespace) -> int:
    """Prints every problem of a pipeline's file; 2 where one of them is an error."""
    summary = ""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a user's module prints at import is no part of the result
            plan = Pipeline.from_toml(arguments.file, arguments.overrides).plan()
            problems: list[Problem] = [*plan.warnings, *_sweep(Path(arguments.file), arguments.overrides)]
        declared = sum(not part.default for part in plan.permanences)
        summary = f"{arguments.file}: ok, {_count(declared, 'permanence')}, {_count(len(plan.processes), 'process')}"
    except ConfigError as error:
        problems = list(error.problems)
    if arguments.json:
        say_json([problem.as_dict() for problem in problems])
    elif problems:
        show_problems(problems)
    if summary and not arguments.json:
        say(summary)
    return 0 if summary else 2


def _sweep(file: Path, overrides: Sequence[str]) -> list[Problem]:
    """What is doubtful about the file's `[sweep]` table.

    Raises:
        ConfigError: If it is wrong, or its parameters don't fit the pipeline.
    """
    from ridgepole.config import read

    if "sweep" not in read(file).values:
        return []
    from ridgepole.sweeps.precheck import check_pipeline
    from ridgepole.sweeps.spec import read_sweep

    spec = read_sweep(file)
    return [*spec.warnings, *check_pipeline(spec, file, overrides)]


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
