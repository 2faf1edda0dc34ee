"""The process beside the driver that is connected to Ray: submits tasks, and says when they have ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from ridgepole.errors import SweepError, text_of
from ridgepole.sweeps.executors.base import TrialSpec
from ridgepole.sweeps.executors.errand import Parcel, perform_printing
from ridgepole.sweeps.executors.files import FileWatch
from ridgepole.sweeps.executors.tasks import Gone

_TURN = 0.05
_ORPHAN_SECONDS = 30.0
"""How long trials may take to stop at a tick when there is no driver any more."""
_REACH_SECONDS = 5.0
"""How long a cluster's head may take to accept a connection."""


@dataclass(frozen=True)
class Settings:
    """How to run tasks.

    Attributes:
        address: `local` for a cluster of the sweep's own, else that of a head, or `auto`.
        needs: What a task needs: `num_cpus`, `num_gpus`, `memory`, `resources`, `runtime_env`.
        reuse: Whether a worker process runs one task after another.
        patience: Seconds that the head may be out of reach.
        folder: Where a cluster of the sweep's own keeps its files; None for another.
    """

    address: str
    needs: Mapping[str, Any]
    reuse: bool
    patience: float
    folder: str | None = None


def main(fd: int) -> None:
    """Serves one driver, until it says so or is gone.

    Args:
        fd: A socket to it: `open`, `submit`, `cancel` and `close` come in, `open`, `broken`, `gone` and `lost` go out.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    conn: Connection[Any, Any] = Connection(fd)
    _, settings, parcel = conn.recv()
    try:
        try:
            gateway = _Gateway(conn, settings, parcel)
        except Exception as error:  # noqa: BLE001 - whatever Ray raises
            conn.send(("broken", f"Ray can't be used: {text_of(error)}"))
            return
        gateway.serve()
    finally:
        _disconnect()
        if settings.folder is not None:
            shutil.rmtree(settings.folder, ignore_errors=True)


class _Gateway:
    def __init__(self, conn: Connection[Any, Any], settings: Settings, parcel: Parcel) -> None:
        self._conn, self._settings = conn, settings
        self._sending = threading.Lock()
        self._tasks: dict[Any, tuple[int, TrialSpec]] = {}
        head = _connect(settings.address, settings.folder)
        note = _what_lacks(settings)
        if note and settings.address == "local":
            raise SweepError(note)
        import ray

        self._parcel = ray.put(parcel)
        self._function = ray.remote(max_calls=0 if settings.reuse else 1, max_retries=0)(perform_printing)
        self._send("open", note and f"{note}: trials wait until it has")
        threading.Thread(target=self._mind, args=(head,), name="ridgepole-ray-head", daemon=True).start()

    def serve(self) -> None:
        """Serves the driver; without one, has the trials stop at their next tick, with a checkpoint."""
        try:
            while self._step():
                pass
        except (EOFError, OSError):
            for _, spec in self._tasks.values():
                FileWatch(spec).ask("stop")
            until = time.monotonic() + _ORPHAN_SECONDS
            while self._tasks and time.monotonic() < until:
                self._look(_TURN)

    def _step(self) -> bool:
        while self._conn.poll(0 if self._tasks else None):
            message = self._conn.recv()
            if message[0] == "close":
                return False
            if message[0] == "submit":
                self._submit(message[1], message[2])
            else:
                self._cancel(message[1], force=message[2])
        self._look(_TURN)
        return True

    def _send(self, *message: object) -> None:
        with self._sending, contextlib.suppress(OSError):
            self._conn.send(message)

    # --- tasks

    def _submit(self, number: int, spec: TrialSpec) -> None:
        needs = {key: value for key, value in self._settings.needs.items() if value is not None}
        try:
            task = self._function.options(**needs, name=f"ridgepole-{spec.sweep}-{spec.number}").remote(
                self._parcel, spec
            )
        except Exception as error:  # noqa: BLE001 - what Ray has against the options
            self._send("gone", number, Gone(f"Ray refuses the task: {text_of(error)}", useless=True))
            return
        self._tasks[task] = number, spec

    def _cancel(self, number: int, *, force: bool) -> None:
        import ray

        for task, (other, _) in self._tasks.items():
            if other == number:
                with contextlib.suppress(Exception):  # it has just ended, or nobody is there to end it
                    ray.cancel(task, force=force)

    def _look(self, timeout: float) -> None:
        import ray

        if not self._tasks:
            return
        done, _ = ray.wait(list(self._tasks), num_returns=1, timeout=timeout)
        for task in done:
            number, _ = self._tasks.pop(task)
            self._send("gone", number, _end_of(task))

    def _mind(self, head: tuple[str, int]) -> None:
        """Ends this process when the cluster's head is gone: Ray's own calls would wait for it."""
        seen = time.monotonic()
        while True:
            if _reaches(head):
                seen = time.monotonic()
            elif time.monotonic() - seen >= self._settings.patience:
                where = f"{head[0]}:{head[1]}"
                self._send("lost", f"the Ray cluster's head at {where} is out of reach")
                os._exit(1)
            time.sleep(1.0)


def _connect(address: str, folder: str | None) -> tuple[str, int]:
    """Connects to a cluster, or starts one; gives where its head listens.

    Raises:
        SweepError: If nobody is there.
    """
    import ray

    if address.startswith("ray://"):
        raise SweepError(f"{address} is of Ray Client; give the address of the head itself, such as HOST:6379")
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and not _reaches((host, int(port))):
        raise SweepError(f"nobody listens at {address}: start the cluster with 'ray start --head'")
    if folder is None:
        try:
            ray.init(address=address, log_to_driver=False)
        except ConnectionError as error:
            hint = "if it wants a token, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            raise SweepError(f"{text_of(error)}; {hint}") from error
    else:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    host, _, port = str(ray.get_runtime_context().gcs_address).rpartition(":")
    return host.strip("[]"), int(port)


def _disconnect() -> None:
    import ray

    ray.shutdown()


def _reaches(head: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(head, _REACH_SECONDS):
            return True
    except OSError:
        return False


def _what_lacks(settings: Settings) -> str:
    """What no node of the cluster has; empty where one has all that a task needs."""
    needs = {"CPU": settings.needs.get("num_cpus", 1), "GPU": settings.needs.get("num_gpus"), "memory": None}
    needs |= {"memory": settings.needs.get("memory")} | dict(settings.needs.get("resources") or {})
    wanted = {name: float(amount) for name, amount in needs.items() if amount}
    nodes = [node["Resources"] for node in _nodes() if node["Alive"]]
    if any(all(node.get(name, 0.0) >= amount for name, amount in wanted.items()) for node in nodes):
        return ""
    most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in wanted}
    there = ", ".join(f"{name} {amount:g} (at most {most[name]:g})" for name, amount in wanted.items())
    return f"no node of the Ray cluster has what a trial needs: {there}"


def _nodes() -> list[dict[str, Any]]:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call, unused-ignore]
    return nodes


def _end_of(task: Any) -> Gone:
    """What became of a task."""
    import ray

    try:
        said = ray.get(task)
    except ray.exceptions.RuntimeEnvSetupError as error:
        return Gone(f"Ray can't set up ridgepole.ray.runtime_env: {text_of(error)}", useless=True)
    except ray.exceptions.TaskCancelledError:
        return Gone("its task was cancelled")
    except Exception as error:  # noqa: BLE001 - whatever has ended it
        cause = getattr(error, "cause", None) or error
        name, text = type(cause).__name__, text_of(cause)
        lacks = "No module named 'ridgepole'" in str(error)
        if lacks:
            hint = "install it on every node, or by runtime_env"
            return Gone(f"a Ray worker can't import ridgepole: {hint}", useless=True)
        return Gone(f"its Ray task ended with {name}: {text}")
    return Gone(said or "its task has ended without an outcome", useless=bool(said))
