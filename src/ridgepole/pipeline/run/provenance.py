"""Record the origin of a run's results: code, packages, machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from ridgepole.pipeline.spec.plan import Plan
from ridgepole.pipeline.spec.usage import is_installed

_DIFF_LIMIT = 8 * 1024 * 1024
_DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.(?:dist|egg)-info")


def code_state(directory: Path) -> tuple[dict[str, Any], str]:
    """Return git's description of the user's code, and the diff against the commit (8 MiB at most).

    Both are empty outside a repository or without git.
    """
    status = _git(directory, "status", "--porcelain=v2", "--branch", "--untracked-files=normal")
    if status is None:
        return {}, ""
    lines = status.splitlines()
    heads = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# ") and " " in line[2:])
    untracked = [line[2:] for line in lines if line.startswith("? ")]
    changed = any(not line.startswith(("#", "?")) for line in lines)
    commit = heads.get("branch.oid", "")
    diff = (_git(directory, "diff", "--no-color", "--no-ext-diff", "HEAD") or "") if changed else ""
    if len(diff) > _DIFF_LIMIT:
        diff = diff[:_DIFF_LIMIT] + "\n[cut: the diff is longer than 8 MiB]\n"
    return {
        "commit": None if commit == "(initial)" else commit,
        "branch": heads.get("branch.head"),
        "changed": changed,
        "untracked": untracked[:1000],
    }, diff


def code_files(plan: Plan) -> dict[str, str]:
    """Hash the user's source files: the modules of all components, and the pipeline's package.

    Returns:
        The first 16 hex digits of SHA-256 by path, relative to the pipeline's directory if the file
        is below it.
    """
    modules = {getattr(each.target, "__module__", "") for each in (*plan.permanences, *plan.processes)}
    named = {getattr(sys.modules.get(name), "__file__", None) for name in modules}
    files = {path for path in (Path(file) for file in named if file) if not is_installed(path)}
    if plan.settings.package:
        files |= set((plan.directory / plan.settings.package).rglob("*.py"))
    found = {}
    for path in files:
        with contextlib.suppress(OSError):  # a notebook's module has none
            name = path.relative_to(plan.directory) if path.is_relative_to(plan.directory) else path
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return dict(sorted(found.items()))


def _git(directory: Path, *arguments: str) -> str | None:
    # No optional locks: reading a repository must not disturb the user's own git command.
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(directory), *arguments],  # noqa: S607 - the user's own git, wherever it is
            capture_output=True,
            timeout=10,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def packages() -> dict[str, str]:
    """Return the installed distributions and their versions, sorted by name.

    They are read from the names of the metadata directories: parsing every METADATA file costs many
    times more.
    """
    found: dict[str, str] = {}
    for entry in dict.fromkeys(sys.path):
        try:
            names = [item.name for item in os.scandir(entry or ".")]
        except OSError:
            continue
        for name in names:
            match = _DIST_INFO.fullmatch(name)
            if match:
                found.setdefault(match["name"].replace("_", "-").lower(), match["version"])
    return dict(sorted(found.items()))


def machine() -> dict[str, Any]:
    """Describe the machine and the interpreter; no device is opened."""
    import psutil

    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "devices": devices(),
    }


def devices() -> dict[str, Any]:
    """Describe the accelerators and `Device()`'s choice; a broken driver does not fail the run."""
    from ridgepole.devices import survey

    try:
        return survey().as_dict()
    except Exception as error:  # noqa: BLE001
        return {"chosen": None, "why": f"{type(error).__name__}: {error}", "notes": [], "devices": []}
