"""Runs each trial as a task of a Ray cluster, or of a local one that lives as long as the sweep."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ridgepole.errors import SweepError
from ridgepole.sweeps.executors.base import EXCLUSIVE, TrialSpec
from ridgepole.sweeps.executors.errand import Parcel
from ridgepole.sweeps.executors.raygateway import Settings
from ridgepole.sweeps.executors.tasks import Gone, Task, TaskExecutor
from ridgepole.sweeps.extras import need
from ridgepole.sweeps.jobs import Job
from ridgepole.sweeps.options import Options

_OPEN_SECONDS = 120.0
"""How long it may take to start a local cluster, or to connect to another."""
_PATIENCE = 30.0
"""How long a cluster's head may be out of reach before the sweep stops."""
_CLOSE_SECONDS = 20.0
_REST = 0.1
_SHORT = 24
_SHARED = {**EXCLUSIVE, "RIDGEPOLE_DEVICE_LEASE": "shared"}


def make(options: Options, workers: int) -> RayExecutor:
    """The executor, with so many tasks at most."""
    return RayExecutor(options.ray, workers, reuse=options.reuse_workers)


def check(options: Options) -> None:
    """Finds out what can be known before anything is made.

    Raises:
        MissingExtraError: If Ray is not installed.
    """
    del options
    for package in ("ray", "cloudpickle"):
        need(package, "the executor 'ray'")


class RayExecutor(TaskExecutor[int]):
    """One task of Ray Core for each attempt of a trial, never retried by Ray itself.

    Ray runs in a process of its own beside the driver, the gateway: Ray ends a process whose cluster has gone, and
    prints on its terminal, and the driver must suffer neither.

    Args:
        wishes: `address`, and what a trial needs.
        workers: How many tasks wait or run at a time.
        reuse: Whether a worker process runs one trial after another.
    """

    def __init__(self, wishes: Mapping[str, Any], workers: int, *, reuse: bool) -> None:
        super().__init__(workers)
        self._address = str(wishes.get("address") or os.environ.get("RAY_ADDRESS") or "local")
        needs = {key: value for key, value in wishes.items() if key != "address"}
        self._settings = Settings(self._address, needs, reuse, _PATIENCE)
        self._folder: str | None = None
        self._gateway: subprocess.Popen[bytes] | None = None
        self._conn: Connection[Any, Any] | None = None
        self._ended: dict[int, Gone] = {}
        self._submitted = 0
        self._lost = ""
        self._log = Path(os.devnull)

    # --- what TaskExecutor asks for

    def _open(self, job: Job) -> Parcel:
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]

        gpus = self._settings.needs.get("num_gpus") or 0
        part = isinstance(gpus, float) and not gpus.is_integer()  # several trials on a card, as was asked for
        moves = "working_dir" not in (self._settings.needs.get("runtime_env") or {})
        parcel = Parcel.of(job, cloudpickle.dumps, _SHARED if part else EXCLUSIVE, moves=moves)
        self._log = self.directory.log
        self._late = 0.0 if self._address == "local" else self._late
        if self._address == "local":
            self._folder = _short_folder()
            self._settings = replace(self._settings, folder=self._folder)
        self._start_gateway(parcel)
        self._wait_until_open()
        return parcel

    def _launch(self, parcel: Parcel, spec: TrialSpec) -> int:
        del parcel  # the gateway has it
        self._submitted += 1
        self._send("submit", self._submitted, spec)
        return self._submitted

    def _gone(self, task: Task[int]) -> Gone | None:
        return self._ended.get(task.handle) or (Gone(self._lost) if self._lost else None)

    def _drop(self, task: Task[int]) -> None:
        self._send("cancel", task.handle, False)

    def _kill(self, task: Task[int]) -> None:
        self._send("cancel", task.handle, True)

    def _rest(self, timeout: float) -> None:
        for message in self._messages(min(timeout, _REST)):
            if message[0] == "gone":
                self._ended[message[1]] = message[2]
            elif message[0] == "lost":
                self._lost = message[1]
        if self._lost and not self._closed:
            raise SweepError(f"{self._lost}; what Ray said stands in {self._log}")
        if self._lost:
            time.sleep(timeout)

    def _shut(self) -> None:
        gateway, conn = self._gateway, self._conn
        self._gateway = self._conn = None
        if conn is not None:
            with contextlib.suppress(OSError):
                conn.send(("close",))
        if gateway is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                gateway.wait(1.0 if self._lost else _CLOSE_SECONDS)
            with contextlib.suppress(ProcessLookupError):  # a local cluster's processes are in its group
                os.killpg(gateway.pid, signal.SIGKILL)
            gateway.wait()
        if conn is not None:
            conn.close()
        if self._folder is not None:  # which the gateway has removed, unless it was killed
            shutil.rmtree(self._folder, ignore_errors=True)

    # --- the gateway

    def _start_gateway(self, parcel: Parcel) -> None:
        ours, theirs = socket.socketpair()
        self._conn = Connection(ours.detach())
        paths = f"import sys; sys.path[:] = {sys.path!r}"
        code = f"{paths}\nfrom {Settings.__module__} import main; main({theirs.fileno()})"
        with theirs, self._log.open("ab") as log:
            self._gateway = subprocess.Popen(  # noqa: S603 - this interpreter, with our own code
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C on the terminal is the driver's
                env=self._environ(),
            )
        self._send("open", self._settings, parcel)

    def _environ(self) -> dict[str, str]:
        environ = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
        if self._address == "local" and not any(name.startswith("RAY_AUTH_") for name in environ):
            # Ray listens to the network; a token of its own keeps others out, and leaves none in the home directory
            environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        return environ

    def _wait_until_open(self) -> None:
        until = time.monotonic() + _OPEN_SECONDS
        while time.monotonic() < until:
            for message in self._messages(_REST):
                if message[0] == "open":
                    if message[1]:
                        logging.getLogger("ridgepole.sweeps").warning("%s", message[1])
                    return
                raise SweepError(f"{message[1]}; what Ray said stands in {self._log}")
            if self.guard is not None and self.guard.requested is not None:
                raise self.guard.requested
        raise SweepError(f"Ray at {self._address!r} did not answer for {_OPEN_SECONDS:.0f} s; see {self._log}")

    def _send(self, *message: object) -> None:
        if self._conn is not None:
            with contextlib.suppress(OSError):  # it has died, which the next look finds out
                self._conn.send(message)

    def _messages(self, timeout: float) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        if self._conn is None or self._lost:
            return found
        try:
            while self._conn.poll(0.0 if found else timeout):
                found.append(self._conn.recv())
        except (EOFError, OSError):
            found.append(("lost", f"the connection to Ray at {self._address!r} was lost"))
        return found


def _short_folder() -> str:
    """Makes a directory of the cluster's own. Ray has sockets in it, whose whole paths must not be over 107 bytes."""
    home = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="rp-ray-", dir=home if len(home) <= _SHORT else "/tmp")  # noqa: S108 - as Ray itself
