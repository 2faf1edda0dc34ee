"""Whether a pipeline can be planned with a sweep's parameters: asked before the first trial."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ridgepole.errors import ConfigError, Place, Problem
from ridgepole.pipeline.api import Pipeline
from ridgepole.pipeline.overlay import Overlay
from ridgepole.sweeps.kinds import Axis, Parameter
from ridgepole.sweeps.reading import Path_, read
from ridgepole.sweeps.spec import SweepSpec

_PLANS = 300
"""How many plans are made at most: one for the first value of everything, one for each further telling value."""


def check_pipeline(spec: SweepSpec, file: Path, overrides: Sequence[str] = ()) -> list[Problem]:
    """Plans a pipeline with telling values of the parameters: every choice, both ends of a range, one at a time.

    Args:
        spec: The sweep.
        file: The pipeline's file.
        overrides: `-s` values below the sweep's parameters.

    Returns:
        What is doubtful about the pipeline.

    Raises:
        ConfigError: With all that is wrong: a parameter that matches nothing or two things, a value that does not fit,
            or what is wrong with the pipeline itself.
    """
    pipeline = Pipeline.from_toml(file, overrides)
    places = places_of(spec)
    problems: dict[Problem, None] = {}
    warnings: list[Problem] = []
    for values in telling(spec):
        try:
            warnings += pipeline.with_overlay(Overlay(values, places=places)).plan().warnings
        except ConfigError as error:
            problems |= dict.fromkeys(problem for problem in error.problems if problem.severity == "error")
    if problems:
        raise ConfigError(problems)
    return list(dict.fromkeys(warnings))


def description(spec: SweepSpec, file: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The pipeline as plain JSON values, with the first telling values of the parameters; secrets are masked.

    Raises:
        ConfigError: If it can't be planned.
    """
    plan = Pipeline.from_toml(file, overrides).with_overlay(Overlay(next(telling(spec)))).plan()
    described: dict[str, Any] = json.loads(json.dumps(plan.resolved(), default=str))
    return described


def telling(spec: SweepSpec) -> Iterator[Mapping[str, Any]]:
    """Values of all parameters at which something may be wrong."""
    samples = {name: _samples(each) for name, each in spec.space.parameters.items()}
    first = {name: values[0] for name, values in samples.items()} | spec.space.constants
    yield first
    made = 1
    for name, values in samples.items():
        for value in values[1:]:
            if made >= _PLANS:
                return
            made += 1
            yield first | {name: value}


def _samples(parameter: Parameter) -> list[Any]:
    values = getattr(parameter, "values", None)
    if values is not None:
        return list(values)
    if isinstance(parameter, Axis):
        return [parameter.at(0), parameter.at(parameter.size - 1)]
    law: Any = parameter.distribution()
    return [parameter.decode(law.low), parameter.decode(law.high)]


def places_of(spec: SweepSpec) -> dict[str, Place]:
    """Where the parameters stand in the sweep's file, by flat name; empty for a mapping."""
    if spec.file is None:
        return {}
    written = read(spec.file)
    found: dict[str, Place] = {}

    def visit(table: Any, path: Path_, name: str) -> None:
        for key, value in table.items():
            inner = f"{name}.{key}" if name else str(key)
            place = written.place((*path, key), True)
            if place is not None:
                found[inner] = place
            if isinstance(value, Mapping) and isinstance(value.get("parameters"), Mapping):
                visit(value["parameters"], (*path, key, "parameters"), inner)

    visit(written.values.get("parameters", {}), ("parameters",), "")
    return found
