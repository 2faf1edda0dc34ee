"""The actor that supervises a job on a Ray cluster, after `ridgepole submit` has ended."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

from ridgepole.errors import text_of
from ridgepole.files import read_json
from ridgepole.submit.job import Job, State
from ridgepole.submit.ray_node import NodeResult, free_endpoint, run_node
from ridgepole.submit.spec import JobSpec

_POLL_SECONDS = 0.5
_REST_SECONDS = 60.0  # time for the other nodes of a job to end after one has


class Supervisor:
    """An actor that starts a job, and starts it again when a node was lost.

    Args:
        spec: The job.
        path: Its record.

    Raises:
        FileNotFoundError: If this node does not see the record.
    """

    def __init__(self, spec: JobSpec, path: str) -> None:
        fields = read_json(Path(path) / "job.json")
        if not fields:
            raise FileNotFoundError(f"a node of the cluster does not see {path}: all nodes must share it, at that path")
        self._spec, self._job = spec, Job(Path(path), fields)
        self._thread = threading.Thread(target=self._supervise, name="ridgepole-job", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the job is still supervised."""
        return self._thread.is_alive()

    def _supervise(self) -> None:
        """Run the job to its end, record that, and end this actor."""
        import ray

        try:
            while self._job.end() is None:
                end = self._start_once()
                if end is not None:
                    self._job.record_end(*end)
        except Exception as error:  # noqa: BLE001 - there is no one else to tell
            self._job.record_end("failed", f"its supervisor failed: {type(error).__name__}: {text_of(error)}")
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    def _start_once(self) -> tuple[State, str] | None:
        """Start the job once; return its end, or None if it is to start again."""
        from ray.util.placement_group import remove_placement_group

        restart = self._job.starts()
        if restart > self._spec.requeues:
            return "failed", f"it was started {restart} times, and is not started again; see {self._job.log}"
        group = self._make_group()
        try:
            while not group.wait(1):
                if self._job.stop_file.exists():
                    return "cancelled", ""
            return self._run(group, restart)
        finally:
            remove_placement_group(group)

    def _make_group(self) -> Any:
        from ray.util.placement_group import placement_group

        bundle: dict[str, float] = {"CPU": self._spec.cpus or 1}
        if self._spec.gpus:
            bundle["GPU"] = self._spec.gpus
        return placement_group(
            [bundle] * self._spec.nodes, strategy="STRICT_SPREAD" if self._spec.nodes > 1 else "PACK"
        )

    def _run(self, group: Any, restart: int) -> tuple[State, str] | None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        def on(index: int, function: Any) -> Any:
            return ray.remote(max_retries=0, max_calls=1)(function).options(
                num_cpus=self._spec.cpus or 1,
                num_gpus=self._spec.gpus,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
            )

        self._job.note("began", restart=restart)
        endpoint = ""
        try:
            if self._spec.nodes > 1:
                host, port = ray.get(on(0, free_endpoint).remote())
                endpoint = f"{host}:{port}"
            parts = [
                on(index, run_node).remote(self._spec, str(self._job.path), index, restart, endpoint)
                for index in range(self._spec.nodes)
            ]
            results = self._results(parts)
        except _losses() as error:
            self._job.note("ended", restart=restart, lost=_described(error))
            return ("cancelled", "") if self._job.stop_file.exists() else None
        except Exception as error:  # noqa: BLE001 - a start that fails everywhere, as where Ridgepole is missing
            self._job.note("ended", restart=restart, lost=_described(error))
            return "failed", f"it can't run on the cluster: {_described(error)}"
        code = next((each.code for each in results if each.code), 0)
        self._job.note("ended", restart=restart, code=code, node=results[0].node)
        if code == 0:
            return "finished", ""
        if self._job.stop_file.exists():
            return "cancelled", ""
        problem = next((each.problem for each in results if each.problem), "")
        return None if code == 75 else ("failed", problem or f"exit code {code}; see {self._job.log}")

    def _results(self, parts: list[Any]) -> list[NodeResult]:
        """Wait for all nodes; once one has ended, the others have a time limit.

        Raises:
            Exception: Whatever Ray raises where a node or a worker is lost.
        """
        import ray

        left, deadline = list(parts), float("inf")
        try:
            while left:
                done, left = ray.wait(left, num_returns=len(left), timeout=_POLL_SECONDS)
                for part in done:
                    ray.get(part)  # raises for one that was lost
                if done and left:
                    deadline = min(deadline, time.monotonic() + _REST_SECONDS)
                if left and time.monotonic() > deadline:
                    raise TimeoutError("a node did not end after the others had")
            return [ray.get(part) for part in parts]
        finally:
            for part in left:
                with contextlib.suppress(Exception):
                    ray.cancel(part, force=True)


def _losses() -> tuple[type[Exception], ...]:
    """Return the errors that Ray raises where a node or a worker is lost."""
    from ray import exceptions

    return (
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.LocalRayletDiedError,
        exceptions.ObjectLostError,
        exceptions.OutOfMemoryError,
        TimeoutError,
    )


def _described(error: BaseException) -> str:
    lines = text_of(getattr(error, "cause", None) or error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
