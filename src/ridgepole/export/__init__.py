"""Replays what a run logged into another backend or a table; names are resolved when first asked for (PEP 562)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import resolver

if TYPE_CHECKING:
    from ridgepole.export.places import Exported as Exported
    from ridgepole.export.replay import Refilled as Refilled
    from ridgepole.export.replay import refill as refill
    from ridgepole.export.targets import TARGETS as TARGETS
    from ridgepole.export.targets import export_run as export_run

_HOMES = {
    "Exported": "ridgepole.export.places",
    "Refilled": "ridgepole.export.replay",
    "TARGETS": "ridgepole.export.targets",
    "export_run": "ridgepole.export.targets",
    "refill": "ridgepole.export.replay",
}

__all__ = ["TARGETS", "Exported", "Refilled", "export_run", "refill"]


__getattr__ = resolver(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
