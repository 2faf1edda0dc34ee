"""The optional packages of Ridgepole, by the extra that names them.

Messages name the packages themselves: that command works for a clone, a wheel and a release alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from shlex import quote

_NAME = re.compile(r"[\w.-]+")


def requirements(extra: str) -> dict[str, str]:
    """Return what an extra requires by package, such as `{"wandb": "wandb>=0.23.1"}`.

    It is read from the metadata of the installed Ridgepole.
    """
    from importlib import metadata  # an error's hint alone needs it, and it loads email and zipfile

    marker = f'extra == "{extra}"'
    found = {}
    try:
        lines = metadata.requires("ridgepole") or ()
    except metadata.PackageNotFoundError:  # run from its sources
        lines = ()
    for line in lines:
        requirement, _, condition = line.partition(";")
        name = _NAME.match(requirement)
        if name and marker in condition.replace("'", '"'):
            found[name[0]] = requirement.strip()
    return found


def pip_install(wanted: Iterable[str]) -> str:
    """Return the command that installs these requirements."""
    return " ".join(("pip install", *(quote(requirement) for requirement in wanted)))


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra."""
    return pip_install(requirements(extra).values() or [f"ridgepole[{extra}]"])
