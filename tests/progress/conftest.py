"""Real terminals for the tests of the progress display: a pseudo-terminal, and an emulator that keeps its screen."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte
import pytest

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
COLOURS = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES")
PYTHON = ("PYTHONIOENCODING", "PYTHONUNBUFFERED")


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment without anything that changes what a display does."""
    kept = {key: value for key, value in os.environ.items() if key not in RANKS + COLOURS + PYTHON}
    return kept | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"} | extra


class Terminal:
    """A program on a pseudo-terminal, and the screen that a person would see."""

    def __init__(self, script: Path, columns: int, rows: int, environment: dict[str, str]) -> None:
        self.columns = columns
        self.screen = pyte.HistoryScreen(columns, rows, history=2000, ratio=0.5)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.child = pexpect.spawn(
            sys.executable, [str(script)], dimensions=(rows, columns), env=environment, timeout=30
        )
        self.child.delaybeforesend = None
        self.child.delayafterclose = self.child.ptyproc.delayafterclose = 0.01
        self.child.delayafterterminate = self.child.ptyproc.delayafterterminate = 0.01

    def pump(self, seconds: float = 0.02) -> bool:
        """Feeds what has come to the emulator; False at the end of the program."""
        try:
            data = self.child.read_nonblocking(65536, timeout=seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self.stream.feed(data)
        return True

    def lines(self) -> list[str]:
        """All lines, those that have scrolled away first, without empty ones at the end."""
        past = ["".join(line[at].data for at in range(self.columns)).rstrip() for line in self.screen.history.top]
        lines = past + [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def hang_up(self) -> None:
        """Takes the terminal away from under the program, as a lost connection does."""
        self.child.ptyproc.fileobj.close()
        self.child.closed = self.child.ptyproc.closed = True

    @property
    def text(self) -> str:
        return "\n".join(self.lines())

    def until(self, *wanted: str, seconds: float = 30.0) -> list[str]:
        """Waits until all texts are on the screen; returns its lines."""
        end = time.monotonic() + seconds
        while not all(one in self.text for one in wanted):
            alive = self.pump()
            assert alive or all(one in self.text for one in wanted), f"ended without {wanted}:\n{self.text}"
            assert time.monotonic() < end, f"{wanted} never came:\n{self.text}"
        return self.lines()

    def finish(self) -> list[str]:
        """Waits for the end of the program; returns the lines that are left."""
        end = time.monotonic() + 60
        while self.pump(0.1):
            assert time.monotonic() < end, f"the program does not end:\n{self.text}"
        self.child.close()
        return self.lines()


@pytest.fixture
def on_terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts a program on a terminal: `on_terminal(source, columns=100, rows=30, NO_COLOR="1")`."""
    started: list[Terminal] = []

    def start(source: str, *, columns: int = 100, rows: int = 30, **environment: str) -> Terminal:
        script = tmp_path / f"program{len(started)}.py"
        script.write_text(textwrap.dedent(source), encoding="utf-8")
        terminal = Terminal(script, columns, rows, clean_environment(**environment))
        started.append(terminal)
        return terminal

    yield start
    for terminal in started:
        if terminal.child.closed:
            terminal.child.ptyproc.terminate(force=True)
        else:
            terminal.child.close(force=True)
