"""Run a script as a child of this process, and record what becomes of it.

Only a parent can record a segmentation fault, an out-of-memory kill or `os._exit`, and keep what C
code prints.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ridgepole import rundir
from ridgepole.script_context import RESUME, RUN_DIR
from ridgepole.scripts.child import Child
from ridgepole.scripts.history import OtherLibraries, copying_environ
from ridgepole.scripts.record import Script, ScriptRecord, ending, how_it_ended
from ridgepole.watch.console import Console
from ridgepole.watch.recorder import Recorder, WatchedRun
from ridgepole.watch.settings import interval_of_scripts

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def script_environ(path: Path, *, resume: bool) -> dict[str, str]:
    """Return the environment in which a script finds its run."""
    environ = {name: value for name, value in os.environ.items() if name != RESUME}
    return environ | {RUN_DIR: str(path)} | ({RESUME: "1"} if resume else {})


def supervise(script: Script, record: ScriptRecord, *, resume: bool = False) -> tuple[str, int]:
    """Run a script to its end, in the foreground of the terminal, and record the end.

    A signal of the terminal, such as Ctrl-C, reaches the script directly: it is in the same process
    group. Signals that are sent to this process alone are passed on.

    Returns:
        The status and the exit code; 128 plus the number of a signal that killed it.

    Raises:
        RidgepoleError: If no process can be started.
        OSError: If the end can't be recorded.
    """
    console = Console(record.path / rundir.CONSOLE)
    with _signals_blocked() as blocked:
        try:
            child = Child(
                script.command,
                console,
                environ=copying_environ() | script_environ(record.path, resume=resume),
                cwd=script.directory,
                echo=True,
            )
        except BaseException as error:
            record.end("failed", error={"type": type(error).__name__, "message": str(error)})
            raise
        recorder = watch_child(record, child.pid)
        others = OtherLibraries(child.pid, Path(script.directory), record.path, attempt=record.fields["attempt"])
        stopped = _wait(child, blocked)
        recorder.close()
        child.close()
        others.close()
    code = child.process.returncode
    status, fields = ending(code, stopped=stopped)
    if status != "finished":
        message = how_it_ended(script.name, code)
        line = console.error_line() if code > 0 else ""
        kind = "Signal" if code < 0 else "ExitCode"
        fields["error"] = {"type": kind, "message": f"{message}: {line}" if line else message}
    record.end(status, **fields)
    return status, int(fields["exit_code"])


def watch_child(record: ScriptRecord, pid: int) -> Recorder:
    """Begin to record the system metrics of a script that runs as another process."""
    run = WatchedRun(directory=record.path, attempt=int(record.fields["attempt"]), pid=pid)
    recorder = Recorder(run, interval_of_scripts(os.environ))
    recorder.start()
    return recorder


@contextmanager
def _signals_blocked() -> Iterator[set[int]]:
    """Block the signals that `_wait` takes one by one; those that are ignored stay so."""
    wanted = {*_FORWARDED, signal.SIGCHLD, signal.SIGWINCH}
    blocked: set[int] = {number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield blocked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(child: Child, blocked: set[int]) -> bool:
    """Pass signals on until the script has ended; return whether one asked it to stop."""
    stopped = False
    while child.process.poll() is None:
        number, by_kernel = _next_signal(blocked)
        if number == signal.SIGWINCH:
            child.resized()
        elif number in _FORWARDED:
            stopped = stopped or number in _STOPS
            if not by_kernel:  # else the terminal has sent it to the whole group
                child.send(number)
    return stopped


def _next_signal(blocked: set[int]) -> tuple[int, bool]:
    """Wait for a signal; return its number and whether the kernel itself sent it.

    `si_code` is positive then (sigaction(2)). Where the system does not tell, as on macOS, Ctrl-C
    counts as the terminal's if there is one.
    """
    if hasattr(signal, "sigwaitinfo"):
        found = signal.sigwaitinfo(blocked)
        return found.si_signo, found.si_code > 0
    number = signal.sigwait(blocked)
    at_terminal = False
    with contextlib.suppress(OSError):
        at_terminal = os.tcgetpgrp(0) == os.getpgrp()
    return number, at_terminal and number == signal.SIGINT
