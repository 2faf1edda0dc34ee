"""A data loader that resumes in the middle of an epoch. Constructing a loader imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import exports

if TYPE_CHECKING:
    from ridgepole.data.loader import ResumableLoader as ResumableLoader
    from ridgepole.data.protocol import Resumable as Resumable

__getattr__, __dir__, __all__ = exports(
    __name__,
    {"ridgepole.data.loader": ("ResumableLoader",), "ridgepole.data.protocol": ("Resumable",)},
)
