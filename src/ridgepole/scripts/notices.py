"""Tell the user how a script's run begins and ends, and hide the traceback of a Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from ridgepole import rundir
from ridgepole.checkpoint import CheckpointStore
from ridgepole.progress.text import spent
from ridgepole.scripts.record import Script, ScriptRecord, unfinished_with_others

_QUIET = "ridgepole_quiet"


def end_at_users_line(trace: TracebackType | None) -> None:
    """Leave out the frames of Ridgepole below the line at which a script was stopped."""
    own, last = f"{Path(__file__).parents[1]}{os.sep}", None
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(own):
            last = trace
        trace = trace.tb_next
    if last is not None:
        last.tb_next = None


def leave_out_of_stderr(stop: KeyboardInterrupt) -> None:
    """Have Python print no traceback of a Ctrl-C that has ended a run."""
    vars(stop)[_QUIET] = True
    if not isinstance(sys.excepthook, _QuietHook):
        sys.excepthook = _QuietHook(sys.excepthook)


class _QuietHook:
    """An `excepthook` that prints nothing of an error that is marked."""

    def __init__(self, before: Callable[..., object]) -> None:
        self._before = before

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None, /) -> None:
        if _QUIET not in vars(error):
            self._before(kind, error, trace)


def anew(root: Path, script: Script) -> list[str]:
    """Return lines that say why a script that was to resume starts a new run."""
    lines = [f"no unfinished run of this command in {_near(root)}: starting a new one"]
    other = unfinished_with_others(root, script)
    if other is not None:
        command = shlex.join(map(str, other.fields["script"].get("command") or ()))
        run = _near(other.path)
        lines.append(f"{run} is not resumed: its command was {command}")
        lines.append(f"to resume it as it was: ridgepole resume {shlex.quote(run)}")
    return lines


def resumed(path: Path) -> str:
    """Return a line that says which run a script resumes."""
    return f"resuming {_near(path)}"


def tell_lines(lines: Iterable[str]) -> None:
    """Write lines to stderr, if it is there."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write("".join(f"{line}\n" for line in lines))


def tell(record: ScriptRecord) -> None:
    """Say on stderr how a run has ended, where it is, and how to resume from its checkpoint."""
    with contextlib.suppress(OSError):  # the working directory is gone
        status, path = str(record.fields["status"]), shlex.quote(_near(record.path))
        lines = [f"{status} in {spent(record.fields['seconds'])} · {path}"]
        if status != "finished" and CheckpointStore(record.path / rundir.CHECKPOINTS).list():
            lines.append(f"resume with: ridgepole resume {path}")
        tell_lines(lines)


def _near(path: Path) -> str:
    return min(os.path.relpath(path), str(path), key=len)
