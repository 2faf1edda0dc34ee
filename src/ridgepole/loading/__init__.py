"""A data loader that goes on in the middle of an epoch; torch is loaded when one is made, not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import resolver

if TYPE_CHECKING:
    from ridgepole.loading.loader import ResumableLoader as ResumableLoader
    from ridgepole.loading.protocol import Resumable as Resumable

# Resolved when asked for: a ticking loop over something else needs the protocol alone.
_HOMES = {"Resumable": "ridgepole.loading.protocol", "ResumableLoader": "ridgepole.loading.loader"}

__all__ = ["Resumable", "ResumableLoader"]


__getattr__ = resolver(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
