"""Warn of unused permanences, written-out secrets, and states that a resume loses."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ridgepole.config import looks_secret
from ridgepole.errors import Problem
from ridgepole.pipeline.spec.components import ComponentSpec, ResolvedComponents
from ridgepole.pipeline.spec.loops import Loop, ticking_loops
from ridgepole.pipeline.spec.plan import ComponentPlan, Plan, is_stateful
from ridgepole.pipeline.spec.report import Report
from ridgepole.pipeline.spec.spec import Path_, PipelineSpec
from ridgepole.pipeline.spec.usage import looked_up_in, used_by

_STATE_HOOKS = ("state_dict", "load_state_dict")


def warn_unused(report: Report, components: ResolvedComponents, plans: Iterable[ComponentPlan]) -> None:
    """Warn of permanences that nothing in the pipeline uses."""
    plans = list(plans)
    used = {name for plan in plans for name in plan.depends_on} | {*components.loggers, components.progress}
    # controller.get_permanence("name") is not in a signature, but it is in the source.
    modules = {inspect.getmodule(plan.target) for plan in plans if plan.target is not None}
    used |= {name for module in modules if module is not None for name in looked_up_in(module)}
    for component in components.permanences:
        if component.name not in used and component.target is not None:
            message = f"nothing in the pipeline uses the permanence {component.name!r}"
            report.add(component.path, message, severity="warning")


def warn_secrets(report: Report) -> None:
    """Warn of secrets that are written out in the file."""
    for path, value in _scalars(report.spec.tree):
        if value != "" and path not in report.spec.secrets and _is_secret(path):
            message = f"{'.'.join(str(key) for key in path)} looks like a secret written out"
            report.add(path, message, "take it from the environment: ${env:NAME}", severity="warning")


def secrets_of(spec: PipelineSpec) -> frozenset[str]:
    """Return the values, as text, that must not be written anywhere but into `config.toml`."""
    found = {str(value) for path, value in _scalars(spec.tree) if path in spec.secrets or _is_secret(path)}
    notify = spec.tree.get("notify")
    found |= {str(value) for _, value in _scalars(notify.get("urls"))} if isinstance(notify, Mapping) else set()
    return frozenset(found - {""}) | spec.secret_values


def _is_secret(path: Path_) -> bool:
    """Return whether a key of a path, below the name of its table, looks like a secret's."""
    return any(isinstance(key, str) and looks_secret(key) for key in path[2:])


def _scalars(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yield every text and number of a tree with its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _scalars(item, (*path, key))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _scalars(item, (*path, index))
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield path, value


# --- states


def warn_incomplete_state(report: Report, components: Iterable[ComponentSpec]) -> None:
    """Warn of classes that have only one of `state_dict` and `load_state_dict`."""
    for component in components:
        has = [name for name in _STATE_HOOKS if callable(getattr(component.target, name, None))]
        if len(has) == 1:
            lacking = next(name for name in _STATE_HOOKS if name not in has)
            message = f"{component.target.__name__} has {has[0]} but no {lacking}: a resume does not restore its state"
            report.add(component.path, message, f"add {lacking} to it", severity="warning")


def resume_notes(plan: Plan) -> list[Problem]:
    """List what a resume, and the cache of processes, can't restore: at most one note of each kind.

    Ridgepole's own permanences are left out. Nothing of the plan is constructed.
    """
    return [Problem(text, severity="note") for text in (*_notes(plan), *_cache_notes(plan))]


def _notes(plan: Plan) -> Iterator[str]:
    if not plan.policy.enabled:
        yield "resume: no checkpoints are taken, so an interrupted run can only start from scratch"
        return
    stateless = _stateless(plan.permanences)
    if stateless:
        has, starts = ("has", "it") if len(stateless) == 1 else ("have", "them")
        yield (
            f"resume: {', '.join(stateless)} {has} no state_dict/load_state_dict; "
            f"a resumed run starts {starts} from scratch"
        )
    for process in plan.processes:
        loops = [] if is_stateful(process.target) else ticking_loops(process.target)
        if loops:
            yield f"resume: {process.name} {_what_resumes(loops)}"
        for loop in loops:
            if loop.carried and not loop.counts:
                yield (
                    f"resume: {process.name} keeps {', '.join(loop.carried)} from one item of the loop in {loop.place} "
                    "to the next; a resume inside resets it: keep it in a permanence, or give the process "
                    "state_dict and load_state_dict"
                )


def _what_resumes(loops: Sequence[Loop]) -> str:
    """Say where a process can be resumed that has no state of its own."""
    first, place = loops[0], f"the loop over {loops[0].over} in {loops[0].place}"
    if len(loops) > 1:
        places = ", ".join(str(loop.place) for loop in loops)
        return f"has several ticking loops ({places}), so from the second on a resume starts it from its beginning"
    if first.replays:
        return f"resumes between two items of {place}; within one only with state_dict and load_state_dict"
    if first.kept:
        return (
            f"starts from its beginning: {place} uses {', '.join(first.kept)}, which no checkpoint holds; keep "
            f"{'it' if len(first.kept) == 1 else 'them'} in a permanence, or give the process state_dict and "
            "load_state_dict"
        )
    if first.counts:
        return (
            f"starts from its beginning: {place} has no position to store; loop over batches inside it, or give the "
            "process state_dict and load_state_dict"
        )
    if first.own_sampler and first.plain_loader:
        return (
            f"can't resume inside {place}, a DataLoader with {first.own_sampler}, whose order can't be replayed; make "
            "it a ResumableLoader, or it starts from its beginning"
        )
    if first.plain_loader:
        return f"resumes inside {place}, a DataLoader, if its data set is map-style"
    return (
        f"resumes inside {place} only if that is a ResumableLoader, a DataLoader over a map-style data set, or an "
        "iterable with state_dict and load_state_dict; otherwise it starts from its beginning"
    )


def _cache_notes(plan: Plan) -> Iterator[str]:
    cached = [process for process in plan.processes if process.cache != "off"]
    used = {held.name: held for process in cached for held in used_by(plan, process)}
    lost = _stateless(list(used.values()))
    if lost:
        names = ", ".join(process.name for process in cached)
        verb = "makes" if len(cached) == 1 else "make"
        yield f"cache: changes that {names} {verb} to {', '.join(lost)} are not restored, without state_dict"


def _stateless(permanences: Sequence[ComponentPlan]) -> list[str]:
    """Return the names of the user's permanences without a state."""

    def is_ours(held: ComponentPlan) -> bool:
        return held.default or str(getattr(held.target, "__module__", "")).startswith("ridgepole.")

    return [held.name for held in permanences if not (is_ours(held) or is_stateful(held.target))]
