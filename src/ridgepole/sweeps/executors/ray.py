"""Run each trial as a task of a Ray cluster, or of a local one that lives as long as the sweep."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ridgepole.children import our_python
from ridgepole.errors import SweepError
from ridgepole.sweeps.executors.ray_gateway import RaySettings
from ridgepole.sweeps.executors.remote_task import TaskPayload
from ridgepole.sweeps.executors.tasks import Task, TaskExecutor, TaskExited
from ridgepole.sweeps.executors.trial_process import EXCLUSIVE
from ridgepole.sweeps.extras import need
from ridgepole.sweeps.run.targets import Target
from ridgepole.sweeps.run.trial import TrialSpec
from ridgepole.sweeps.spec.options import Options

_OPEN_SECONDS = 120.0  # time to start a local cluster, or to connect to another
_PATIENCE = 30.0  # time that a cluster's head may be unreachable before the sweep stops
_CLOSE_SECONDS = 20.0
_POLL_SECONDS = 0.1
_SHORT = 24  # the most characters of the temporary directory, as sockets in it have short paths
_SHARED = {**EXCLUSIVE, "RIDGEPOLE_DEVICE_LEASE": "shared"}


class RayExecutor(TaskExecutor[int]):
    """An executor that submits one task of Ray Core for each attempt, which Ray never retries.

    Ray runs in a process beside the driver, the gateway: it ends a process whose cluster has died,
    and prints on its terminal.

    Args:
        parameters: `address`, and the resources of a trial.
        workers: The number of tasks that wait or run at a time.
        reuse: Whether a worker process runs one trial after another.
    """

    def __init__(self, parameters: Mapping[str, Any], workers: int, *, reuse: bool) -> None:
        super().__init__(workers)
        self._address = str(parameters.get("address") or os.environ.get("RAY_ADDRESS") or "local")
        needs = {key: value for key, value in parameters.items() if key != "address"}
        self._settings = RaySettings(address=self._address, needs=needs, reuse=reuse, patience=_PATIENCE)
        self._folder: str | None = None
        self._gateway: subprocess.Popen[bytes] | None = None
        self._conn: Connection[Any, Any] | None = None
        self._ended: dict[int, TaskExited] = {}
        self._submitted = 0
        self._lost = ""
        self._log = Path(os.devnull)

    @classmethod
    def validate(cls, options: Options) -> None:
        """Check that Ray is installed."""
        del options
        for package in ("ray", "cloudpickle"):
            need(package, "the executor 'ray'")

    @classmethod
    def create(cls, options: Options, workers: int) -> RayExecutor:
        """Return an executor with so many tasks at most."""
        return cls(options.ray, workers, reuse=options.reuse_workers)

    # --- the scheduler

    def _open(self, target: Target) -> TaskPayload:
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]

        gpus = self._settings.needs.get("num_gpus") or 0
        # Several trials on a GPU, as was asked for
        shared = isinstance(gpus, float) and not gpus.is_integer()
        own_folder = "working_dir" in (self._settings.needs.get("runtime_env") or {})
        payload = TaskPayload.pack(
            target, cloudpickle.dumps, _SHARED if shared else EXCLUSIVE, change_folder=not own_folder
        )
        self._log = self.directory.log
        if self._address == "local":
            self._outcome_delay = 0.0
            self._folder = _short_folder()
            self._settings = replace(self._settings, folder=self._folder)
        self._start_gateway(payload)
        self._wait_until_open()
        return payload

    def _launch(self, payload: TaskPayload, spec: TrialSpec) -> int:
        del payload  # the gateway has it
        self._submitted += 1
        self._send("submit", self._submitted, spec)
        return self._submitted

    def _exit_of(self, task: Task[int]) -> TaskExited | None:
        return self._ended.get(task.handle) or (TaskExited(self._lost) if self._lost else None)

    def _cancel(self, task: Task[int]) -> None:
        self._send("cancel", task.handle, False)

    def _kill(self, task: Task[int]) -> None:
        self._send("cancel", task.handle, True)

    def _clean_up(self, task: Task[int]) -> None:
        self._ended.pop(task.handle, None)

    def _wait(self, timeout: float) -> None:
        for message in self._messages(min(timeout, _POLL_SECONDS)):
            if message[0] == "gone":
                self._ended[message[1]] = message[2]
            elif message[0] == "lost":
                self._lost = message[1]
        if self._lost and not self._closed:
            raise SweepError(f"{self._lost}; see Ray's output in {self._log}")
        if self._lost:
            time.sleep(timeout)

    def _disconnect(self) -> None:
        gateway, conn = self._gateway, self._conn
        self._gateway = self._conn = None
        if conn is not None:
            with contextlib.suppress(OSError):
                conn.send(("close",))
        if gateway is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                gateway.wait(1.0 if self._lost else _CLOSE_SECONDS)
            # A local cluster's processes are in its group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(gateway.pid, signal.SIGKILL)
            gateway.wait()
        if conn is not None:
            conn.close()
        if self._folder is not None:  # which the gateway has removed, unless it was killed
            shutil.rmtree(self._folder, ignore_errors=True)

    # --- the gateway

    def _start_gateway(self, payload: TaskPayload) -> None:
        ours, theirs = socket.socketpair()
        self._conn = Connection(ours.detach())
        with theirs, self._log.open("ab") as log:
            self._gateway = subprocess.Popen(  # noqa: S603 - this interpreter, with our own code
                our_python(RaySettings.__module__, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C on the terminal is the driver's
                env=self._environ(),
            )
        self._send("open", self._settings, payload)

    def _environ(self) -> dict[str, str]:
        environ = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
        if self._address == "local" and not any(name.startswith("RAY_AUTH_") for name in environ):
            # Ray listens to the network: a token, not kept in the home directory, keeps others out.
            environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        return environ

    def _wait_until_open(self) -> None:
        deadline = time.monotonic() + _OPEN_SECONDS
        while time.monotonic() < deadline:
            for message in self._messages(_POLL_SECONDS):
                if message[0] == "open":
                    if message[1]:
                        logging.getLogger("ridgepole.sweeps").warning("%s", message[1])
                    return
                raise SweepError(f"{message[1]}; see Ray's output in {self._log}")
            if self.guard is not None and self.guard.requested is not None:
                raise self.guard.requested
        raise SweepError(f"Ray at {self._address!r} did not answer for {_OPEN_SECONDS:.0f} s; see {self._log}")

    def _send(self, *message: object) -> None:
        if self._conn is not None:
            with contextlib.suppress(OSError):  # it has died, which the next read finds out
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
    """Make a directory for the cluster. Paths of Ray's sockets in it may have 107 bytes."""
    home = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="rp-ray-", dir=home if len(home) <= _SHORT else "/tmp")  # noqa: S108 - as Ray itself
