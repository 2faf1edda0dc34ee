"""The environment variables of a trial in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def scoped_environ(environ: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside the context.

    A W&B client in the user's own code reads them once in a process. It is therefore ended before
    and after, with any run that was left open; a failed trial leaves a failed run.
    """
    if not environ:
        yield
        return
    before = {name: os.environ.get(name) for name in environ}
    _end_wandb_client(0)
    os.environ.update(environ)
    code = 1
    try:
        yield
        code = 0
    finally:
        _end_wandb_client(code)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _end_wandb_client(exit_code: int) -> None:
    wandb = sys.modules.get("wandb")
    if wandb is None or not hasattr(wandb, "teardown"):  # a folder of that name
        return
    if getattr(wandb, "run", None) is not None:
        wandb.finish(exit_code=exit_code)
    wandb.teardown(exit_code=exit_code)
