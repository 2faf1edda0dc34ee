"""What is there, for people and programs that only want to see it: `ridgepole doctor`, `ridgepole devices`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ridgepole.permanences.device import host
from ridgepole.permanences.device.choose import look, rows_of, torch_name
from ridgepole.permanences.device.leases import Board
from ridgepole.permanences.device.observe import observing
from ridgepole.permanences.device.wish import make_wish


@dataclass(frozen=True, slots=True)
class Survey:
    """What is there, and what `Device()` would choose.

    Attributes:
        rows: One mapping of plain JSON values a device, the CPU last: `device`, `index`, `place`, `uuid`, `name`,
            `total_bytes`, `used_bytes`, `free_bytes`, `usage` (a share of 1), `util` (percent), `processes`, `leases`,
            `verdict` (`"chosen"`, `"free"` or `"rejected"`), `reason`, `source`. What is unknown is None.
        chosen: What would be chosen, such as `"cuda:1"` or `"cpu"`, or None where it would be an error.
        why: Why.
        notes: What a person should know.
    """

    rows: tuple[dict[str, Any], ...]
    chosen: str | None
    why: str
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The survey as plain JSON values."""
        return {"chosen": self.chosen, "why": self.why, "notes": list(self.notes), "devices": list(self.rows)}


def survey(**options: Any) -> Survey:
    """Lists every device with its memory, processes, leases and verdict. Takes no lease and starts no CUDA.

    Args:
        **options: As for `Device`; `wait` and `lease` are of no consequence, beyond that an exclusive lease of another
            run counts.

    Returns:
        The list, and what `Device` with the same options would choose.

    Raises:
        ValueError: If an option is outside its range, or an entry of `exclude` or `only` matches nothing.
    """
    wish = make_wish(**options)
    with observing() as observer:
        scene, outcome = look(observer, wish, Board())
    chosen = None
    if wish.cpu == "force" or outcome.kind == "cpu" or (outcome.kind == "busy" and wish.cpu == "allow"):
        chosen = "cpu"
    elif outcome.best is not None:
        chosen = torch_name(scene, outcome.best.card)[0]
    best = outcome.best.card if outcome.best is not None and chosen != "cpu" else None
    rows = (*rows_of(outcome, best), _cpu_row(chosen=chosen == "cpu"))
    return Survey(rows, chosen, "cpu='force'" if wish.cpu == "force" else outcome.why, scene.notes)


def _cpu_row(*, chosen: bool) -> dict[str, Any]:
    total, free = host.memory()
    used = total - free
    return {
        "device": "cpu",
        "index": None,
        "place": None,
        "uuid": "",
        "name": host.cpu_name(),
        "total_bytes": total,
        "used_bytes": used,
        "free_bytes": free,
        "usage": round(used / total, 6) if total else None,
        "util": None,
        "processes": None,
        "leases": [],
        "verdict": "chosen" if chosen else "free",
        "reason": "",
        "source": "host",
    }
