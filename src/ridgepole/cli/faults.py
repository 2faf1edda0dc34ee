"""How an error leaves the command line: what is printed, and with which exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from ridgepole.cli.output import complain, paint
from ridgepole.errors import ConfigError, Problem, RidgepoleError, RunDirError, StopRequested, user_traceback


def guarded(call: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Calls a verb and turns what it raises into a message and an exit code.

    Args:
        call: The verb's body.
        arguments: Its parsed arguments.

    Returns:
        The exit code.
    """
    try:
        code = call(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:  # noqa: BLE001 - the last place where an error can be shown
        if arguments.debug:
            import traceback

            traceback.print_exception(error)
        else:
            explain(error)
        return exit_code(error)
    return code


def explain(error: BaseException) -> None:
    """Prints an error on stderr as its kind deserves."""
    if isinstance(error, ConfigError):
        show_problems(error.problems)
    elif isinstance(error, SystemExit):
        if isinstance(error.code, str):
            complain(error.code)
    elif isinstance(error, StopRequested) or type(error) is KeyboardInterrupt:
        return
    elif isinstance(error, RidgepoleError) and not hasattr(error, "ridgepole_run"):
        complain(f"{paint('error', 'red', sys.stderr)}: {error}")
    else:
        text = user_traceback(error)
        complain(text)
        if 'File "' not in text and not isinstance(error, RidgepoleError):
            complain("raised inside Ridgepole: --debug shows where")


def show_problems(problems: tuple[Problem, ...] | list[Problem]) -> None:
    """Prints problems as a compiler would, and how many there are."""
    for problem in problems:
        colour = "red" if problem.severity == "error" else "yellow"
        head, _, rest = problem.render().partition(f"{problem.severity}: ")
        complain(f"{head}{paint(problem.severity, colour, sys.stderr)}: {rest}")
    counts = [(sum(p.severity == kind for p in problems), kind) for kind in ("error", "warning")]
    complain(", ".join(f"{count} {kind}{'s' * (count != 1)}" for count, kind in counts if count))


def exit_code(error: BaseException) -> int:
    """The exit code of an error; that of the first cause in a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, StopRequested):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    in_a_run = hasattr(error, "ridgepole_run")
    return 2 if isinstance(error, ConfigError | RunDirError) and not in_a_run else 1
