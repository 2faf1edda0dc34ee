"""Run a program as a child: its output is kept, and it does not outlive its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ridgepole.errors import RidgepoleError
from ridgepole.threads import start_thread
from ridgepole.watch.console import Console
from ridgepole.watch.terminal import copy_size, copy_stream, open_terminal, write_all

_START = """
import os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(143)
for name in ("SIGPIPE", "SIGXFSZ"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
try:
    os.execvp(command[0], command)
except OSError as error:
    print(f"{command[0]} can't be started: {error.strerror}", file=sys.stderr)
    os._exit(127 if isinstance(error, FileNotFoundError) else 126)
"""
"""A child that asks the kernel to be killed with its parent (PR_SET_PDEATHSIG, prctl(2)), and then
becomes the program. In a parent with threads, a `preexec_fn` could hang instead."""


class Child:
    """A running program.

    Args:
        command: The command line.
        console: Keeps the output.
        environ: The environment.
        cwd: The working directory.
        echo: Whether the output is also shown, on the streams of this process. A terminal there is
            a terminal for the program, too.
        own_group: Whether the program leads a process group, so that `kill` reaches its children.
        tap: Called with each piece of output, on another thread.

    Raises:
        RidgepoleError: If no process can be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        console: Console,
        *,
        environ: Mapping[str, str],
        cwd: str | Path | None = None,
        echo: bool = False,
        own_group: bool = False,
        tap: Callable[[bytes], None] | None = None,
    ) -> None:
        self._console, self._tap, self._own_group = console, tap, own_group
        self._terminals: list[int] = []
        self._threads: list[threading.Thread] = []
        self._done_out, self._done_in = os.pipe2(os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        pairs, streams = self._streams(echo=echo)
        try:
            self.process = subprocess.Popen(  # noqa: S603 - the user's own program
                [sys.executable, "-I", "-S", "-c", _START, str(os.getpid()), *command],
                stdin=None if echo else subprocess.DEVNULL,
                stdout=streams[0],
                stderr=streams[1],
                env=dict(environ),
                cwd=cwd,
                process_group=0 if own_group else None,
            )
        except OSError as error:
            for reading, _ in pairs:
                os.close(reading)
            raise RidgepoleError(f"{command[0]} can't be started: {error.strerror or error}") from error
        finally:
            for stream in set(streams):
                os.close(stream)
        for reading, shown in pairs:
            thread = threading.Thread(target=self._copy, args=(reading, shown), name="ridgepole-console", daemon=True)
            start_thread(thread)
            self._threads.append(thread)

    def _streams(self, *, echo: bool) -> tuple[list[tuple[int, int | None]], tuple[int, int]]:
        """Return what to read and where to show it, and the program's standard output and error."""
        if not echo:
            reading, writing = os.pipe()
            return [(reading, None)], (writing, writing)
        terminals = [os.isatty(stream) for stream in (1, 2)]
        if all(terminals):
            reading, writing = self._open_terminal(1)
            return [(reading, 1)], (writing, writing)
        ends = [self._open_terminal(stream) if terminals[stream - 1] else os.pipe() for stream in (1, 2)]
        return [(ends[0][0], 1), (ends[1][0], 2)], (ends[0][1], ends[1][1])

    def _open_terminal(self, stream: int) -> tuple[int, int]:
        reading, writing = open_terminal(stream)
        self._terminals.append(reading)
        return reading, writing

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self.process.pid

    def resized(self) -> None:
        """Give the program's terminals the size of the real one."""
        for terminal in self._terminals:
            copy_size(1 if os.isatty(1) else 2, terminal)
        if self._terminals:
            self.send(signal.SIGWINCH)

    def send(self, number: int) -> None:
        """Send a signal to the program, unless it has ended."""
        with contextlib.suppress(OSError):
            self.process.send_signal(number)

    def terminate(self, grace_seconds: float) -> int:
        """Ask the program to stop by SIGTERM, and kill it and its children when the time is over.

        Returns:
            Its exit code, negative for a signal.
        """
        self.send(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_seconds)
        self.kill()
        return self.process.wait()

    def kill(self) -> None:
        """Kill the program, and its children where it leads a group."""
        if self._own_group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.process.kill()

    def close(self) -> None:
        """Read the rest of the output; the program has ended."""
        os.close(self._done_in)
        for thread in self._threads:
            thread.join()
        os.close(self._done_out)
        self._console.close()

    def _copy(self, reading: int, shown: int | None) -> None:
        """Keep and show output until its end."""

        def take(data: bytes) -> None:
            self._console.write(data)
            if self._tap is not None:
                self._tap(data)
            if shown is not None:
                write_all(shown, data)

        try:
            copy_stream(reading, self._done_out, take)
        finally:
            os.close(reading)
