"""Fingerprint a process: its source, its parameters, and everything that comes before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

from ridgepole.pipeline.spec.injection import EMPTY, RESERVED
from ridgepole.pipeline.spec.plan import ComponentPlan, Plan, View
from ridgepole.pipeline.spec.usage import comes_from_installed, source_texts, used_by

FORMAT = 1
"""The version of fingerprints; those of different versions are never equal."""

_SHOWN_EXACTLY = (PurePath, date, datetime, time, timedelta, Decimal, Fraction, UUID, complex, bytes, range)


class IncomparableError(Exception):
    """A value or source can't be compared with that of another run."""


def identity_of(plan: Plan, process: ComponentPlan) -> str:
    """Identify a process with its parameters and those of its permanences, whatever their source.

    Raises:
        IncomparableError: If a parameter can't be compared.
    """
    permanences = {held.name: [_described(held), held.force] for held in used_by(plan, process)}
    return _digest([FORMAT, plan.settings.name, process.name, _described(process), permanences])


def fingerprint_of(plan: Plan, process: ComponentPlan, seed: int, before: str) -> str:
    """Identify everything that is known to decide the result of a process.

    Args:
        plan: The plan.
        process: The process.
        seed: The run's seed.
        before: The fingerprint of the process before it.

    Raises:
        IncomparableError: If a parameter or a source can't be compared.
    """
    sources = {each.name: _source_hashes(each.target) for each in (process, *used_by(plan, process))}
    return _digest([identity_of(plan, process), sources, seed, plan.settings.deterministic, before])


def chained(word: str, *parts: str) -> str:
    """Return the fingerprint of a process that did not simply run."""
    return _digest([word, *parts])


def _source_hashes(target: Any) -> dict[str, str]:
    """Hash each of the user's source files behind a class or function, by module name."""
    texts = source_texts(target)
    if not texts and not comes_from_installed(target):
        raise IncomparableError(f"the source of {getattr(target, '__name__', target)!r} can't be read")
    return {name: hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for name, text in texts.items()}


def _described(component: ComponentPlan) -> Any:
    given = component.arguments()
    values: dict[str, Any] = {}
    for name, parameter in component.signature.parameters.items():
        if name in component.bindings:
            bound = component.bindings[name]
            values[name] = {"ref": bound.name if isinstance(bound, View) else bound}
        elif name in given:
            values[name] = given[name]
        elif parameter.stated_default is not EMPTY:
            values[name] = parameter.default
    values |= {name: value for name, value in given.items() if name not in values and name not in RESERVED}
    target = f"{component.target.__module__}.{component.target.__qualname__}"
    return [target, {name: _plain(value, f"{component.name}.{name}") for name, value in values.items()}]


def _plain(value: Any, where: str) -> Any:
    """Convert a value to JSON that differs wherever the value does."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if value - value == 0.0 else {"float": repr(value)}
    if isinstance(value, Enum):
        return {"enum": f"{type(value).__qualname__}.{value.name}"}
    if isinstance(value, _SHOWN_EXACTLY):
        return {type(value).__name__: repr(value)}
    if isinstance(value, str | int | float):
        return {type(value).__qualname__: str(value)}
    if isinstance(value, Mapping):
        pairs = [[_plain(key, where), _plain(item, f"{where}.{key}")] for key, item in value.items()]
        return {"map": sorted(pairs, key=json.dumps)}
    if isinstance(value, set | frozenset):
        return {"set": sorted((_plain(item, where) for item in value), key=json.dumps)}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *(_plain(item, where) for item in value)]
    if is_dataclass(value) and not isinstance(value, type):
        inner = {item.name: _plain(getattr(value, item.name), f"{where}.{item.name}") for item in fields(value)}
        return {type(value).__qualname__: inner}
    if hasattr(type(value), "model_dump"):  # pydantic's
        return {type(value).__qualname__: _plain(value.model_dump(), where)}
    raise IncomparableError(f"{where} is a {type(value).__qualname__}, which can't be compared between runs")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()
