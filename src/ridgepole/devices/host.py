"""The host: its memory, its processor, its users and processes."""

from __future__ import annotations

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CPUINFO = Path("/proc/cpuinfo")


def memory() -> tuple[int, int]:
    """Return total and available memory of the machine in bytes.

    Read from `/proc/meminfo` (proc_meminfo(5), in KiB), elsewhere through psutil.
    """
    try:
        lines = MEMINFO.read_text("ascii").splitlines()
        fields = {
            name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":", 1) for line in lines if ":" in line)
        }
        return fields["MemTotal"], fields["MemAvailable"]
    except (OSError, KeyError, ValueError, IndexError):
        import psutil

        host = psutil.virtual_memory()
        return int(host.total), int(host.available)


def own_memory() -> int:
    """Return the bytes of memory that this process holds (its resident set)."""
    try:
        # Second field of statm: resident pages (proc_pid_statm(5)).
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        import psutil

        return int(psutil.Process().memory_info().rss)


def cpu_name() -> str:
    """Return the processor's model, or its architecture where the system doesn't name the model."""
    import platform

    try:
        for line in CPUINFO.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "CPU"


def describe_process(pid: int) -> str:
    """Return the command and the user of a process: `"python (ada)"`; empty where unknown."""
    proc = Path("/proc") / str(pid)
    try:
        command = (proc / "comm").read_text("utf-8", "replace").strip()
        uid = proc.stat().st_uid
    except OSError:
        return ""  # it has ended, or belongs to another pid namespace
    return f"{printable(command)} ({user_name(uid)})"


def printable(text: str) -> str:
    """Replace line breaks and escapes, which a terminal would obey, in a text from another user."""
    return "".join(char if char.isprintable() else "?" for char in text)


def user_name(uid: int) -> str:
    """Return the name of a user, or the number where it has no name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
