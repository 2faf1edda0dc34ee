"""Runs of other trackers, imported as run directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import exports

if TYPE_CHECKING:
    from ridgepole.importers.api import SOURCES as SOURCES
    from ridgepole.importers.api import import_runs as import_runs
    from ridgepole.importers.writing import Imported as Imported

__getattr__, __dir__, __all__ = exports(
    __name__,
    {"ridgepole.importers.api": ("SOURCES", "import_runs"), "ridgepole.importers.writing": ("Imported",)},
)
