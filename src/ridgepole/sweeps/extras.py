"""Checks for the packages that only sweeps need, before they are imported."""

from __future__ import annotations

import importlib.util

from ridgepole.errors import MissingExtraError

_EXTRAS = {"torch": "torch", "ray": "ray", "cloudpickle": "ray", "submitit": "slurm"}
_NAMES = {"yaml": "pyyaml"}


def need(package: str, wanted_by: str) -> None:
    """Make sure that a package can be imported.

    Raises:
        MissingExtraError: If it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        package = _NAMES.get(package, package)
        raise MissingExtraError(package, _EXTRAS.get(package, "sweep"), wanted_by)
