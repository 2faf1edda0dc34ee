"""Plan a pipeline with a sweep's parameters before the first trial, to report errors early."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ridgepole.errors import ConfigError, Place, Problem
from ridgepole.pipeline.api import Pipeline
from ridgepole.pipeline.trial_hook import TrialHook
from ridgepole.sweeps.extras import need
from ridgepole.sweeps.spec.checker import KeyPath
from ridgepole.sweeps.spec.parameter_types import FiniteParameter, Parameter
from ridgepole.sweeps.spec.reading import read
from ridgepole.sweeps.spec.spec import SweepSpec

_PLANS = 300
"""The most plans to make: one with the first value of each parameter, then one a further value."""


def check_pipeline(spec: SweepSpec, file: Path, overrides: Sequence[str] = ()) -> list[Problem]:
    """Plan a pipeline with every choice and both ends of every range, one at a time.

    Args:
        spec: The sweep.
        file: The pipeline's file.
        overrides: `-s` values below the sweep's parameters.

    Returns:
        Warnings about the pipeline.

    Raises:
        ConfigError: With all problems: of the pipeline itself, of parameters that match nothing or
            two things, of values that don't fit.
    """
    pipeline = Pipeline.from_toml(file, overrides)
    places = places_of(spec)
    problems: dict[Problem, None] = {}
    warnings: list[Problem] = []
    for values in _test_values(spec):
        try:
            warnings += pipeline.for_trial(TrialHook(values, places=places)).plan().warnings
        except ConfigError as error:
            problems |= dict.fromkeys(problem for problem in error.problems if problem.severity == "error")
    if problems:
        raise ConfigError(problems)
    return list(dict.fromkeys(warnings))


def describe_pipeline(spec: SweepSpec, file: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the resolved pipeline as plain JSON values; secrets are masked.

    Raises:
        ConfigError: If it can't be planned.
    """
    plan = Pipeline.from_toml(file, overrides).for_trial(TrialHook(next(_test_values(spec)))).plan()
    described: dict[str, Any] = json.loads(json.dumps(plan.resolved(), default=str))
    return described


def places_of(spec: SweepSpec) -> dict[str, Place]:
    """Return where the parameters are in the sweep's file, by flat name; empty for a mapping."""
    if spec.file is None:
        return {}
    written = read(spec.file)
    found: dict[str, Place] = {}

    def visit(table: Any, path: KeyPath, name: str) -> None:
        for key, value in table.items():
            inner = f"{name}.{key}" if name else str(key)
            place = written.place((*path, key), True)
            if place is not None:
                found[inner] = place
            if isinstance(value, Mapping) and isinstance(value.get("parameters"), Mapping):
                visit(value["parameters"], (*path, key, "parameters"), inner)

    visit(written.values.get("parameters", {}), ("parameters",), "")
    return found


def _test_values(spec: SweepSpec) -> Iterator[Mapping[str, Any]]:
    """Yield parameter values that are likely to reveal a problem."""
    space = spec.space
    samples = {name: _samples(each) for name, each in space.parameters.items()}
    first = {name: values[0] for name, values in samples.items()} | space.constants

    def with_parents(name: str) -> dict[str, Any]:
        """Return values for which a parameter exists."""
        found: dict[str, Any] = {}
        for parent, allowed in space.conditions.get(name, {}).items():
            found |= with_parents(parent) | {parent: allowed[0]}
        return found

    yield space.complete(first)
    further = (
        space.complete(first | with_parents(name) | {name: value})
        for name, values in samples.items()
        for value in values[0 if name in space.conditions else 1 :]
    )
    constant = (space.complete(first | with_parents(name)) for name in space.constants if name in space.conditions)
    yield from islice(chain(further, constant), _PLANS - 1)


def _samples(parameter: Parameter) -> list[Any]:
    values = getattr(parameter, "values", None)
    if values is not None:
        return list(values)
    if isinstance(parameter, FiniteParameter):
        return [parameter.at(0), parameter.at(parameter.size - 1)]
    need("optuna", "a sweep")
    drawn: Any = parameter.optuna_distribution()
    return [parameter.decode(drawn.low), parameter.decode(drawn.high)]
