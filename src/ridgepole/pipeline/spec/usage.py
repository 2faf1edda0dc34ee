"""Read the user's source files, and find the permanences that code looks up."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ridgepole.pipeline.spec.plan import ComponentPlan, Plan

_LOOK_UP = re.compile(r"""get_permanence\(\s*["']([^"']+)["']""")
"""A permanence that code looks up by a literal name."""
_ANY_LOOK_UP = re.compile(r"get_permanence\(")


def used_by(plan: Plan, process: ComponentPlan) -> list[ComponentPlan]:
    """Return the permanences that a process uses, directly or not, in the order of construction.

    They are bound to parameters or looked up by name. Loggers and the progress display are left
    out: nothing is computed from them. If code looks permanences up by names that are not literals,
    all are returned.
    """
    candidates = {held.name: held for held in plan.permanences if held.name not in (*plan.loggers, plan.progress)}
    found: set[str] = set()
    waiting = [process]
    while waiting:
        here = waiting.pop()
        names = set(here.depends_on) | _looked_up(here.target, frozenset(candidates))
        new = (names & candidates.keys()) - found
        found |= new
        waiting += [candidates[name] for name in new]
    return [held for name, held in candidates.items() if name in found]


def _looked_up(target: Any, everything: frozenset[str]) -> frozenset[str]:
    names: set[str] = set()
    texts = source_texts(target)
    if not (texts or comes_from_installed(target)) or _file_of_module(target) is None:
        # Code that can't be read may look up anything, and so may the other cells of a notebook
        return everything
    for text in texts.values():
        literal = _LOOK_UP.findall(text)
        if len(literal) < len(_ANY_LOOK_UP.findall(text)):
            return everything
        names.update(literal)
    return frozenset(names)


@functools.lru_cache(maxsize=256)
def looked_up_in(module: ModuleType) -> frozenset[str]:
    """Return the literal names of permanences that a module looks up."""
    try:
        return frozenset(_LOOK_UP.findall(inspect.getsource(module)))
    except (OSError, TypeError):  # a notebook, or a module written in C
        return frozenset()


def is_installed(path: Path) -> bool:
    """Return whether a source file belongs to an installed package, Ridgepole included."""
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return bool(installed) or path.is_relative_to(Path(__file__).parents[2])


def comes_from_installed(target: Any) -> bool:
    """Return whether a class or function belongs to an installed package."""
    file = _file_of_module(target)
    return file is not None and is_installed(file)


def _file_of_module(target: Any) -> Path | None:
    """Return the file of a class or function; None in a notebook."""
    file = getattr(sys.modules.get(target.__module__), "__file__", None)
    return None if file is None else Path(file)


def source_texts(target: Any) -> dict[str, str]:
    """Return the user's source texts behind a class or function, by the name of the module.

    These are its own module, and all of the user's modules that this one imports, directly or
    through another.
    """
    file = _file_of_module(target)
    if file is None:  # a notebook: only the cell can be read
        try:
            return {target.__module__: inspect.getsource(target)}
        except (OSError, TypeError):
            return {}
    found: dict[str, str] = {}
    waiting = {target.__module__: file}
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
            for full in _full_names(wanted, package):
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
    """Return the text of a file and the names that it imports, relative ones with their dots."""
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


def _full_names(name: str, package: str) -> Iterator[str]:
    """Return the absolute names of a module and its parent packages, which an import runs too."""
    try:
        full = importlib.util.resolve_name(name, package or None)
    except ImportError:
        return
    words = full.split(".")
    yield from (".".join(words[:count]) for count in range(1, len(words) + 1) if words[0])


def _file_of(name: str) -> Path | None:
    """Return the file of one of the user's modules, without importing anything."""
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
