"""The driver's side of one process of `agent`: orders go there, and what it says is collected."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ridgepole.threads import start_thread

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); sys.argv[:] = ['ridgepole']; "
    "from ridgepole.sweeps.wandb.agent import main; main()"
)
_LEAVE = 2.0
"""Seconds that the client has for ending its own processes."""

News: TypeAlias = "queue.SimpleQueue[tuple[AgentProcess, dict[str, Any]]]"


class AgentProcess:
    """One process of the client.

    Args:
        folder: Where the client may write; `agent.log` in it receives what it prints.
        news: Receives what it says, and `{"gone": ""}` at the end.
        order: What it is for.

    Attributes:
        log: What the client prints.
    """

    def __init__(self, folder: Path, news: News, order: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "agent.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-c", _BOOT, json.dumps([str(path) for path in sys.path])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(folder),
                start_new_session=True,  # Ctrl-C is the driver's to answer
            )
        self._news = news
        self.order(order)
        start_thread(threading.Thread(target=self._listen, name="ridgepole-agent", daemon=True))

    @property
    def alive(self) -> bool:
        """Whether it can still be told something."""
        return self._process.poll() is None

    def order(self, order: Mapping[str, Any]) -> None:
        """Says something to it; one that is gone hears nothing, and has said so."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError, ValueError):
            stdin.write(json.dumps(order).encode() + b"\n")
            stdin.flush()

    def close(self) -> None:
        """Ends it and the processes of its own; those of one that has ended end by themselves."""
        import psutil

        mine: list[Any] = []
        with contextlib.suppress(psutil.Error):
            if self.alive:  # else its number may be another's by now
                mine = psutil.Process(self._process.pid).children(recursive=True)
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()  # upon which it leaves
        deadline = time.monotonic() + _LEAVE
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LEAVE)
        psutil.wait_procs(mine, max(0.0, deadline - time.monotonic()))
        for process in [*mine, self._process]:
            with contextlib.suppress(psutil.Error, OSError):
                process.kill()
        self._process.wait()

    def _listen(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        for line in stdout:
            self._news.put((self, json.loads(line)))
        self._news.put((self, {"gone": ""}))
        stdout.close()


def _environment(folder: Path) -> dict[str, str]:
    """The client's surroundings: nothing of a run that this process may be part of, and its files below the sweep's."""
    own = {"WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_SERVICE", "WANDB_MODE", "WANDB_DISABLED"}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    for name, part in (("WANDB_CACHE_DIR", "cache"), ("WANDB_DATA_DIR", "data")):
        environment.setdefault(name, str(folder / part))
    environment.setdefault("WANDB_ERROR_REPORTING", "false")
    return environment | {"WANDB_DIR": str(folder), "WANDB_SILENT": "true"}
