"""Submit, follow and cancel jobs on a Ray cluster."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ridgepole.clusters import ray as cluster
from ridgepole.errors import ClusterError, MissingExtraError, text_of
from ridgepole.submit.job import Job, State
from ridgepole.submit.spec import JobSpec

_NAMESPACE = "ridgepole"
_START_SECONDS = 120.0  # time for the cluster to start a job's supervisor
_ASK_SECONDS = 10.0


def address_of(given: str | None) -> str:
    """Return the address of the cluster.

    Raises:
        ClusterError: If nothing names one.
    """
    address = given or os.environ.get("RAY_ADDRESS") or ""
    if not address or address == "local":
        raise ClusterError("a job needs a Ray cluster that outlives this command: give --address HOST:PORT or 'auto'")
    return address


def start(spec: JobSpec, address: str) -> Job:
    """Start the supervisor of a job on the cluster.

    Raises:
        MissingExtraError: If Ray is not installed.
        ClusterError: If the cluster can't be used, or no node will ever have what the job needs.
    """
    with _connected(address):
        import ray

        from ridgepole.submit.ray_supervisor import Supervisor

        _check_resources(spec)
        job = Job.create(spec, "ray", address=address)
        try:
            actor: Any = ray.remote(Supervisor)
            options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_concurrency": 2}
            options |= {"name": job.cluster_name, "namespace": _NAMESPACE, "lifetime": "detached"}
            supervisor = actor.options(**options).remote(spec, str(job.path))
            try:
                ray.get(supervisor.is_alive.remote(), timeout=_START_SECONDS)
            except Exception as error:
                ray.kill(supervisor, no_restart=True)
                raise ClusterError(f"Ray can't start the job: {_last_line(error)}") from error
        except BaseException:
            job.discard()
            raise
        job.fields["number"] = job.cluster_name
        job.write()
        return job


def states(jobs: Sequence[Job]) -> dict[str, tuple[State, str]]:
    """Return state and detail of jobs that have no recorded end, by their ids; record the ends."""
    found: dict[str, tuple[State, str]] = {}
    for address in dict.fromkeys(str(job.fields.get("address")) for job in jobs):
        mine = [job for job in jobs if str(job.fields.get("address")) == address]
        try:
            with _connected(address):
                for job in mine:
                    found[job.id] = _state(job)
        except (ClusterError, MissingExtraError) as error:
            found |= {job.id: ("unknown", text_of(error)) for job in mine}
    return found


def cancel(job: Job) -> None:
    """Ask a job to stop: its run takes a checkpoint at the next tick."""
    job.stop_file.touch()


def _state(job: Job) -> tuple[State, str]:
    import ray

    try:
        supervisor: Any = ray.get_actor(job.cluster_name, namespace=_NAMESPACE)
    except ValueError:
        if job.is_being_submitted:
            return "waiting", "it is being submitted"
        return job.end() or job.record_end("lost", "the Ray cluster no longer knows it: was the cluster started anew?")
    try:
        ray.get(supervisor.is_alive.remote(), timeout=_ASK_SECONDS)
    except Exception:  # noqa: BLE001 - it restarts on another node, or has just ended
        return job.end() or ("waiting", "its supervisor starts again")
    events = job.events()
    runs = bool(events) and events[-1].get("event") == "began"
    return job.end() or (("running", "") if runs else ("waiting", "for nodes of the cluster"))


def _check_resources(spec: JobSpec) -> None:
    """Refuse a job that no cluster of today's nodes could ever run.

    Raises:
        ClusterError: If too few nodes have what it needs.
    """
    needs = {"CPU": float(spec.cpus or 1), "GPU": float(spec.gpus)}
    nodes = cluster.resources()
    fitting = sum(all(node.get(name, 0.0) >= amount for name, amount in needs.items()) for node in nodes)
    if fitting < spec.nodes:
        wanted = ", ".join(f"{name} {amount:g}" for name, amount in needs.items() if amount)
        raise ClusterError(
            f"{fitting} of the {len(nodes)} nodes of the Ray cluster have {wanted}, and the job needs {spec.nodes}"
        )


@contextmanager
def _connected(address: str) -> Iterator[None]:
    for package in ("ray", "cloudpickle"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "ray", "the executor 'ray'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # which prints where the result goes
    try:
        cluster.connect(address)
    except ClusterError:
        raise
    except Exception as error:
        raise ClusterError(f"Ray at {address} can't be used: {text_of(error)}") from error
    try:
        yield
    finally:
        cluster.disconnect()


def _last_line(error: Any) -> str:
    lines = [line.strip() for line in text_of(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
