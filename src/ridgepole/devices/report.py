"""The table of devices that errors carry, and suggestions of what to try."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ridgepole.devices.gpus import OWN_PROCESS
from ridgepole.devices.host import describe_process
from ridgepole.devices.leases import LeaseHolder

_HOST = "the host's memory, which the device shares"
_SOURCES = {
    "nvml": "the NVIDIA driver (NVML), every process on the machine counted",
    "nvml+host": _HOST,
    "amdsmi": "the AMD driver (amdsmi), every process on the machine counted",
    "amdsmi+host": _HOST,
    "kfd": "the AMD driver's files in /sys, every process on the machine counted",
    "kfd+host": _HOST,
    "torch.xpu": "the XPU's driver, every process on the machine counted",
    "host": "the operating system, for the CPU",
    OWN_PROCESS: "torch, which sees only this process: other processes' memory is NOT counted",
}


def table(rows: Sequence[Mapping[str, Any]], *, processes: int = 4, name: int | None = None) -> str:
    """Format rows of `Candidate.as_row` as text, one device a line, sources below.

    Args:
        rows: At least one row.
        processes: How many of a device's processes are named, the largest first; 0 only counts
            them.
        name: How many characters of a device's name are shown; all by default.
    """
    head = ("device", "name", "used / total GiB", "usage", "leases", "processes", "")
    lines = [head, *(_cells(row, processes, name) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    shown = [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    ]
    sources = dict.fromkeys(row["source"] for row in rows)
    shown.extend(f"  numbers from {_SOURCES.get(source, source)}" for source in sources)
    return "\n".join(shown)


def leases(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the leases on the devices of these rows, one a line."""
    return [
        f"{row['device']} is leased by {LeaseHolder(**holder).describe(0)}{since}"
        for row in rows
        for holder in row["leases"]
        for since in [f", since {holder['start']}" if holder["start"] else ""]
    ]


def suggestions(codes: Iterable[str], percent: str) -> str:
    """Suggest what to try, by the codes of the reasons for which devices were rejected."""
    by_code = {
        "usage": f"accept a fuller device with max_usage (now {percent})",
        "min_free": "ask for less with min_free",
        "processes": "raise max_processes",
        "lease": "share the device with lease='shared' unless its lease is exclusive",
        "excluded": "leave something out of exclude, or add to only",
    }
    present = set(codes)
    tips = ["wait for a device with wait=600 (seconds)"]
    tips += [tip for code, tip in by_code.items() if code in present]
    return "try: " + "; ".join([*tips, "continue without a device with cpu='allow'"])


def _cells(row: Mapping[str, Any], most: int, name: int | None) -> tuple[str, ...]:
    told = row["name"]
    verdict = row["verdict"] if row["verdict"] == "chosen" else row["reason"] or row["verdict"]
    # Rounded up: "80.0%" must not stand beside "above 80%".
    share = None if row["usage"] is None else math.ceil(row["used_bytes"] * 1000 / row["total_bytes"]) / 10
    return (
        row["device"],
        told if name is None or len(told) <= name else told[: name - 1] + "…",
        f"{_gib(row['used_bytes'])} / {_gib(row['total_bytes'])}",
        "unknown" if share is None else f"{share:.1f}%",
        str(len(row["leases"])),
        _processes(row["processes"], most),
        verdict,
    )


def _gib(amount: int | None) -> str:
    return "?" if amount is None else f"{amount / 1024**3:.1f}"


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
