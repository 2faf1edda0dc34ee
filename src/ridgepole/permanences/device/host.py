"""Memory of the host: what a device with unified memory has, and what the CPU has."""

from __future__ import annotations

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")


def memory() -> tuple[int, int]:
    """Total and available memory of the machine, in bytes.

    Read from `/proc/meminfo` (`MemTotal`, `MemAvailable`: proc_meminfo(5), in KiB), elsewhere through psutil.
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
    """Bytes of memory that this process holds (its resident set)."""
    try:
        # Second field of statm: resident pages (proc_pid_statm(5)).
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        import psutil

        return int(psutil.Process().memory_info().rss)


def cpu_name() -> str:
    """The processor's model as the system tells it, or its architecture."""
    import platform

    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "CPU"


def describe_process(pid: int) -> str:
    """A process as a person knows it: `"python (ada)"`; empty where the system doesn't tell."""
    proc = Path("/proc") / str(pid)
    try:
        command = (proc / "comm").read_text("utf-8", "replace").strip()
        uid = proc.stat().st_uid
    except OSError:
        return ""  # it has ended, or belongs to another pid namespace
    return f"{printable(command)} ({user_name(uid)})"


def printable(text: str) -> str:
    """A text of somebody else's without line breaks and escapes, which a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text)


def user_name(uid: int | None = None) -> str:
    """The name of a user, by default of the one that runs this process; the number where it has none."""
    if uid is None:
        if not hasattr(os, "getuid"):
            return os.environ.get("USERNAME", "")
        uid = os.getuid()
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)
