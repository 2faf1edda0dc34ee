"""Collect the stacks of a run's processes from outside: the run may hold its interpreter's lock."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

_MOST_PROCESSES = 16
_SPY_SECONDS = 20.0
_ANSWER_SECONDS = 2.0
_QUIET_SECONDS = 0.1
_STATES = {"T": "stopped by a signal", "t": "stopped by a debugger", "D": "waiting for a device or disk", "Z": "ended"}


def collect(pid: int, answers: int, number: int) -> list[str]:
    """Return the stacks of a process, then of its descendants, except this process and its own.

    py-spy reads them from outside where it is installed, frames of C included. Otherwise each
    process that has a handler of `faulthandler` is asked by a signal: the handler needs no lock.

    Args:
        pid: The process.
        answers: The file into which the handlers write.
        number: The signal that they handle.
    """
    return [
        f"--- process {each.pid}, {role}{_state(each)}: {_command(each)}\n\n{_stacks(each.pid, answers, number)}"
        for each, role in _processes(pid)
    ] or [""]


def _processes(pid: int) -> Iterator[tuple[psutil.Process, str]]:
    try:
        run = psutil.Process(pid)
        below = run.children(recursive=True)
        own = {os.getpid(), *(each.pid for each in psutil.Process().children(recursive=True))}
    except psutil.Error:
        return
    yield run, "the run"
    for each in [each for each in below if each.pid not in own][:_MOST_PROCESSES]:
        yield each, "a worker or another child"


def _state(process: psutil.Process) -> str:
    word = _STATES.get(_field(process.pid, "State")[:1], "")
    return f" ({word})" if word else ""


def is_stopped(pid: int) -> bool:
    """Return whether a process was stopped by a signal, such as Ctrl-Z, or by a debugger."""
    return _field(pid, "State")[:1] in ("T", "t")


def _field(pid: int, name: str) -> str:
    """Return a line of a process's status; empty where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            if line.startswith(f"{name}:"):
                return line.partition(":")[2].strip()
    return ""


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())[:200]
    return "gone"


def _stacks(pid: int, answers: int, number: int) -> str:
    spied = _spy(pid)
    if spied:
        return spied
    handled = _field(pid, "SigCgt")
    if not handled or not int(handled, 16) >> (number - 1) & 1:
        return "no stacks: it is not a process of Python, or lacks a handler; install py-spy to see it\n"
    before = os.fstat(answers).st_size
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
    size, until, quiet = before, time.monotonic() + _ANSWER_SECONDS, 0.0
    while time.monotonic() < until and (size == before or time.monotonic() < quiet):
        time.sleep(0.02)
        if (now := os.fstat(answers).st_size) != size:
            size, quiet = now, time.monotonic() + _QUIET_SECONDS
    text = os.pread(answers, size - before, before).decode("utf-8", "replace")
    return text or "no answer: it is stopped, or waits for a device or disk\n"


def _spy(pid: int) -> str:
    """Return what py-spy sees; empty where it is not installed or may not look."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    for options in (["--native"], []) if found else ():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(  # noqa: S603 - a tool beside the interpreter
                [str(found), "dump", "--pid", str(pid), *options], capture_output=True, timeout=_SPY_SECONDS, check=True
            )
            return done.stdout.decode("utf-8", "replace")
    return ""
