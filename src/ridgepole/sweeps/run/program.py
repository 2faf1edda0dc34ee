"""The program that a sweep's trials run: W&B's `program` and `command`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole.errors import ConfigError, Problem, text_of
from ridgepole.sweeps.run.targets import Target
from ridgepole.sweeps.run.trial import Trial
from ridgepole.sweeps.spec.program import DEFAULT_COMMAND, Program
from ridgepole.sweeps.spec.spec import SweepSpec


@dataclass(frozen=True, kw_only=True)
class ProgramTarget(Target):
    """A program with a command line."""

    program: Program
    directory: str  # the working directory, absolute
    interpreter: str
    grace_seconds: float

    def __call__(self, trial: Trial) -> object:
        """Run the program; its objective is the logged metric.

        Raises:
            SweepError: If it fails.
            KeyboardInterrupt: If it was stopped, or pruned.
        """
        from ridgepole.sweeps.run.program_trial import ProgramTrial  # it loads what a run of its own needs

        ProgramTrial(self, trial).run()
        return None


def program_target(spec: SweepSpec, root: Path, directory: Path | None = None) -> ProgramTarget:
    """Return the target of a sweep with a program, after checking that the program can be run.

    Args:
        spec: The sweep, which has a program.
        root: The directory that holds runs.
        directory: The working directory of its start; None at the start.

    Raises:
        ConfigError: If the program does not exist, or Python can't read it.
    """
    program, directory = find_program(spec, directory)
    return ProgramTarget(
        root=str(root.absolute()),
        metric=spec.metric,
        metrics=spec.metrics,
        program=program,
        directory=str(directory),
        interpreter=sys.executable,
        grace_seconds=spec.options.grace_seconds,
    )


def find_program(spec: SweepSpec, directory: Path | None = None) -> tuple[Program, Path]:
    """Return a sweep's program and the working directory of its trials.

    This is the given directory, else the current one, or that of the sweep's file if only that has
    the program.

    Raises:
        ConfigError: If the program does not exist, or Python can't read it.
    """
    program = program_of(spec)
    assert program is not None
    if directory is None:
        directory = Path.cwd()
        beside = spec.file.absolute().parent if spec.file is not None else directory
        if program.program is not None and not (directory / program.program).is_file():
            directory = beside if (beside / program.program).is_file() else directory
    problems = list(_problems(spec, program, directory))
    if problems:
        raise ConfigError(problems)
    return program, directory


def program_of(spec: SweepSpec) -> Program | None:
    """Return the program of a sweep's trials; None where they run a pipeline or a function."""
    if spec.in_pipeline or spec.options.pipeline is not None or (spec.program is None and not spec.command):
        return None
    config: Mapping[str, Any] = spec.config
    return Program(
        program=spec.program,
        command=spec.command or DEFAULT_COMMAND,
        parameters=config.get("parameters", {}),
        prints_metric=(config.get("metric") or {}).get("from") is not None,
    )


def _problems(spec: SweepSpec, program: Program, directory: Path) -> Iterator[Problem]:
    """Yield what is wrong with the program itself."""
    if program.program is None:
        return
    path = directory / program.program
    if not path.is_file():
        message = f"the program {program.program!r} does not exist in {directory}"
        yield Problem(message, spec.program_place, "write its path from the directory that the sweep is started in")
        return
    words = program.command
    is_python = "${interpreter}" in words and words[words.index("${interpreter}") + 1 :][:1] == ("${program}",)
    if is_python:
        try:
            compile(path.read_bytes(), str(path), "exec")
        except (SyntaxError, ValueError) as error:
            where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            message = f"Python can't read the program {program.program!r}: {text_of(error).partition(' (')[0]}{where}"
            yield Problem(message, spec.program_place, 'for another language, write command: ["${program}", "${args}"]')
