"""A process that draws figures, so that the training loop need not."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ridgepole.permanences.loggers.figures import child
from ridgepole.permanences.loggers.figures.snapshot import Settings

_DEATH_S = 5.0


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a render process made of a figure.

    Attributes:
        outcome: `child.DRAWN`, `child.FAILED` (the figure can't be drawn) or `child.UNREADABLE` (it can be drawn where
            it was made, and not in another process).
        data: The file, or what went wrong.
        width: Width in pixels.
        height: Height in pixels.
        warnings: What Python warned of, each text once in the life of the process.
    """

    outcome: int
    data: bytes
    width: int = 0
    height: int = 0
    warnings: tuple[str, ...] = ()


class RenderProcess:
    """A fresh interpreter that has matplotlib and nothing else; it ends with this process, however that ends.

    Not made by `multiprocessing`: that runs the user's main module again in the child, and needs a guard in it.

    Raises:
        OSError: If it can't be started.
    """

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._wire, theirs = socket.socketpair()
        try:
            self._process = self._start(theirs.fileno())
        except BaseException:
            self._wire.close()
            raise
        finally:
            theirs.close()

    @staticmethod
    def _start(fd: int) -> subprocess.Popen[bytes]:
        quiet = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        # The interpreter of this process with a file of this package; -P keeps this package's modules off the path.
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", str(Path(child.__file__)), str(fd), str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[fd],
            env=os.environ | quiet,
            start_new_session=True,  # Ctrl-C is for the run, which still wants its figures
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def draw(self, figure: bytes, settings: Settings) -> Drawing:
        """Has a figure drawn.

        Args:
            figure: What `snapshot` returned.
            settings: What matplotlib's settings were then.

        Returns:
            What came of it.

        Raises:
            OSError: If the process is gone, or has not answered for `child.LIMIT_S`.
            EOFError: If the process is gone.
        """
        self.set_up(settings)
        return self._ask(child.FIGURE, figure)

    def set_up(self, settings: Settings) -> None:
        """Tells it the settings, where it does not have them yet; once this returns it is ready; errors as `draw`."""
        if settings is not self._settings:
            self._ask(child.SETUP, settings.pickled())
            self._settings = settings

    def _ask(self, kind: bytes, body: bytes) -> Drawing:
        self._wire.settimeout(child.LIMIT_S)
        self._wire.sendall(child.QUESTION.pack(kind, len(body)))
        self._wire.sendall(body)
        head = child.receive(self._wire, child.ANSWER.size)
        outcome, width, height, size, noted = child.ANSWER.unpack(head)
        data = bytes(child.receive(self._wire, size))
        notes = child.receive(self._wire, noted)
        return Drawing(outcome, data, width, height, tuple(map(str, json.loads(notes))) if notes else ())

    def close(self) -> None:
        """Ends it, whatever it is doing."""
        with contextlib.suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)  # wakes a thread of ours that waits for an answer
        self._wire.close()
        with contextlib.suppress(OSError):
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DEATH_S)

    def forget(self) -> None:
        """In a forked child of ours: lets go of what belongs to the parent."""
        self._wire.close()
        self._process.returncode = 0  # not ours to wait for
