"""The environment of one trial, in a process that runs others before and after it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def surrounded(environ: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for as long as this lasts.

    A client of W&B that the user's own code has begun reads them once in a process: it is ended before and after, and
    with it a run that was left open, as failed where the trial has.

    Args:
        environ: The variables; with none of them nothing is done at all.
    """
    if not environ:
        yield
        return
    before = {name: os.environ.get(name) for name in environ}
    _end_client(0)
    os.environ.update(environ)
    code = 1
    try:
        yield
        code = 0
    finally:
        _end_client(code)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _end_client(exit_code: int) -> None:
    wandb = sys.modules.get("wandb")
    if wandb is None or not hasattr(wandb, "teardown"):  # a folder of that name
        return
    if getattr(wandb, "run", None) is not None:
        wandb.finish(exit_code=exit_code)
    wandb.teardown(exit_code=exit_code)
