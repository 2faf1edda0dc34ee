"""Progress bars that cost next to nothing and never break a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import exports

if TYPE_CHECKING:
    from ridgepole.progress.manager import ProgressManager as ProgressManager
    from ridgepole.progress.null import NullProgressManager as NullProgressManager
    from ridgepole.progress.script import progress_task as progress_task
    from ridgepole.progress.script import track as track
    from ridgepole.progress.script import trange as trange

# Lazy, so that the null object (other ranks, `progress = false`) never loads Rich.
__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ridgepole.progress.manager": ("ProgressManager",),
        "ridgepole.progress.null": ("NullProgressManager",),
        "ridgepole.progress.script": ("progress_task", "track", "trange"),
    },
)
