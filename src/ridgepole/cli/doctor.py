"""`ridgepole doctor`."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from importlib import metadata
from typing import Any

from ridgepole import __version__
from ridgepole.cli.output import columns, say, say_json
from ridgepole.extras import pip_install, requirements
from ridgepole.pipeline.run.provenance import devices

_NOT_SHOWN = ("all", "dev")


def call(arguments: argparse.Namespace) -> int:
    """Show what is installed, what is missing, and how to install it."""
    report = {
        "ridgepole": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "git": shutil.which("git"),
        "extras": [_extra(name) for name in _extras()],
        "devices": devices(),
    }
    if arguments.json:
        say_json(report)
    else:
        _print(report)
    return 0


def _extras() -> list[str]:
    """Return the extras of the installed Ridgepole, as its metadata names them."""
    found = metadata.metadata("ridgepole").get_all("Provides-Extra") or ()
    return [str(name) for name in found if name not in _NOT_SHOWN]


def _extra(name: str) -> dict[str, Any]:
    """Return an extra: its packages and their versions."""
    wanted = requirements(name)
    found = {package: _version(package) for package in wanted}
    missing = [wanted[package] for package, version in found.items() if version is None]
    return {
        "name": name,
        "packages": found,
        "complete": not missing,
        "install": pip_install(missing) if missing else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _print(report: dict[str, Any]) -> None:
    say(f"ridgepole {report['ridgepole']}, python {report['python']} ({report['executable']})")
    say(f"{report['platform']}, {report['cpus']} cores, git {report['git'] or 'not found: runs record no commit'}")
    say()
    rows = [
        (
            extra["name"],
            "ok" if extra["complete"] else "missing",
            ", ".join(f"{name} {version or '-'}" for name, version in extra["packages"].items()),
            extra["install"] or "",
        )
        for extra in report["extras"]
    ]
    columns(rows, ("EXTRA", "", "PACKAGES", "TO INSTALL"), {"ok": "green", "missing": "yellow"})
    say()
    found = report["devices"]
    for row in found["devices"]:
        used, total = row.get("used_bytes"), row.get("total_bytes")
        memory = f", {used / 2**30:.1f} of {total / 2**30:.1f} GiB used" if used is not None and total else ""
        reason = f": {row['reason']}" if row["reason"] else ""
        say(f"device {row['device']}: {row['name']}{memory}; {row['verdict']}{reason}")
    say(f"Device() would choose {found['chosen'] or 'none'}: {found['why']}")
    for note in found["notes"]:
        say(f"note: {note}")
