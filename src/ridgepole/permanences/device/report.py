"""The table of devices that errors carry: each device, who uses it, why it was rejected, and what to try."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ridgepole.permanences.device.cards import OWN_PROCESS
from ridgepole.permanences.device.host import describe_process
from ridgepole.permanences.device.leases import Holder

_GIB = 1024**3
_PROCESSES = 4
_SOURCES = {
    "nvml": "the NVIDIA driver (NVML), every process on the machine counted",
    "nvml+host": "the host's memory, which the device shares",
    "amdsmi": "the AMD driver (amdsmi), every process on the machine counted",
    "amdsmi+host": "the host's memory, which the device shares",
    "kfd": "the AMD driver's files in /sys, every process on the machine counted",
    "kfd+host": "the host's memory, which the device shares",
    "torch.xpu": "the XPU's driver, every process on the machine counted",
    "host": "the operating system, for the CPU",
    OWN_PROCESS: "torch, which sees only this process: other processes' memory is NOT counted",
}


def table(rows: Sequence[Mapping[str, Any]], *, processes: int = _PROCESSES) -> str:
    """Rows of `Verdict.as_row` as text, one device a line, sources below.

    Args:
        rows: At least one row.
        processes: How many of a device's processes are named, those with the most memory first; 0 counts them only.
    """
    head = ("device", "name", "used / total GiB", "usage", "leases", "processes", "")
    lines = [head, *(_cells(row, processes) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    shown = [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    ]
    sources = dict.fromkeys(row["source"] for row in rows)
    shown.extend(f"  numbers from {_SOURCES.get(source, source)}" for source in sources)
    return "\n".join(shown)


def leases(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who holds what, one lease a line.

    Args:
        rows: As for `table`.
    """
    return [
        f"{row['device']} is leased by {Holder(**holder).describe(0)}{since}"
        for row in rows
        for holder in row["leases"]
        for since in [f", since {holder['start']}" if holder["start"] else ""]
    ]


def advice(codes: Iterable[str], percent: str) -> str:
    """What to try, by the reasons for which devices were rejected."""
    said = {
        "usage": f"accept a fuller device with max_usage (now {percent})",
        "min_free": "ask for less with min_free",
        "processes": "raise max_processes",
        "lease": "share the device with lease='shared' where nobody holds it exclusively",
        "excluded": "leave something out of exclude, or add to only",
    }
    present = set(codes)
    tips = ["wait for a device with wait=600 (seconds)"]
    tips += [tip for code, tip in said.items() if code in present]
    return "try: " + "; ".join([*tips, "go on without one with cpu='allow'"])


def _cells(row: Mapping[str, Any], most: int) -> tuple[str, ...]:
    verdict = row["verdict"] if row["verdict"] == "chosen" else row["reason"] or row["verdict"]
    return (
        row["device"],
        row["name"],
        f"{_gib(row['used_bytes'])} / {_gib(row['total_bytes'])}",
        "unknown" if row["usage"] is None else _share(row["used_bytes"], row["total_bytes"]),
        str(len(row["leases"])),
        _processes(row["processes"], most),
        verdict,
    )


def _share(used: int, total: int) -> str:
    # Rounded up: "80.0%" must not stand beside "above 80%".
    return f"{math.ceil(used * 1000 / total) / 10:.1f}%"


def _gib(amount: int | None) -> str:
    return "?" if amount is None else f"{amount / _GIB:.1f}"


def _processes(processes: Sequence[Mapping[str, Any]] | None, most: int) -> str:
    if processes is None:
        return "unknown"
    if processes and most == 0:
        return str(len(processes))
    ranked = sorted(processes, key=lambda one: -(one["used_bytes"] or 0))
    texts = []
    for one in ranked[:most]:
        who = describe_process(one["pid"])
        used = "" if one["used_bytes"] is None else f" {_gib(one['used_bytes'])}"
        texts.append(f"{one['pid']}{' ' + who if who else ''}{used}")
    if len(ranked) > most:
        texts.append(f"and {len(ranked) - most} more")
    return ", ".join(texts) or "none"
