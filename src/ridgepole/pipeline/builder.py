"""Checks a recipe against the classes it names and makes the plan of a run; opens and constructs nothing."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

from ridgepole.checkpoint.policy import OFF, CheckpointPolicy
from ridgepole.errors import ConfigError, did_you_mean
from ridgepole.pipeline.advice import secrets_of, warn_of_secrets, warn_of_unused
from ridgepole.pipeline.binding import Binder
from ridgepole.pipeline.defaults import Staffed, with_defaults
from ridgepole.pipeline.drafts import Draft, read_drafts
from ridgepole.pipeline.injection import EMPTY
from ridgepole.pipeline.order import in_order
from ridgepole.pipeline.plan import Part, Plan, Retries, View
from ridgepole.pipeline.recipe import RESERVED_KEYS, TOP_LEVEL, Recipe
from ridgepole.pipeline.report import Report, shown
from ridgepole.pipeline.restorable import warn_of_half_states
from ridgepole.pipeline.settings import Settings
from ridgepole.registry import Registry


def build(recipe: Recipe) -> Plan:
    """Checks a recipe.

    Args:
        recipe: What was written.

    Returns:
        The plan; its warnings are what is doubtful.

    Raises:
        ConfigError: With every problem of the recipe, warnings included, if one of them is an error.
    """
    report = Report(recipe)
    settings, policy = _settings(report)
    _top_level(report)
    registry = Registry.load(settings.package, recipe.directory, recipe.place(("pipeline", "package"), False))
    report.problems += registry.problems
    staff = with_defaults(report, read_drafts(report, registry, "permanences"), settings, recipe.overlay)
    processes = read_drafts(report, registry, "processes")
    permanences = _ordered(report, staff.drafts, [_part(report, draft, staff) for draft in staff.drafts])
    steps = _ordered(report, processes, [_part(report, draft, staff) for draft in processes])
    if not report.failed:  # what nobody uses may be used by what is wrong
        warn_of_unused(report, staff.drafts, [*permanences, *steps], [*staff.loggers, staff.progress])
    _check_ranks(report, staff, [*permanences, *steps])
    warn_of_secrets(report)
    if policy.enabled:
        warn_of_half_states(report, [*staff.drafts, *processes])
    if report.failed:
        raise ConfigError(report.sorted())
    return Plan(
        settings,
        policy,
        permanences,
        steps,
        staff.loggers,
        staff.progress,
        recipe.file,
        recipe.directory,
        recipe.source or b"",
        tuple(report.sorted()),
        secrets_of(recipe),
        recipe.overrides,
        recipe.overlay.label if recipe.overlay is not None else None,
    )


def _settings(report: Report) -> tuple[Settings, CheckpointPolicy]:
    """The `[pipeline]` table; where it does not fit, what the other checks need of it."""
    table = report.recipe.tree.get("pipeline", {})
    if not isinstance(table, Mapping):
        report.add(("pipeline",), f"pipeline is a table, not {shown(table)}", key=True)
        table = {}
    rest = {key: value for key, value in table.items() if key != "checkpoint"}
    settings = report.convert(Settings, rest, ("pipeline",), "pipeline", [item.name for item in fields(Settings)])
    if settings is None:
        package = table.get("package")
        settings = Settings(package=package if isinstance(package, str) else None)
    return settings, _policy(report, table.get("checkpoint", True))


def _policy(report: Report, given: Any) -> CheckpointPolicy:
    path = ("pipeline", "checkpoint")
    if given is False:
        return OFF
    if isinstance(given, Mapping):
        known = [item.name for item in fields(CheckpointPolicy)]
        given = report.convert(CheckpointPolicy, given, path, "checkpoint", known) or True
    if isinstance(given, CheckpointPolicy):
        return given if given.enabled else OFF
    if given is not True:
        report.add(path, f"checkpoint is a table, true or false, not {shown(given)}")
    return CheckpointPolicy()


def _top_level(report: Report) -> None:
    for key in report.recipe.tree:
        if key not in TOP_LEVEL:
            hint = did_you_mean(key, [*TOP_LEVEL, "extends"]) or f"there are {', '.join(TOP_LEVEL)} and extends"
            report.add((key,), f"unknown table or key {key!r}", hint, key=True)


def _part(report: Report, draft: Draft, staff: Staffed) -> Part:
    """A table with its parameters bound and checked."""
    values: dict[str, Any] = {}
    bindings: dict[str, str | View | None] = {}
    if draft.target is not None:
        values, bindings = _parameters(report, draft, staff)
    needed: list[str] = []
    for bound in bindings.values():
        needed += staff.loggers if bound is View.ALL_LOGGERS else [bound] if isinstance(bound, str) else []
    needed += _names(report, draft, "depends_on", [other.name for other in staff.drafts])
    own = draft.name if draft.kind == "permanence" else ""
    return Part(
        draft.name,
        draft.target,
        draft.signature,
        values,
        bindings,
        None if draft.default else report.recipe.place(draft.path, False),
        tuple(dict.fromkeys(name for name in needed if name != own)),
        _ranks(report, draft),
        draft.default,
        _force(report, draft),
        _retries(report, draft),
        _cache(report, draft),
    )


def _parameters(report: Report, draft: Draft, staff: Staffed) -> tuple[dict[str, Any], dict[str, str | View | None]]:
    """The given values, and the permanences that fill the other parameters."""
    binder = Binder(draft, staff.drafts, staff.progress, report)
    values: dict[str, Any] = {}
    bindings: dict[str, str | View | None] = {}
    for name, parameter in draft.signature.parameters.items():
        given = draft.given.get(name)
        if binder.is_reference(parameter, given):
            bound = binder.bind(parameter, given)
            if bound.found:
                bindings[name] = bound.name
        elif given is not None:
            values[name] = given[0]
            if parameter.annotation is not EMPTY:
                report.convert(parameter.annotation, given[0], given[1], f"{draft.name}.{name}")
        elif parameter.required and not parameter.unresolved:
            kind = "" if parameter.annotation is EMPTY else f" ({inspect.formatannotation(parameter.annotation)})"
            hint = f"add {name} = ...{kind}"
            if any(other.name == name for other in staff.drafts):
                hint = f'annotate it with the class of the permanence, or add {name} = {{ ref = "{name}" }}'
            report.add(draft.path, f"{draft.target.__name__} needs the parameter {name!r}", hint)
    for key, (value, path) in draft.given.items():
        if key in draft.signature.parameters:
            continue
        if draft.signature.open:
            values[key] = value
            continue
        names = list(draft.signature.parameters)
        hint = did_you_mean(key, [*names, *RESERVED_KEYS[draft.kind]])
        hint = hint or (f"it takes {', '.join(names)}" if names else "it takes none")
        report.add(path, f"{draft.target.__name__} has no parameter {key!r}", hint, key=True)
    return values, bindings


# --- the framework's own keys


def _force(report: Report, draft: Draft) -> bool:
    if "force" not in draft.reserved:
        return False
    flat = (*draft.path, "force")
    path = flat if report.recipe.at(flat) is not None else (*draft.path, "params", "force")
    return bool(report.convert(bool, draft.reserved["force"], path, f"{draft.name}.force"))


def _ranks(report: Report, draft: Draft) -> Literal["all", "zero"]:
    stored = getattr(draft.target, "state_ranks", "zero")
    if stored not in ("all", "zero"):
        report.add((*draft.path, "type"), f"{draft.name}.state_ranks is 'all' or 'zero', not {shown(stored)}")
    ranks = draft.reserved.get("ranks", getattr(draft.target, "ranks", "all"))
    if ranks not in ("all", "zero"):
        report.add((*draft.path, "ranks"), f"ranks is 'all' or 'zero', not {shown(ranks)}")
        return "all"
    return ranks  # type: ignore[no-any-return]


def _check_ranks(report: Report, staff: Staffed, parts: Sequence[Part]) -> None:
    """A permanence of rank 0 alone, which nothing stands in for elsewhere, can fill only optional parameters."""
    null = {*staff.loggers, staff.progress}
    alone = {part.name for part in parts if part.ranks == "zero"} - null
    for part in parts:
        for name, target in part.bindings.items():
            if target in alone and not part.signature.parameters[name].optional and part.ranks == "all":
                message = f"{part.name}.{name} needs {target!r}, which only rank 0 constructs"
                section = "permanences" if any(draft.name == part.name for draft in staff.drafts) else "processes"
                report.add(
                    (section, part.name), message, f"annotate {name} with `| None`, or give {target!r} ranks = 'all'"
                )


def _retries(report: Report, draft: Draft) -> Retries | None:
    if "retries" not in draft.reserved:
        return None
    path, known = (*draft.path, "retries"), [item.name for item in fields(Retries)]
    return report.convert(Retries, draft.reserved["retries"], path, f"{draft.name}.retries", known)  # type: ignore[no-any-return]


def _cache(report: Report, draft: Draft) -> Literal["off", "exists", "fingerprint"]:
    cache = draft.reserved.get("cache", "off")
    if cache not in ("off", "exists", "fingerprint"):
        report.add((*draft.path, "cache"), f"cache is 'off', 'exists' or 'fingerprint', not {shown(cache)}")
        return "off"
    return cache  # type: ignore[no-any-return]


def _names(report: Report, draft: Draft, key: str, candidates: Sequence[str]) -> list[str]:
    """A list of names under a reserved key, each checked to exist."""
    value = draft.reserved.get(key, ())
    names = [value] if isinstance(value, str) else value
    path = (*draft.path, key)
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        report.add(path, f"{key} is a list of names, not {shown(value)}")
        return []
    for index, name in enumerate(names):
        if name not in candidates:
            where = path if isinstance(value, str) else (*path, index)
            hint = did_you_mean(name, candidates)
            report.add(where, f"{draft.name!r} names {name!r} in {key}, which is not declared", hint)
    return [name for name in names if name in candidates]


def _ordered(report: Report, drafts: Sequence[Draft], parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts in an order that respects what they need; a cycle is reported with the lines of its members."""
    by_name = {part.name: part for part in parts}
    edges: dict[str, Sequence[str]] = {part.name: part.depends_on for part in parts}
    if drafts and drafts[0].kind == "process":
        edges = {draft.name: _names(report, draft, "needs", list(by_name)) for draft in drafts}
    order, cycle = in_order(edges)
    if cycle:
        shown_cycle = [f"{name} ({place})" if (place := by_name[name].place) else name for name in cycle]
        kind = drafts[0].kind
        message = f"{'permanences' if kind == 'permanence' else 'processes'} need each other in a circle: "
        path = next(draft.path for draft in drafts if draft.name == cycle[0])
        report.add(path, message + " needs ".join(shown_cycle), "take one of these dependencies out")
        return tuple(parts)
    return tuple(by_name[name] for name in order)
