"""Check a pipeline against the classes that it names, and plan a run. Constructs nothing."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

from ridgepole.checkpoint.policy import OFF, CheckpointPolicy
from ridgepole.errors import ConfigError, MissingExtraError, did_you_mean
from ridgepole.extras import install_command
from ridgepole.labels import checked_tag
from ridgepole.mirror.settings import MirrorPolicy, need_obstore, policy_of, url_fault
from ridgepole.pipeline.spec.binding import Binder, in_order
from ridgepole.pipeline.spec.components import (
    ComponentSpec,
    ResolvedComponents,
    add_default_components,
    read_components,
)
from ridgepole.pipeline.spec.injection import EMPTY
from ridgepole.pipeline.spec.lint import secrets_of, warn_incomplete_state, warn_secrets, warn_unused
from ridgepole.pipeline.spec.plan import ComponentPlan, Plan, Retries, Settings, View
from ridgepole.pipeline.spec.report import Report, shown
from ridgepole.pipeline.spec.spec import RESERVED_KEYS, SECTIONS, TOP_LEVEL, Path_, PipelineSpec
from ridgepole.registry import Registry
from ridgepole.watch.policy import FAULTS, NO_GUARD, GuardPolicy, NotifyPolicy


def compile_plan(spec: PipelineSpec) -> Plan:
    """Check a pipeline and return its plan, with warnings.

    Raises:
        ConfigError: With every problem of the pipeline, warnings included, if one of them is an
            error.
    """
    report = Report(spec)
    settings, policy, guard = _settings(report)
    _check_top_level(report)
    registry = Registry.load(settings.package, spec.directory, spec.place(("pipeline", "package"), False))
    report.problems += registry.problems
    declared = read_components(report, registry, "permanences")
    components = add_default_components(report, declared, settings, spec.hook)
    processes = read_components(report, registry, "processes")
    permanence_plans = _ordered(report, components.permanences, components)
    process_plans = _ordered(report, processes, components)
    plans = [*permanence_plans, *process_plans]
    if not report.failed:  # a permanence that seems unused may be used by a component with an error
        warn_unused(report, components, plans)
    _check_ranks(report, components, plans)
    warn_secrets(report)
    if policy.enabled:
        warn_incomplete_state(report, [*components.permanences, *processes])
    notify = _notify(report)
    if report.failed:
        raise ConfigError(report.sorted())
    return Plan(
        settings=settings,
        policy=policy,
        guard=guard,
        permanences=permanence_plans,
        processes=process_plans,
        loggers=components.loggers,
        progress=components.progress,
        file=spec.file,
        directory=spec.directory,
        source=spec.source or b"",
        warnings=tuple(report.sorted()),
        secrets=secrets_of(spec),
        overrides=spec.overrides,
        environ=frozenset(map(_resolved_key, spec.environ)),
        notify=notify,
        trial=spec.hook.label if spec.hook is not None else None,
    )


def _resolved_key(path: Path_) -> str:
    """Return the key of a value in the resolved description, which has parameters in `params`."""
    keys = list(itertools.takewhile(lambda key: isinstance(key, str), path))
    if keys[0] in SECTIONS and len(keys) > 2 and keys[2] not in RESERVED_KEYS[SECTIONS[str(keys[0])]]:
        keys.insert(2, "params")
    return ".".join(map(str, keys))


# --- the pipeline table


def _settings(report: Report) -> tuple[Settings, CheckpointPolicy, GuardPolicy]:
    """Read the `[pipeline]` table; if it does not fit, keep what the other checks need."""
    table = report.spec.tree.get("pipeline", {})
    if not isinstance(table, Mapping):
        report.add(("pipeline",), f"pipeline must be a table, not {shown(table)}", key=True)
        table = {}
    rest = {key: value for key, value in table.items() if key not in ("checkpoint", "guard")}
    settings = report.convert(Settings, rest, ("pipeline",), "pipeline")
    if settings is None:
        package = table.get("package")
        settings = Settings(package=package if isinstance(package, str) else None)
    for index, tag in enumerate(settings.tags):
        try:
            checked_tag(tag)
        except ValueError as error:
            report.add(("pipeline", "tags", index), str(error))
    if settings.mirror is not None:
        _check_mirror(report, settings.mirror)
    return settings, _policy(report, table.get("checkpoint", True)), _guard(report, table.get("guard", True))


def _check_mirror(report: Report, given: MirrorPolicy | str) -> None:
    """Report what can be known of a mirror without its network."""
    fault = url_fault(policy_of(given).url)
    if fault is not None:
        report.add(("pipeline", "mirror", *([] if isinstance(given, str) else ["url"])), *fault)
        return
    try:
        need_obstore()
    except MissingExtraError as error:
        report.add(("pipeline", "mirror"), str(error))


def _policy(report: Report, given: Any) -> CheckpointPolicy:
    path = ("pipeline", "checkpoint")
    if given is False:
        return OFF
    if isinstance(given, Mapping):
        given = report.convert(CheckpointPolicy, given, path, "checkpoint") or True
    if isinstance(given, CheckpointPolicy):
        return given if given.enabled else OFF
    if given is not True:
        report.add(path, f"checkpoint must be a table, true or false, not {shown(given)}")
    return CheckpointPolicy()


def _guard(report: Report, given: Any) -> GuardPolicy:
    """Read the table of each fault."""
    path = ("pipeline", "guard")
    if given is False:
        return NO_GUARD
    if isinstance(given, GuardPolicy):
        return given
    if not isinstance(given, Mapping):
        if given is not True:
            report.add(path, f"guard must be a table, true or false, not {shown(given)}")
        return GuardPolicy()
    faults: dict[str, Any] = {}
    for key, value in given.items():
        if key not in FAULTS:
            hint = did_you_mean(key, FAULTS) or f"known faults: {', '.join(FAULTS)}"
            report.add((*path, key), f"guard has no key {key!r}", hint, key=True)
        elif isinstance(value, Mapping):
            faults[key] = report.convert(FAULTS[key], value, (*path, key), f"guard.{key}")
        elif value is False:
            faults[key] = None
        elif value is not True:
            report.add((*path, key), f"guard.{key} must be a table, true or false, not {shown(value)}")
    return GuardPolicy(**faults)


def _notify(report: Report) -> NotifyPolicy | None:
    given = report.spec.tree.get("notify")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        report.add(("notify",), f"notify must be a table, not {shown(given)}")
        return None
    if find_spec("apprise") is None:
        report.add(("notify",), "notify needs apprise", install_command("notify"), key=True)
    if isinstance(given.get("urls"), str):  # it is not shown: it may be a secret
        report.add(("notify", "urls"), "notify.urls must be a list of texts, not a text")
        return None
    return report.convert(NotifyPolicy, given, ("notify",), "notify")  # type: ignore[no-any-return]


def _check_top_level(report: Report) -> None:
    if {"method", "parameters"} <= report.spec.tree.keys():
        report.add(("method",), "this file is a sweep, not a pipeline", "run it with ridgepole sweep start", key=True)
        return
    for key in report.spec.tree:
        if key not in TOP_LEVEL:
            known = f"known tables: {', '.join(TOP_LEVEL)} and extends"
            report.add(
                (key,), f"unknown table or key {key!r}", did_you_mean(key, [*TOP_LEVEL, "extends"]) or known, key=True
            )


# --- one table


def _plan(report: Report, component: ComponentSpec, components: ResolvedComponents) -> ComponentPlan:
    """Bind and check the parameters of a table."""
    values: dict[str, Any] = {}
    bindings: dict[str, str | View | None] = {}
    if component.target is not None:
        values, bindings = _parameters(report, component, components)
    needed: list[str] = []
    for bound in bindings.values():
        needed += components.loggers if bound is View.ALL_LOGGERS else [bound] if isinstance(bound, str) else []
    needed += _names(report, component, "depends_on", [other.name for other in components.permanences])
    own = component.name if component.kind == "permanence" else ""
    return ComponentPlan(
        name=component.name,
        target=component.target,
        signature=component.signature,
        values=values,
        bindings=bindings,
        place=None if component.default else report.spec.place(component.path, False),
        depends_on=tuple(dict.fromkeys(name for name in needed if name != own)),
        ranks=_ranks(report, component),
        default=component.default,
        force=_force(report, component),
        retries=_retries(report, component),
        cache=_cache(report, component),
    )


def _parameters(
    report: Report, component: ComponentSpec, components: ResolvedComponents
) -> tuple[dict[str, Any], dict[str, str | View | None]]:
    """Return the given values, and the permanences that fill the other parameters."""
    binder = Binder(component, components.permanences, components.progress, report)
    values: dict[str, Any] = {}
    bindings: dict[str, str | View | None] = {}
    for name, parameter in component.signature.parameters.items():
        given = component.given.get(name)
        if binder.is_reference(parameter, given):
            bound = binder.bind(parameter, given)
            if bound.found:
                bindings[name] = bound.name
        elif given is not None:
            values[name] = report.fit_parameter(parameter, given[0], given[1], f"{component.name}.{name}")
        elif parameter.required and not parameter.unresolved:
            kind = "" if parameter.annotation is EMPTY else f" ({inspect.formatannotation(parameter.annotation)})"
            hint = f"add {name} = ...{kind}"
            if any(other.name == name for other in components.permanences):
                hint = f'annotate it with the class of the permanence, or add {name} = {{ ref = "{name}" }}'
            report.add(component.path, f"{component.target.__name__} needs the parameter {name!r}", hint)
    for key, (value, path) in component.given.items():
        if key in component.signature.parameters:
            continue
        if component.signature.open:
            values[key] = report.fit(Any, value, path, f"{component.name}.{key}")
            continue
        names = list(component.signature.parameters)
        hint = did_you_mean(key, [*names, *RESERVED_KEYS[component.kind]])
        hint = hint or (f"its parameters: {', '.join(names)}" if names else "it has no parameters")
        report.add(path, f"{component.target.__name__} has no parameter {key!r}", hint, key=True)
    return values, bindings


def _force(report: Report, component: ComponentSpec) -> bool:
    if "force" not in component.reserved:
        return False
    flat = (*component.path, "force")
    path = flat if report.spec.at(flat) is not None else (*component.path, "params", "force")
    return bool(report.convert(bool, component.reserved["force"], path, f"{component.name}.force"))


def _ranks(report: Report, component: ComponentSpec) -> Literal["all", "zero"]:
    stored = getattr(component.target, "state_ranks", "zero")
    if stored not in ("all", "zero"):
        message = f"{component.name}.state_ranks must be 'all' or 'zero', not {shown(stored)}"
        report.add((*component.path, "type"), message)
    ranks = component.reserved.get("ranks", getattr(component.target, "ranks", "all"))
    if ranks not in ("all", "zero"):
        report.add((*component.path, "ranks"), f"ranks must be 'all' or 'zero', not {shown(ranks)}")
        return "all"
    return ranks  # type: ignore[no-any-return]


def _check_ranks(report: Report, components: ResolvedComponents, plans: Sequence[ComponentPlan]) -> None:
    """Check that a permanence of rank 0 alone, without a null object, fills optional parameters."""
    alone = {plan.name for plan in plans if plan.ranks == "zero"} - {*components.loggers, components.progress}
    for plan in plans:
        for name, target in plan.bindings.items():
            if target in alone and not plan.signature.parameters[name].optional and plan.ranks == "all":
                is_permanence = any(other.name == plan.name for other in components.permanences)
                report.add(
                    ("permanences" if is_permanence else "processes", plan.name),
                    f"{plan.name}.{name} needs {target!r}, which only rank 0 constructs",
                    f"annotate {name} with `| None`, or give {target!r} ranks = 'all'",
                )


def _retries(report: Report, component: ComponentSpec) -> Retries | None:
    if "retries" not in component.reserved:
        return None
    path = (*component.path, "retries")
    return report.convert(  # type: ignore[no-any-return]
        Retries, component.reserved["retries"], path, f"{component.name}.retries"
    )


def _cache(report: Report, component: ComponentSpec) -> Literal["off", "exists", "fingerprint"]:
    cache = component.reserved.get("cache", "off")
    if cache not in ("off", "exists", "fingerprint"):
        message = f"cache must be 'off', 'exists' or 'fingerprint', not {shown(cache)}"
        report.add((*component.path, "cache"), message)
        return "off"
    return cache  # type: ignore[no-any-return]


def _names(report: Report, component: ComponentSpec, key: str, candidates: Sequence[str]) -> list[str]:
    """Read a list of names under a reserved key, and check that each exists."""
    value = component.reserved.get(key, ())
    names = [value] if isinstance(value, str) else value
    path = (*component.path, key)
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        report.add(path, f"{key} must be a list of names, not {shown(value)}")
        return []
    for index, name in enumerate(names):
        if name not in candidates:
            where = path if isinstance(value, str) else (*path, index)
            hint = did_you_mean(name, candidates)
            report.add(where, f"{component.name!r} names {name!r} in {key}, which is not declared", hint)
    return [name for name in names if name in candidates]


# --- order


def _ordered(
    report: Report, specs: Sequence[ComponentSpec], components: ResolvedComponents
) -> tuple[ComponentPlan, ...]:
    """Plan components in the order of dependencies; report a cycle with its lines."""
    by_name = {spec.name: _plan(report, spec, components) for spec in specs}
    edges: dict[str, Sequence[str]] = {name: plan.depends_on for name, plan in by_name.items()}
    if specs and specs[0].kind == "process":
        edges = {spec.name: _names(report, spec, "needs", list(by_name)) for spec in specs}
    order, cycle = in_order(edges)
    if not cycle:
        return tuple(by_name[name] for name in order)
    members = [f"{name} ({place})" if (place := by_name[name].place) else name for name in cycle]
    kind = "permanences" if specs[0].kind == "permanence" else "processes"
    path = next(spec.path for spec in specs if spec.name == cycle[0])
    message = f"circular dependency between {kind}: {' needs '.join(members)}"
    report.add(path, message, "remove one of these dependencies")
    return tuple(by_name.values())
