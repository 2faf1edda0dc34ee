"""Progress bars that cost next to nothing and never break a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import resolver

if TYPE_CHECKING:
    from ridgepole.permanences.progress.manager import ProgressManager as ProgressManager
    from ridgepole.permanences.progress.null import NullProgressManager as NullProgressManager
    from ridgepole.permanences.progress.script import progress_task as progress_task
    from ridgepole.permanences.progress.script import track as track

# Resolved when asked for, so that the null object (other ranks, `progress = false`) never loads Rich.
_HOMES = {
    "NullProgressManager": "ridgepole.permanences.progress.null",
    "ProgressManager": "ridgepole.permanences.progress.manager",
    "progress_task": "ridgepole.permanences.progress.script",
    "track": "ridgepole.permanences.progress.script",
}

__all__ = ["NullProgressManager", "ProgressManager", "progress_task", "track"]


__getattr__ = resolver(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
