"""What a resume will not be able to restore, told from the classes alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ridgepole.errors import Problem
from ridgepole.pipeline.drafts import Draft
from ridgepole.pipeline.fingerprint import used_by
from ridgepole.pipeline.plan import Part, Plan
from ridgepole.pipeline.report import Report
from ridgepole.pipeline.running import is_stateful

_HOOKS = ("state_dict", "load_state_dict")


def warn_of_half_states(report: Report, drafts: Sequence[Draft]) -> None:
    """Warns of classes that have only one of the two methods by which a state is stored and given back."""
    for draft in drafts:
        has = [name for name in _HOOKS if callable(getattr(draft.target, name, None))]
        if len(has) == 1:
            lacking = next(name for name in _HOOKS if name not in has)
            message = f"{draft.target.__name__} has {has[0]} but no {lacking}: its state is not restored by a resume"
            report.add(draft.path, message, f"add {lacking} to it", severity="warning")


def resume_notes(plan: Plan) -> list[Problem]:
    """What a resume, and the cache of processes, can't give back: one note at most of each kind.

    Args:
        plan: The plan; nothing of it is constructed.

    Returns:
        Notes, which are no problems; Ridgepole's own permanences are left out.
    """
    return [Problem(text, severity="note") for text in (*_notes(plan), *_cache_notes(plan))]


def _notes(plan: Plan) -> Iterator[str]:
    if not plan.policy.enabled:
        yield "resume: no checkpoints are taken, so a run that was cut off can only begin again"
        return
    anew = [part.name for part in plan.permanences if not (_is_ours(part) or is_stateful(part.target))]
    if anew:
        yield f"resume: {_listed(anew)} made anew, without state_dict and load_state_dict"
    inside = [part.name for part in plan.processes if not is_stateful(part.target)]
    if inside:
        names = ", ".join(inside[:4]) + (f" and {len(inside) - 4} more" if len(inside) > 4 else "")
        yield (
            f"resume: {names} can go on inside only by looping over one ResumableLoader with track(..., tick=True), "
            "else from the boundary before"
        )


def _cache_notes(plan: Plan) -> Iterator[str]:
    cached = [part for part in plan.processes if part.cache != "off"]
    used = {held.name: held for part in cached for held in used_by(plan, part)}
    lost = [name for name, held in used.items() if not (_is_ours(held) or is_stateful(held.target))]
    if lost:
        names = ", ".join(part.name for part in cached)
        yield f"cache: what {names} may change in {', '.join(lost)} is not given back, without state_dict"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _is_ours(part: Part) -> bool:
    target: Any = part.target
    return part.default or str(getattr(target, "__module__", "")).startswith("ridgepole.")
