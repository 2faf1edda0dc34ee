"""The one list of problems to which everything that checks a recipe adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ridgepole.errors import Problem, did_you_mean
from ridgepole.pipeline.convert import Misfits, convert, fresh
from ridgepole.pipeline.recipe import Path_, Recipe


class Report:
    """Problems of one recipe, each with its place.

    Attributes:
        recipe: What is checked.
        problems: What was found, in the order of finding.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.problems: list[Problem] = []

    def add(
        self,
        path: Path_,
        message: str,
        hint: str = "",
        *,
        key: bool = False,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        """Notes a problem at a path of the recipe, or at the path's key."""
        self.problems.append(Problem(message, self.recipe.place(path, key), hint, severity=severity))

    def convert(self, annotation: Any, value: Any, path: Path_, what: str, known: Iterable[str] = ()) -> Any:
        """Converts a value; where it does not fit, notes why and gives None.

        Args:
            annotation: What it must fit.
            value: The value.
            path: Where it stands.
            what: What it is called in messages.
            known: The keys that a table may have, for suggestions.
        """
        try:
            return convert(annotation, fresh(value))
        except Misfits as error:
            for misfit in error.misfits:
                where, last = (*path, *misfit.path), str(misfit.path[-1]) if misfit.path else ""
                name = ".".join(str(part) for part in (what, *misfit.path))
                owner = name.removesuffix(f".{last}")
                if misfit.unknown:
                    known = list(known)
                    hint = did_you_mean(last, known) or f"it knows {', '.join(known)}"
                    self.add(where, f"{owner} has no key {last!r}", hint if len(misfit.path) == 1 else "", key=True)
                elif misfit.missing:
                    self.add(where[:-1], f"{owner} lacks the key {last!r}")
                else:
                    wrong = "" if misfit.message.startswith("should be") else ":"
                    self.add(where, f"{name}{wrong} {misfit.message}, not {shown(self.recipe.at(where))}")
            return None

    def sorted(self) -> list[Problem]:
        """All problems once each, in the order of their places."""
        unique = dict.fromkeys(self.problems)
        return sorted(unique, key=lambda p: (p.place.file, p.place.line, p.place.column) if p.place else ("", 0, 0))

    @property
    def failed(self) -> bool:
        """Whether one of the problems is an error."""
        return any(problem.severity == "error" for problem in self.problems)


def shown(value: Any) -> str:
    """A value in a message: short, and in the words of a config file."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, tuple | list):
        return "an array"
    if isinstance(value, bool):
        return str(value).lower()
    text = value.__qualname__ if hasattr(value, "__qualname__") else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
