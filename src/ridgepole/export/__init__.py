"""Export what a run logged to another backend or to a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import exports

if TYPE_CHECKING:
    from ridgepole.export.places import Exported as Exported
    from ridgepole.export.replay import Refilled as Refilled
    from ridgepole.export.replay import refill as refill
    from ridgepole.export.targets import TARGETS as TARGETS
    from ridgepole.export.targets import export_run as export_run
    from ridgepole.export.targets import find_exporter as find_exporter

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ridgepole.export.places": ("Exported",),
        "ridgepole.export.replay": ("Refilled", "refill"),
        "ridgepole.export.targets": ("TARGETS", "export_run", "find_exporter"),
    },
)
