"""What decides whether a process would do the same again: its source, its parameters, and all that comes before it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from ridgepole.pipeline.advice import LOOK_UP
from ridgepole.pipeline.injection import EMPTY, RESERVED
from ridgepole.pipeline.plan import Part, Plan, View
from ridgepole.pipeline.provenance import is_installed

FORMAT = 1
"""Counts the ways in which fingerprints were made; those of another one are never equal."""

_ANY_LOOK_UP = re.compile(r"get_permanence\(")
_SHOWN_EXACTLY = (PurePath, date, datetime, time, timedelta, Decimal, Fraction, UUID, complex, bytes, range)


class IncomparableError(Exception):
    """Something can't be compared with what it was in another run; says what and why."""


# --- what a process uses


def used_by(plan: Plan, part: Part) -> list[Part]:
    """The permanences that a process uses, directly or through another: bound to parameters, or looked up by name.

    Loggers and the progress display are left out: nothing is computed from them. Where code looks permanences up by
    names that can't be read off it, all of them are meant.

    Args:
        plan: The plan.
        part: The process.

    Returns:
        The permanences in the order of construction.
    """
    parts = {held.name: held for held in plan.permanences if held.name not in (*plan.loggers, plan.progress)}
    found: set[str] = set()
    waiting = [part]
    while waiting:
        here = waiting.pop()
        names = set(here.depends_on) | _looked_up(here.target, frozenset(parts))
        new = (names & parts.keys()) - found
        found |= new
        waiting += [parts[name] for name in new]
    return [held for name, held in parts.items() if name in found]


def _looked_up(target: Any, everything: frozenset[str]) -> frozenset[str]:
    names: set[str] = set()
    for text in _texts(target).values():
        literal = LOOK_UP.findall(text)
        if len(literal) < len(_ANY_LOOK_UP.findall(text)):
            return everything
        names.update(literal)
    return frozenset(names)


# --- what is compared


def identity_of(plan: Plan, part: Part) -> str:
    """Which process this is, with which parameters, its permanences' included; not what its source says.

    Raises:
        IncomparableError: If a parameter can't be compared.
    """
    permanences = {held.name: _described(held) for held in used_by(plan, part)}
    return _digest([FORMAT, plan.settings.name, part.name, _described(part), permanences])


def fingerprint_of(plan: Plan, part: Part, seed: int, before: str) -> str:
    """All that decides what a process does, as far as it can be known.

    Args:
        plan: The plan.
        part: The process.
        seed: The run's seed.
        before: What came before it, see `Outcome.fingerprint`.

    Raises:
        IncomparableError: If a parameter or a source can't be compared.
    """
    sources = {part.name: source_of(part.target)}
    sources |= {held.name: source_of(held.target) for held in used_by(plan, part)}
    return _digest([identity_of(plan, part), sources, seed, plan.settings.deterministic, before])


def chained(word: str, *parts: str) -> str:
    """What came before the next process, where this one did not simply run."""
    return _digest([word, *parts])


def source_of(target: Any) -> dict[str, str]:
    """A hash of each source file that a class or function comes from, by the name of its module.

    These are its own module, and all of the user's modules that this one imports, directly or through another.
    Installed packages are not among them.

    Raises:
        IncomparableError: If its source can't be read.
    """
    texts = _texts(target)
    if not texts and not _is_installed_target(target):
        raise IncomparableError(f"the source of {getattr(target, '__name__', target)!r} can't be read")
    return {name: hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for name, text in texts.items()}


def _is_installed_target(target: Any) -> bool:
    file = getattr(sys.modules.get(target.__module__), "__file__", None)
    return file is not None and is_installed(Path(file))


def _described(part: Part) -> Any:
    given = part.arguments()
    values: dict[str, Any] = {}
    for name, parameter in part.signature.parameters.items():
        if name in part.bindings:
            bound = part.bindings[name]
            values[name] = {"ref": bound.name if isinstance(bound, View) else bound}
        elif name in given:
            values[name] = given[name]
        elif parameter.default is not EMPTY and type(parameter.default).__name__ != "_HAS_DEFAULT_FACTORY_CLASS":
            values[name] = parameter.default
    values |= {name: value for name, value in given.items() if name not in values and name not in RESERVED}
    target = f"{part.target.__module__}.{part.target.__qualname__}"
    return [target, {name: _plain(value, f"{part.name}.{name}") for name, value in values.items()}]


def _plain(value: Any, where: str) -> Any:
    """A value as JSON that differs wherever the value does."""
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


# --- source files


def _texts(target: Any) -> dict[str, str]:
    """The user's source texts that a class or function comes from, by the name of the module."""
    module = sys.modules.get(target.__module__)
    file = getattr(module, "__file__", None)
    if file is None:  # a notebook: all there is is the cell
        try:
            return {target.__module__: inspect.getsource(target)}
        except (OSError, TypeError):
            return {}
    found: dict[str, str] = {}
    waiting = {target.__module__: Path(file)}
    while waiting:
        name, path = waiting.popitem()
        if is_installed(path):
            continue
        read = _read(path, _stamp(path))
        if read is None:
            continue
        found[name], imported = read
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for wanted in imported:
            for full in _in_full(wanted, package):
                if full not in found and full not in waiting and (there := _file_of(full)):
                    waiting[full] = there
    return dict(sorted(found.items()))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - the cheaper of the two, for every file of every process
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=1024)
def _read(path: Path, stamp: tuple[int, int]) -> tuple[str, tuple[str, ...]] | None:  # noqa: ARG001 - part of the key
    """The text of a file and the names that it imports, relative ones with their dots."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return None
    return text, tuple(dict.fromkeys(_imports(tree)))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            joint = "" if base.endswith(".") else "."
            yield from (f"{base}{joint}{alias.name}" for alias in node.names)


def _in_full(name: str, package: str) -> Iterator[str]:
    """A module's absolute name, and those of the packages around it, which an import runs too."""
    try:
        full = importlib.util.resolve_name(name, package or None)
    except ImportError:
        return
    words = full.split(".")
    yield from (".".join(words[:count]) for count in range(1, len(words) + 1) if words[0])


def _file_of(name: str) -> Path | None:
    """The file of one of the user's modules; nothing is imported to find it."""
    top, *rest = name.split(".")
    if top in sys.stdlib_module_names or top == "ridgepole":
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    places = [Path(place, *rest) for place in spec.submodule_search_locations or ()] if rest else []
    candidates = [file for place in places for file in (place.with_name(f"{place.name}.py"), place / "__init__.py")]
    if not rest and spec.origin and spec.has_location:
        candidates = [Path(spec.origin)]
    return next((file for file in candidates if file.suffix == ".py" and file.is_file()), None)
