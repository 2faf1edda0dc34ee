"""Writes the report of a sweep."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ridgepole.errors import MissingExtraError, SweepError
from ridgepole.files import write_atomically
from ridgepole.sweeps.report.page import render_page
from ridgepole.sweeps.report.view import make_view
from ridgepole.sweeps.result import SweepResult
from ridgepole.sweeps.sweepdir import PAGE, SweepDir


def can_draw() -> bool:
    """Whether matplotlib, which the pictures need, is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def write_report(result: SweepResult, directory: str | Path | None = None, pictures: bool | None = None) -> list[Path]:
    """Writes the page and the pictures of a sweep; see `SweepResult.report`."""
    if pictures and not can_draw():
        raise MissingExtraError("matplotlib", "plots", "the pictures of a sweep")
    home = Path(directory) if directory is not None else SweepDir(result.path).report
    view = make_view(result)
    contents = {PAGE: render_page(view).encode("utf-8", "replace")}
    if pictures or (pictures is None and can_draw()):
        from ridgepole.sweeps.report.pictures import render_pictures

        contents |= render_pictures(view)
    try:
        home.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(home / name, content)
    except OSError as error:
        raise SweepError(f"can't write the report of sweep {result.id} to {home}: {error.strerror or error}") from error
    return [home / name for name in contents]
