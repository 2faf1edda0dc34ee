"""How a trial came to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from ridgepole.errors import Place, Problem

Ending: TypeAlias = Literal["finished", "pruned", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt of a trial came to its end.

    Attributes:
        status: `finished`, `pruned` by the sweep, `failed`, or `interrupted`: asked to stop, so that it can go on.
        value: The objective: the number that was returned, else the best logged value of the metric.
        count: How many finite values of the metric were logged.
        best: The best of them.
        latest: The last of them.
        runs: Ids of the runs that it made, the last one last.
        error: What it failed with, in one line.
        traceback: The same with the user's frames.
        problems: What is wrong with the pipeline, where it could not even be planned.
        seconds: Wall time.
    """

    status: Ending
    value: float | None = None
    count: int = 0
    best: float | None = None
    latest: float | None = None
    runs: tuple[str, ...] = ()
    error: str = ""
    traceback: str = ""
    problems: tuple[Problem, ...] = field(default=())
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain JSON values."""
        return asdict(self) | {"runs": list(self.runs), "problems": [asdict(problem) for problem in self.problems]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """The outcome that `as_dict` described."""
        known = {name: values[name] for name in cls.__slots__ if name in values}
        problems = [
            Problem(**{**each, "place": Place(**each["place"]) if each.get("place") else None})
            for each in values.get("problems", ())
        ]
        return cls(**{**known, "runs": tuple(values.get("runs", ())), "problems": tuple(problems)})
