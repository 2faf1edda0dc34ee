"""The driver's side of one process of `agent`: sends orders to it, and collects its messages."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ridgepole.children import our_python
from ridgepole.loggers.wandb.account import client_environment
from ridgepole.threads import start_thread

_OUTER = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")
"""Variables of a run or a trial that the driver itself may be part of."""
_EXIT_SECONDS = 2.0  # time for the client to end its own processes

News: TypeAlias = "queue.SimpleQueue[tuple[AgentProcess, dict[str, Any]]]"


class AgentProcess:
    """One process of the client.

    Args:
        folder: The directory of the client's files; `agent.log` in it receives its output.
        news: Receives its messages, and `{"gone": ""}` at the end.
        order: The first order.

    Attributes:
        news: As given.
        log: The client's output.
    """

    def __init__(self, folder: Path, news: News, order: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "agent.log"
        environ = client_environment(folder) | {"WANDB_DIR": str(folder), "WANDB_SILENT": "true"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                our_python("ridgepole.sweeps.wandb.agent"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={name: value for name, value in environ.items() if name not in _OUTER},
                start_new_session=True,  # Ctrl-C is the driver's to answer
            )
        self.news = news
        self.order(order)
        start_thread(threading.Thread(target=self._listen, name="ridgepole-agent", daemon=True))

    @property
    def alive(self) -> bool:
        """Return whether it can still receive orders."""
        return self._process.poll() is None

    def order(self, order: Mapping[str, Any]) -> None:
        """Send an order; one to a process that has ended is dropped."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError, ValueError):
            stdin.write(json.dumps(order).encode() + b"\n")
            stdin.flush()

    def close(self) -> None:
        """End it and its child processes; those of a process that has ended end by themselves."""
        import psutil

        children: list[Any] = []
        with contextlib.suppress(psutil.Error):
            if self.alive:  # else its process id may have been reused
                children = psutil.Process(self._process.pid).children(recursive=True)
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()  # it then exits
        deadline = time.monotonic() + _EXIT_SECONDS
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_SECONDS)
        psutil.wait_procs(children, max(0.0, deadline - time.monotonic()))
        for process in [*children, self._process]:
            with contextlib.suppress(psutil.Error, OSError):
                process.kill()
        self._process.wait()

    def _listen(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        for line in stdout:
            self.news.put((self, json.loads(line)))
        self.news.put((self, {"gone": ""}))
        stdout.close()
