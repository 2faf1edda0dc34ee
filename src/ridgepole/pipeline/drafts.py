"""The tables of a recipe, each with the class that it names and the parameters that it gives."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ridgepole.permanence import Permanence
from ridgepole.pipeline.injection import Signature, signature_of
from ridgepole.pipeline.recipe import RESERVED_KEYS, SECTIONS, Path_
from ridgepole.pipeline.report import Report, shown
from ridgepole.processes import is_process
from ridgepole.registry import Entry, Kind, Registry


@dataclass(slots=True, eq=False)
class Draft:
    """A table while it is being checked.

    Attributes:
        kind: Permanence or process.
        name: Its name.
        path: Where it stands.
        target: Its class or function; None where it could not be found.
        signature: What the target asks for.
        given: Parameter to its value and where it stands; `params` and flat keys alike.
        reserved: The framework's own keys.
        default: Whether the framework added it.
    """

    kind: Kind
    name: str
    path: Path_
    target: Any = None
    signature: Signature = field(default_factory=lambda: Signature({}, frozenset(), open=True))
    given: dict[str, tuple[Any, Path_]] = field(default_factory=dict)
    reserved: dict[str, Any] = field(default_factory=dict)
    default: bool = False


def read_drafts(report: Report, registry: Registry, section: str) -> list[Draft]:
    """Reads the tables of one section; what is wrong with them goes into the report."""
    tables = report.recipe.tree.get(section, {})
    if not isinstance(tables, Mapping):
        report.add((section,), f"{section} is a table of tables, not {shown(tables)}", key=True)
        return []
    kind = SECTIONS[section]
    drafts = []
    for name, table in tables.items():
        path = (section, name)
        if not isinstance(table, Mapping):
            message = f"{name!r} must be a table with a type, not {shown(table)}"
            report.add(path, message, f"write [{section}.{name}]", key=True)
            continue
        draft = Draft(kind, name, path)
        _read_keys(report, draft, table)
        _find_target(report, registry, draft, table.get("type"))
        drafts.append(draft)
    return drafts


def default_draft(name: str, target: type[Permanence]) -> Draft:
    """A permanence that the framework adds."""
    return Draft("permanence", name, ("permanences", name), target, signature_of(target), default=True)


def _read_keys(report: Report, draft: Draft, table: Mapping[str, Any]) -> None:
    path = draft.path
    for key, value in table.items():
        if key in RESERVED_KEYS[draft.kind]:
            draft.reserved[key] = value
        elif key in RESERVED_KEYS["process"]:
            message = f"{key!r} is for processes; a parameter of that name goes into params"
            report.add((*path, key), message, key=True)
        else:
            draft.given[key] = (value, (*path, key))
    params = draft.reserved.get("params", {})
    if not isinstance(params, Mapping):
        report.add((*path, "params"), f"params is a table, not {shown(params)}")
        return
    for key, value in params.items():
        here = (*path, "params", key)
        if key in draft.given or (key == "force" and "force" in draft.reserved):
            report.add(here, f"{draft.name}.{key} is given twice: in params and beside it", key=True)
        elif key == "force":
            draft.reserved["force"] = value
        else:
            draft.given[key] = (value, here)


def _find_target(report: Report, registry: Registry, draft: Draft, named: Any) -> None:
    path = (*draft.path, "type")
    if named is None:
        report.add(draft.path, f"the {draft.kind} {draft.name!r} has no type", 'add type = "..."')
    elif isinstance(named, str):
        entry = registry.find(draft.kind, named)
        if isinstance(entry, Entry):
            draft.target = entry.target
        elif isinstance(entry, str):
            report.add(path, entry, "mend or remove the plugin")
        elif not registry.problems:  # else the package that failed to import is the one thing to mend
            report.problems.append(registry.unknown(draft.kind, named, report.recipe.place(path, False)))
    elif _fits(draft.kind, named):
        draft.target = named
    else:
        classes = {"permanence": "a concrete Permanence subclass"}
        wanted = classes.get(draft.kind, "a concrete PipelineProcess subclass or a function under @process")
        lacking = ", ".join(sorted(getattr(named, "__abstractmethods__", ())))
        message = f"the type of {draft.kind} {draft.name!r} is {shown(named)}, not {wanted}"
        report.add(path, message, f"it still lacks {lacking}" if lacking else "")
    if draft.target is not None:
        _read_signature(report, draft)


def _fits(kind: Kind, named: Any) -> bool:
    if kind == "process":
        return is_process(named)
    return isinstance(named, type) and issubclass(named, Permanence) and not inspect.isabstract(named)


def _read_signature(report: Report, draft: Draft) -> None:
    try:
        draft.signature = signature_of(draft.target)
    except (TypeError, ValueError) as error:  # a constructor written in C has no signature to read
        report.add(draft.path, f"can't read the signature of {shown(draft.target)}: {error}")
        draft.target = None
        return
    for parameter in draft.signature.parameters.values():
        if parameter.unresolved and (parameter.required or parameter.name in draft.given):
            message = f"can't evaluate the annotation of {draft.target.__name__}'s parameter {parameter.name!r}"
            report.add(draft.path, f"{message}: {parameter.unresolved}", "import it outside `if TYPE_CHECKING`")
