"""Where trials run: one module for each `executor` that a sweep can name.

A module has `make(options, workers)`, which gives an `Executor`; or, where somebody else chooses the parameters,
`drive(sweep)`, which stands in the place of the driver's loop.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from ridgepole.errors import SweepError


def find(name: str) -> ModuleType:
    """The module of an executor; what it needs itself is imported when it starts.

    Args:
        name: Such as `inline` or `process`.

    Raises:
        SweepError: If there is none of that name.
    """
    home = f"{__name__}.{name}"
    try:
        return importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name != home:
            raise
        raise SweepError(f"there is no executor {name!r} in this version of Ridgepole") from None
