"""A process that draws figures beside the training loop."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ridgepole.loggers.figures import render_worker
from ridgepole.loggers.figures.snapshot import RenderSettings

_DEATH_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """The answer of a render process to a figure.

    Attributes:
        outcome: `DRAWN`, `FAILED` (drawing raised an error) or `UNREADABLE` (only the process that
            made the figure can draw it).
        data: The file, or the error.
        width: Width in pixels.
        height: Height in pixels.
        warnings: Python's warnings, each text once in the life of the process.
    """

    outcome: int
    data: bytes
    width: int = 0
    height: int = 0
    warnings: tuple[str, ...] = ()


class RenderProcess:
    """A fresh interpreter with matplotlib. It ends with this process, however that ends.

    It does not use `multiprocessing`, which runs the user's main module again and needs a guard
    there.
    """

    def __init__(self) -> None:
        self._settings: RenderSettings | None = None
        self._socket, theirs = socket.socketpair()
        try:
            self._process = self._start(theirs.fileno())
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    @staticmethod
    def _start(fd: int) -> subprocess.Popen[bytes]:
        quiet = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        # -P keeps the modules beside this file off the path.
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", str(Path(render_worker.__file__)), str(fd), str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[fd],
            env=os.environ | quiet,
            start_new_session=True,  # Ctrl-C is for the run, which still needs its figures
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def draw(self, figure: bytes, settings: RenderSettings) -> Drawing:
        """Draw a figure in the process.

        Raises:
            OSError: If the process has ended, or has not answered for `render_worker.LIMIT_S`.
            EOFError: If the process has ended.
        """
        self.set_up(settings)
        return self._ask(render_worker.FIGURE, figure)

    def set_up(self, settings: RenderSettings) -> None:
        """Send new settings and wait until the process is ready; errors as in `draw`."""
        if settings is not self._settings:
            self._ask(render_worker.SETUP, settings.pickled())
            self._settings = settings

    def _ask(self, kind: bytes, body: bytes) -> Drawing:
        self._socket.settimeout(render_worker.LIMIT_S)
        self._socket.sendall(render_worker.QUESTION.pack(kind, len(body)))
        self._socket.sendall(body)
        head = render_worker.receive(self._socket, render_worker.ANSWER.size)
        outcome, width, height, size, noted = render_worker.ANSWER.unpack(head)
        data = bytes(render_worker.receive(self._socket, size))
        notes = render_worker.receive(self._socket, noted)
        warned = tuple(map(str, json.loads(notes))) if notes else ()
        return Drawing(outcome=outcome, data=data, width=width, height=height, warnings=warned)

    def close(self) -> None:
        """End the process at once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a waiting thread
        self._socket.close()
        with contextlib.suppress(OSError):
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DEATH_S)

    def forget(self) -> None:
        """Release the process in a forked child: it belongs to the parent."""
        self._socket.close()
        self._process.returncode = 0  # the parent waits for it
