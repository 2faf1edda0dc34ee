"""A data loader that goes on in the middle of an epoch; torch is loaded when one is made, not before."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ridgepole.loading.loader import ResumableLoader as ResumableLoader
    from ridgepole.loading.protocol import Resumable as Resumable

# Resolved when asked for: a ticking loop over something else needs the protocol alone.
_HOMES = {"Resumable": "ridgepole.loading.protocol", "ResumableLoader": "ridgepole.loading.loader"}

__all__ = ["Resumable", "ResumableLoader"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
