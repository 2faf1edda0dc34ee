"""The files of the built page."""

from __future__ import annotations

from importlib.resources import files

MISSING_PAGE = (
    "this installation of Ridgepole has no page: in a clone run `make frontend`, else install Ridgepole from a wheel"
)


def page_file(name: str) -> bytes | None:
    """Return a file of the built page; None if it is not there."""
    if ".." in name or name.count("/") > 1:
        return None
    try:
        return (files("ridgepole.view") / "_page" / name).read_bytes()
    except OSError:
        return None
