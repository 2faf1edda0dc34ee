"""The packages that the page needs."""

from __future__ import annotations

import importlib.util

from ridgepole.errors import MissingExtraError


def need(what: str, *packages: str) -> None:
    """Check that packages are installed, before modules that import them are imported.

    Raises:
        MissingExtraError: If one is not.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "view", what)
