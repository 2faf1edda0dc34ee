"""The end of a run as backends show it, and the command that brings what they lack."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from ridgepole import rundir
from ridgepole.errors import user_traceback
from ridgepole.permanence import RunContext


def failure(run: RunContext | None) -> str:
    """Return the error that ends a run, with its traceback; empty if the run succeeds.

    In a plain script it is the exception that is being handled: of a `with` block that it leaves,
    or of the `except` or `finally` clause that calls `cleanup`.

    Args:
        run: The run; None in a plain script.
    """
    if run is None:
        return _shown(sys.exc_info()[1])
    if not run.failed:
        return ""
    return str(getattr(run, "error", "")).strip() or "the run failed"


def failure_at_exit() -> str:
    """Return the uncaught exception that ends a script which closes nothing; empty without one.

    Interactive sessions have none: they survive their errors.
    """
    if hasattr(sys, "ps1"):
        return ""
    return _shown(getattr(sys, "last_value", None))


def _shown(error: object) -> str:
    if not isinstance(error, BaseException) or (isinstance(error, SystemExit) and not error.code):
        return ""
    return user_traceback(error).strip()


def export_command(record: Path | None, target: str) -> str:
    """Return the command that brings a local record to a backend; empty without such a record.

    Args:
        record: The directory of the record.
        target: The name of the backend among the targets of `ridgepole export`.
    """
    if record is None or not target or not any(record.glob(rundir.METRICS_GLOB)):
        return ""
    return shlex.join(["ridgepole", "export", str(record), "--to", target])
