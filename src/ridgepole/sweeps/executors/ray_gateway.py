"""The process beside the driver that submits tasks to Ray, and reports their ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from ridgepole.clusters.ray import connect, disconnect, is_reachable, resources
from ridgepole.errors import SweepError, text_of
from ridgepole.sweeps.executors.remote_task import FileWatch, TaskPayload, run_printing_trial
from ridgepole.sweeps.executors.tasks import TaskExited
from ridgepole.sweeps.run.trial import TrialSpec

_POLL_SECONDS = 0.05
_ORPHAN_SECONDS = 30.0  # time for trials to stop at a tick after the driver has died


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """The settings of tasks."""

    address: str  # `local` for a cluster of the sweep's own, else that of a head, or `auto`
    needs: Mapping[str, Any]  # `num_cpus`, `num_gpus`, `memory`, `resources`, `runtime_env`
    reuse: bool  # whether a worker process runs one task after another
    patience: float  # seconds that the head may be unreachable
    folder: str | None = None  # the directory of a cluster of the sweep's own


def main(fd: str) -> None:
    """Serve one driver until it closes the gateway or has died.

    Args:
        fd: The number of a socket to it. It receives `open`, `submit`, `cancel` and `close`, and
            sends `open`, `broken`, `gone` and `lost`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    conn: Connection[Any, Any] = Connection(int(fd))
    _, settings, payload = conn.recv()
    try:
        try:
            gateway = _Gateway(conn, settings, payload)
        except Exception as error:  # noqa: BLE001 - whatever Ray raises
            conn.send(("broken", f"Ray can't be used: {text_of(error)}"))
            return
        gateway.serve()
    finally:
        disconnect()
        if settings.folder is not None:
            shutil.rmtree(settings.folder, ignore_errors=True)


class _Gateway:
    def __init__(self, conn: Connection[Any, Any], settings: RaySettings, payload: TaskPayload) -> None:
        self._conn, self._settings = conn, settings
        self._sending = threading.Lock()
        self._tasks: dict[Any, tuple[int, TrialSpec]] = {}
        head = connect(settings.address, settings.folder)
        note = _missing_resources(settings)
        if note and settings.address == "local":
            raise SweepError(note)
        import ray

        self._payload = ray.put(payload)
        self._function = ray.remote(max_calls=0 if settings.reuse else 1, max_retries=0)(run_printing_trial)
        self._send("open", note and f"{note}: trials wait for one that has")
        threading.Thread(target=self._watch_head, args=(head,), name="ridgepole-ray-head", daemon=True).start()

    def serve(self) -> None:
        """Serve the driver; after its death, stop the trials at their next tick."""
        try:
            while self._step():
                pass
        except (EOFError, OSError):
            for _, spec in self._tasks.values():
                FileWatch(spec).request("stop")
            deadline = time.monotonic() + _ORPHAN_SECONDS
            while self._tasks and time.monotonic() < deadline:
                self._report_ends(_POLL_SECONDS)

    def _step(self) -> bool:
        while self._conn.poll(0 if self._tasks else None):
            message = self._conn.recv()
            if message[0] == "close":
                return False
            if message[0] == "submit":
                self._submit(message[1], message[2])
            else:
                self._cancel(message[1], force=message[2])
        self._report_ends(_POLL_SECONDS)
        return True

    def _send(self, *message: object) -> None:
        with self._sending, contextlib.suppress(OSError):
            self._conn.send(message)

    # --- tasks

    def _submit(self, number: int, spec: TrialSpec) -> None:
        needs = {key: value for key, value in self._settings.needs.items() if value is not None}
        try:
            task = self._function.options(**needs, name=f"ridgepole-{spec.sweep}-{spec.number}").remote(
                self._payload, spec
            )
        except Exception as error:  # noqa: BLE001 - whatever Ray finds wrong with the options
            self._send("gone", number, TaskExited(f"Ray refuses the task: {text_of(error)}", fatal=True))
            return
        self._tasks[task] = number, spec

    def _cancel(self, number: int, *, force: bool) -> None:
        import ray

        for task, (other, _) in self._tasks.items():
            if other == number:
                with contextlib.suppress(Exception):  # it has just ended, or the cluster has died
                    ray.cancel(task, force=force)

    def _report_ends(self, timeout: float) -> None:
        import ray

        if not self._tasks:
            return
        done, _ = ray.wait(list(self._tasks), num_returns=1, timeout=timeout)
        for task in done:
            number, _ = self._tasks.pop(task)
            self._send("gone", number, _end_of(task))

    def _watch_head(self, head: tuple[str, int]) -> None:
        """End this process when the cluster's head has died: Ray's own calls would wait for it."""
        seen_at = time.monotonic()
        while True:
            if is_reachable(head):
                seen_at = time.monotonic()
            elif time.monotonic() - seen_at >= self._settings.patience:
                where = f"{head[0]}:{head[1]}"
                self._send("lost", f"the Ray cluster's head at {where} is unreachable")
                os._exit(1)
            time.sleep(1.0)


def _missing_resources(settings: RaySettings) -> str:
    """Return a message if no node of the cluster has the resources of a task, else ""."""
    needs = {"CPU": settings.needs.get("num_cpus", 1), "GPU": settings.needs.get("num_gpus"), "memory": None}
    needs |= {"memory": settings.needs.get("memory")} | dict(settings.needs.get("resources") or {})
    wanted = {name: float(amount) for name, amount in needs.items() if amount}
    nodes = resources()
    if any(all(node.get(name, 0.0) >= amount for name, amount in wanted.items()) for node in nodes):
        return ""
    most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in wanted}
    amounts = ", ".join(f"{name} {amount:g} (at most {most[name]:g})" for name, amount in wanted.items())
    return f"no node of the Ray cluster has what a trial needs: {amounts}"


def _end_of(task: Any) -> TaskExited:
    """Return how a task has ended."""
    import ray

    try:
        problem = ray.get(task)
    except ray.exceptions.RuntimeEnvSetupError as error:
        return TaskExited(f"Ray can't set up ridgepole.ray.runtime_env: {text_of(error)}", fatal=True)
    except ray.exceptions.TaskCancelledError:
        return TaskExited("its task was cancelled")
    except Exception as error:  # noqa: BLE001 - whatever has ended it
        cause = getattr(error, "cause", None) or error
        if "No module named 'ridgepole'" in str(error):
            hint = "install it on every node, or by runtime_env"
            return TaskExited(f"a Ray worker can't import ridgepole: {hint}", fatal=True)
        return TaskExited(f"its Ray task ended with {type(cause).__name__}: {text_of(cause)}")
    return TaskExited(problem or "its task has ended without an outcome", fatal=bool(problem))
