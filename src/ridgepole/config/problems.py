"""The report of all problems of a description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ridgepole.config.scan import KeyPath
from ridgepole.errors import Place, Problem

PlaceOf = Callable[[KeyPath, bool], Place | None]
"""Returns the place of the value at a path, or of its key."""


class ProblemReport:
    """Collects problems, each with the place of a path.

    Attributes:
        problems: The problems in the order in which they were found.
    """

    def __init__(self, place: PlaceOf) -> None:
        self.problems: list[Problem] = []
        self._place = place

    def add(
        self,
        path: KeyPath,
        message: str,
        hint: str = "",
        *,
        key: bool = False,
        severity: Literal["error", "warning", "note"] = "error",
    ) -> None:
        """Add a problem of the value at a path, or of its key."""
        self.problems.append(Problem(message, self._place(path, key), hint, severity=severity))

    @property
    def failed(self) -> bool:
        """Return whether one of the problems is an error."""
        return any(problem.severity == "error" for problem in self.problems)

    def sorted(self) -> list[Problem]:
        """Return the problems in the order of their places, each once."""
        unique = dict.fromkeys(self.problems)
        return sorted(unique, key=lambda p: (p.place.file, p.place.line, p.place.column) if p.place else ("", 0, 0))
