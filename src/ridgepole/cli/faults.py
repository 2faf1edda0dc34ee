"""Turn errors into messages and exit codes."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Iterable

from ridgepole.cli.output import ReaderGone, complain, flush, paint
from ridgepole.errors import (
    ClusterError,
    ConfigError,
    Problem,
    RankError,
    RidgepoleError,
    RunDirError,
    StopRequested,
    redact,
    user_traceback,
)


def guarded(call: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Call a verb, and turn its error into a message and an exit code.

    Args:
        call: The verb's body.
        arguments: Its parsed arguments.

    Returns:
        The exit code.
    """
    try:
        code = call(arguments)
    except ReaderGone:
        code = 0
    except BaseException as error:  # noqa: BLE001 - the last place where an error can be shown
        explain(error, debug=arguments.debug)
        code = exit_code(error)
    flush()
    return code


def explain(error: BaseException, *, debug: bool = False, in_a_run: bool = False, secrets: Iterable[str] = ()) -> None:
    """Print an error on stderr.

    Args:
        error: The error.
        debug: Whether to show every frame, Ridgepole's own too.
        in_a_run: Whether a run had started. Then its own frames are shown.
        secrets: Texts that must not be shown.
    """
    if debug:
        text = "".join(traceback.format_exception(error)).rstrip()
    elif isinstance(error, ConfigError) and not in_a_run:
        show_problems(error.problems)
        return
    elif isinstance(error, SystemExit):
        text = error.code if isinstance(error.code, str) else ""
        if in_a_run and error.code and not text:
            text = "\n".join([f"sys.exit({error.code})", *getattr(error, "__notes__", ())])
    elif isinstance(error, StopRequested) or type(error) is KeyboardInterrupt:
        return
    elif isinstance(error, RidgepoleError) and not in_a_run:
        text = f"{paint('error', 'red', sys.stderr)}: {error}"
    else:
        text = user_traceback(error)
        if 'File "' not in text and not isinstance(error, RidgepoleError):
            text += "\nraised inside Ridgepole: --debug shows where"
    if text:
        complain(redact(text, secrets))


def show_problems(problems: tuple[Problem, ...] | list[Problem]) -> None:
    """Print problems as a compiler would, and their number."""
    for problem in problems:
        colour = "red" if problem.severity == "error" else "yellow"
        head, _, rest = problem.render().partition(f"{problem.severity}: ")
        complain(f"{head}{paint(problem.severity, colour, sys.stderr)}: {rest}")
    counts = [(sum(p.severity == kind for p in problems), kind) for kind in ("error", "warning")]
    complain(", ".join(f"{count} {kind}{'s' * (count != 1)}" for count, kind in counts if count))


def exit_code(error: BaseException, *, in_a_run: bool = False) -> int:
    """Return the exit code of an error; for a group, that of its first error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, StopRequested | RankError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 2 if isinstance(error, ConfigError | RunDirError | ClusterError) and not in_a_run else 1
