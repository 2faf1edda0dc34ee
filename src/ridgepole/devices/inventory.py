"""List the devices for those who only want to see them: `ridgepole doctor`, `ridgepole devices`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ridgepole.devices import host
from ridgepole.devices.choose import look, torch_name
from ridgepole.devices.leases import LeaseRegistry
from ridgepole.devices.policy import Decision
from ridgepole.devices.probe.snapshot import probing
from ridgepole.devices.request import make_request


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """The devices, and what `Device()` would choose.

    Attributes:
        rows: One mapping of plain JSON values a device, the CPU last: `device`, `index`, `place`,
            `uuid`, `name`, `total_bytes`, `used_bytes`, `free_bytes`, `usage` (a share of 1),
            `util` (percent), `processes`, `leases`, `verdict` (`"chosen"`, `"free"` or
            `"rejected"`), `reason`, `source`. Unknown values are None.
        chosen: The choice, such as `"cuda:1"` or `"cpu"`, or None where it would be an error.
        why: The reason for it.
        notes: Remarks for the user.
    """

    rows: tuple[dict[str, Any], ...]
    chosen: str | None
    why: str
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {"chosen": self.chosen, "why": self.why, "notes": list(self.notes), "devices": list(self.rows)}


def survey(**options: Any) -> DeviceReport:
    """List every device with its memory, processes, leases and verdict.

    This takes no lease and doesn't start CUDA.

    Args:
        **options: As for `Device`. `wait` and `lease` have no effect, except that an exclusive
            lease of another run counts.

    Returns:
        The list, and what `Device` with the same options would choose.

    Raises:
        ValueError: If an option is outside its range, or an entry matches no card.
    """
    request = make_request(**options)
    with probing() as prober:
        snapshot, decision = look(prober, request, LeaseRegistry())
    chosen = None
    if request.cpu == "force" or decision.kind == "cpu" or (decision.kind == "busy" and request.cpu == "allow"):
        chosen = "cpu"
    elif decision.best is not None:
        chosen = torch_name(snapshot, decision.best.card)[0]
    marked = decision if chosen != "cpu" else Decision(kind="cpu", why="", candidates=decision.candidates)
    rows = (*marked.rows(), _cpu_row(chosen=chosen == "cpu"))
    why = "cpu='force'" if request.cpu == "force" else decision.why
    return DeviceReport(rows=rows, chosen=chosen, why=why, notes=snapshot.seen.notes)


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
