"""The permanences and processes of a pipeline: read from tables, or added by default."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.composite import NullLogger
from ridgepole.loggers.local.logger import BasicLogger
from ridgepole.permanence import Permanence
from ridgepole.pipeline.spec.injection import Signature, signature_of
from ridgepole.pipeline.spec.plan import LOGGER, PROGRESS, Settings
from ridgepole.pipeline.spec.report import Report, shown
from ridgepole.pipeline.spec.spec import RESERVED_KEYS, SECTIONS, Path_
from ridgepole.pipeline.trial_hook import LISTENER, TrialHook
from ridgepole.processes import is_process
from ridgepole.progress import NullProgressManager, ProgressManager
from ridgepole.registry import Entry, Kind, Registry

_UNKNOWN = Signature(parameters={}, reserved=frozenset(), open=True)
_DISPLAYS = (ProgressManager, NullProgressManager)


@dataclass(slots=True, eq=False, kw_only=True)
class ComponentSpec:
    """A table while it is being checked.

    Attributes:
        path: Where it is in the tree.
        target: Its class or function; None if it could not be found.
        given: Parameter to its value and where it is; `params` and flat keys alike.
        reserved: The framework's own keys.
        default: Whether the framework added it.
    """

    kind: Kind
    name: str
    path: Path_
    target: Any = None
    signature: Signature = _UNKNOWN
    given: dict[str, tuple[Any, Path_]] = field(default_factory=dict)
    reserved: dict[str, Any] = field(default_factory=dict)
    default: bool = False

    def is_a(self, *classes: type) -> bool:
        """Return whether its class is known and a subclass of one of these."""
        return self.target is not None and issubclass(self.target, classes)


class ResolvedComponents(NamedTuple):
    """All permanences of a run, defaults first; the names of the loggers and of the display."""

    permanences: list[ComponentSpec]
    loggers: tuple[str, ...]
    progress: str


# --- tables


def read_components(report: Report, registry: Registry, section: str) -> list[ComponentSpec]:
    """Read the tables of one section and report their problems."""
    tables = report.spec.tree.get(section, {})
    if not isinstance(tables, Mapping):
        report.add((section,), f"{section} must be a table of tables, not {shown(tables)}", key=True)
        return []
    components = []
    for name, table in tables.items():
        path = (section, name)
        if not isinstance(table, Mapping):
            message = f"{name!r} must be a table with a type, not {shown(table)}"
            report.add(path, message, f"write [{section}.{name}]", key=True)
            continue
        component = ComponentSpec(kind=SECTIONS[section], name=name, path=path)
        _read_keys(report, component, table)
        _find_target(report, registry, component, table.get("type"))
        components.append(component)
    return components


def _read_keys(report: Report, component: ComponentSpec, table: Mapping[str, Any]) -> None:
    path = component.path
    for key, value in table.items():
        if key in RESERVED_KEYS[component.kind]:
            component.reserved[key] = value
        elif key in RESERVED_KEYS["process"]:
            message = f"{key!r} is for processes; a parameter of that name goes into params"
            report.add((*path, key), message, key=True)
        else:
            component.given[key] = (value, (*path, key))
    params = component.reserved.get("params", {})
    if not isinstance(params, Mapping):
        report.add((*path, "params"), f"params must be a table, not {shown(params)}")
        return
    for key, value in params.items():
        here = (*path, "params", key)
        if key in component.given or (key == "force" and "force" in component.reserved):
            report.add(here, f"{component.name}.{key} is given twice: in params and beside it", key=True)
        elif key == "force":
            component.reserved["force"] = value
        else:
            component.given[key] = (value, here)


def _find_target(report: Report, registry: Registry, component: ComponentSpec, named: Any) -> None:
    path, kind = (*component.path, "type"), component.kind
    if named is None:
        close = difflib.get_close_matches("type", component.given, 1, 0.7)
        where, advice = component.path, 'add type = "..."'
        if close:
            where, advice = component.given[close[0]][1], f"did you mean 'type'? {close[0]!r} would be a parameter"
        report.add(where, f"the {kind} {component.name!r} has no type", advice, key=bool(close))
    elif isinstance(named, str):
        entry = registry.find(kind, named)
        if isinstance(entry, Entry):
            component.target = entry.target
        elif isinstance(entry, str):
            report.add(path, entry, "fix or uninstall the plugin")
        elif not registry.problems:  # else the package that failed to import is the one thing to fix
            report.problems.append(registry.unknown(kind, named, report.spec.place(path, False)))
    elif _fits(kind, named):
        component.target = named
    else:
        wanted = "a concrete PipelineProcess subclass or a function under @process"
        if kind == "permanence":
            wanted = "a concrete Permanence subclass"
        lacking = ", ".join(sorted(getattr(named, "__abstractmethods__", ())))
        message = f"the type of {kind} {component.name!r} is {shown(named)}, not {wanted}"
        report.add(path, message, f"it still lacks {lacking}" if lacking else "")
    if component.target is not None:
        _read_signature(report, component)


def _fits(kind: Kind, named: Any) -> bool:
    if kind == "process":
        return is_process(named)
    return isinstance(named, type) and issubclass(named, Permanence) and not inspect.isabstract(named)


def _read_signature(report: Report, component: ComponentSpec) -> None:
    try:
        component.signature = signature_of(component.target)
    except (TypeError, ValueError) as error:  # a constructor written in C has no signature to read
        report.add(component.path, f"can't read the signature of {shown(component.target)}: {error}")
        component.target = None
        return
    for parameter in component.signature.parameters.values():
        if parameter.unresolved and (parameter.required or parameter.name in component.given):
            message = f"can't evaluate the annotation of {component.target.__name__}'s parameter {parameter.name!r}"
            report.add(component.path, f"{message}: {parameter.unresolved}", "import it outside `if TYPE_CHECKING`")


# --- defaults


def add_default_components(
    report: Report, declared: list[ComponentSpec], settings: Settings, hook: TrialHook | None = None
) -> ResolvedComponents:
    """Add the progress display, the local record and a sweep's listener to what is declared.

    A `false` in the settings replaces declared loggers or displays by null objects. The listener
    stays in any case.
    """
    _check_reserved_names(report, declared)
    taken = {component.name for component in declared}
    displays, progress = _displays(report, declared, settings, taken)
    records, loggers = _loggers(report, declared, settings, taken)
    permanences = [*displays, *records, *declared]
    listener = hook.listener() if hook is not None else None
    if listener is not None:
        permanences.append(_default_component(LISTENER, listener))
        loggers = (*loggers, LISTENER)
    return ResolvedComponents(permanences, loggers, progress)


def _displays(
    report: Report, declared: list[ComponentSpec], settings: Settings, taken: set[str]
) -> tuple[list[ComponentSpec], str]:
    """Return the displays to add, and the name of the one that is used."""
    displays = [component for component in declared if component.is_a(*_DISPLAYS)]
    for extra in displays[1:]:
        message = f"a run has one progress manager; {displays[0].name!r} is one already"
        report.add(extra.path, message, key=True)
    if not settings.progress:
        _silence(displays, NullProgressManager)
    if displays:
        return [], displays[0].name
    if settings.progress:
        added = _default_component(_unused_name(PROGRESS, taken), ProgressManager)
    else:
        added = _default_component(PROGRESS, NullProgressManager)
    return [added], added.name


def _loggers(
    report: Report, declared: list[ComponentSpec], settings: Settings, taken: set[str]
) -> tuple[list[ComponentSpec], tuple[str, ...]]:
    """Return the loggers to add, and the names of all."""
    loggers = [component for component in declared if component.is_a(BaseLoggerManager)]
    added: list[ComponentSpec] = []
    if not settings.logger:
        _silence(loggers, NullLogger)
        added = [] if loggers else [_default_component(LOGGER, NullLogger)]
    else:
        records = [logger for logger in loggers if logger.is_a(BasicLogger) and "log_dir" not in logger.given]
        for extra in records[1:]:
            message = f"a run has one record in its run directory; {records[0].name!r} is one already"
            report.add(extra.path, message, "give this one a log_dir of its own", key=True)
        added = [] if records else [_default_component(_unused_name(LOGGER, taken), BasicLogger)]
    return added, tuple(logger.name for logger in (*added, *loggers))


def _default_component(name: str, target: type[Permanence]) -> ComponentSpec:
    return ComponentSpec(
        kind="permanence",
        name=name,
        path=("permanences", name),
        target=target,
        signature=signature_of(target),
        default=True,
    )


def _silence(components: list[ComponentSpec], null: type[Permanence]) -> None:
    """Replace each by a null object under its own name."""
    for component in components:
        component.target, component.signature, component.given = null, signature_of(null), {}


def _check_reserved_names(report: Report, declared: list[ComponentSpec]) -> None:
    reserved = {LOGGER: ((BaseLoggerManager,), "logger"), PROGRESS: (_DISPLAYS, "progress manager")}
    for component in declared:
        name, hint = component.name, "give it another name"
        if name == LISTENER:
            report.add(component.path, f"the name {LISTENER!r} is reserved for sweeps", hint, key=True)
        classes, kind = reserved.get(name, ((object,), ""))
        if component.target is not None and not issubclass(component.target, classes):
            message = f"the name {name!r} is reserved for a {kind}, and {component.target.__name__} is not one"
            report.add(component.path, message, hint, key=True)


def _unused_name(name: str, taken: set[str]) -> str:
    return name if name not in taken else _unused_name(f"local_{name}", taken)
