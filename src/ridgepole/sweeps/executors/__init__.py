"""Where trials run: one module for each `executor` that a sweep can name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ridgepole.errors import SweepError

if TYPE_CHECKING:
    from ridgepole.sweeps.executors.base import Executor
    from ridgepole.sweeps.options import Options


def load(name: str, options: Options, workers: int) -> Executor:
    """Makes the executor of a name.

    Args:
        name: `inline`, `process`, `ray` or `slurm`.
        options: The sweep's `ridgepole` table.
        workers: How many trials run at a time.

    Raises:
        SweepError: If there is none of that name.
        MissingExtraError: If a package that it needs is not installed.
    """
    home = f"{__name__}.{name}"
    try:
        module = importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name != home:
            raise
        raise SweepError(f"there is no executor {name!r} in this version of Ridgepole") from None
    made: Executor = module.make(options, workers)
    return made
