"""How a process went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True)
class Outcome:
    """How one process went.

    Attributes:
        name: Its name.
        status: `"pending"` until it ran.
        seconds: Wall time that it took, its construction included.
        reason: Why it was skipped, where it said so; which run it was that did it, where it was cached.
        fingerprint: What it depends on, in pipelines with a cached process: equal where it would do the same again.
    """

    name: str
    status: Literal["pending", "running", "done", "skipped", "cached", "failed"] = "pending"
    seconds: float = 0.0
    reason: str = ""
    fingerprint: str = ""
