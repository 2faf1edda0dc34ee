"""What is there without being declared: the progress display and the local record, or null objects in their place."""

from __future__ import annotations

from typing import NamedTuple

from ridgepole.permanence import Permanence
from ridgepole.permanences.loggers.base import BaseLoggerManager
from ridgepole.permanences.loggers.basic import BasicLogger
from ridgepole.permanences.loggers.group import NullLogger
from ridgepole.permanences.progress import NullProgressManager, ProgressManager
from ridgepole.pipeline.drafts import Draft, default_draft
from ridgepole.pipeline.injection import signature_of
from ridgepole.pipeline.overlay import LISTENER, Overlay
from ridgepole.pipeline.plan import LOGGER, PROGRESS
from ridgepole.pipeline.report import Report
from ridgepole.pipeline.settings import Settings

_DISPLAYS = (ProgressManager, NullProgressManager)


class Staffed(NamedTuple):
    """All permanences of a run, defaults first.

    Attributes:
        drafts: The permanences.
        loggers: Names of those that are loggers.
        progress: Name of the one that shows progress.
    """

    drafts: list[Draft]
    loggers: tuple[str, ...]
    progress: str


def with_defaults(report: Report, drafts: list[Draft], settings: Settings, overlay: Overlay | None = None) -> Staffed:
    """Adds what a run always has; a `false` in the settings takes the declared ones out too.

    A trial of a sweep gets the sweep's listener besides, whatever the settings say.
    """
    staff = _staffed(report, drafts, settings)
    if overlay is None or overlay.listener is None:
        return staff
    drafts, loggers, progress = staff
    return Staffed([*drafts, default_draft(LISTENER, overlay.listener())], (*loggers, LISTENER), progress)


def _staffed(report: Report, drafts: list[Draft], settings: Settings) -> Staffed:
    _keep_names(report, drafts)
    bars = [draft for draft in drafts if _is(draft, _DISPLAYS)]
    for extra in bars[1:]:
        report.add(extra.path, f"a run has one progress manager; {bars[0].name!r} is one already", key=True)
    taken = {draft.name for draft in drafts}
    front: list[Draft] = []
    if not settings.progress:
        _silence(bars, NullProgressManager)
        front += [] if bars else [default_draft(PROGRESS, NullProgressManager)]
    elif not bars:
        front.append(default_draft(_free(PROGRESS, taken), ProgressManager))
    progress = (front or bars)[0].name
    loggers = [draft for draft in drafts if _is(draft, (BaseLoggerManager,))]
    if not settings.logger:
        _silence(loggers, NullLogger)
        if not loggers:
            loggers = [default_draft(LOGGER, NullLogger)]
            front += loggers
        return Staffed([*front, *drafts], tuple(draft.name for draft in loggers), progress)
    records = [draft for draft in loggers if _is(draft, (BasicLogger,)) and "log_dir" not in draft.given]
    for extra in records[1:]:
        message = f"a run has one record in its run directory; {records[0].name!r} is one already"
        report.add(extra.path, message, "give this one a log_dir of its own", key=True)
    if not records:
        front.append(default_draft(_free(LOGGER, taken), BasicLogger))
        loggers = [front[-1], *loggers]
    return Staffed([*front, *drafts], tuple(draft.name for draft in loggers), progress)


def _silence(drafts: list[Draft], null: type[Permanence]) -> None:
    """Puts a null object in the place of each, under its own name."""
    for draft in drafts:
        draft.target, draft.signature, draft.given = null, signature_of(null), {}


def _keep_names(report: Report, drafts: list[Draft]) -> None:
    kept = {LOGGER: ((BaseLoggerManager,), "logger"), PROGRESS: (_DISPLAYS, "progress manager")}
    for draft in drafts:
        if draft.name == LISTENER:
            report.add(draft.path, f"the name {LISTENER!r} is kept for sweeps", "give it another name", key=True)
        classes, kind = kept.get(draft.name, ((object,), ""))
        if draft.target is not None and not issubclass(draft.target, classes):
            message = f"the name {draft.name!r} is kept for a {kind}, and {draft.target.__name__} is none"
            report.add(draft.path, message, "give it another name", key=True)


def _is(draft: Draft, classes: tuple[type, ...]) -> bool:
    return draft.target is not None and issubclass(draft.target, classes)


def _free(name: str, taken: set[str]) -> str:
    return name if name not in taken else _free(f"local_{name}", taken)
