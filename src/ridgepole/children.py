"""Forked children of this process, and interpreters that import what this one does."""

from __future__ import annotations

import json
import os
import sys
import weakref
from collections.abc import Callable

_BOOT = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); module, *given = sys.argv[2:]; "
    "sys.argv[:] = ['ridgepole']; importlib.import_module(module).main(*given)"
)


def in_forked_children(method: Callable[[], object]) -> None:
    """Call a bound method in each child that is forked from now on, while its object lives.

    Such hooks can't be unregistered, so the object is held weakly.
    """
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    os.register_at_fork(after_in_child=call)


def our_python(module: str, *arguments: str) -> list[str]:
    """Return the command of an interpreter with our import path that calls a module's `main`."""
    return [sys.executable, "-c", _BOOT, json.dumps([str(path) for path in sys.path]), module, *arguments]
