"""Connecting to a Ray cluster, and what its nodes have."""

from __future__ import annotations

import socket
from typing import Any

from ridgepole.errors import ClusterError, text_of

_CONNECT_SECONDS = 5.0  # time for a cluster's head to accept a connection


def connect(address: str, folder: str | None = None) -> tuple[str, int]:
    """Connect to a cluster, or start one.

    Args:
        address: That of a head, or `auto`.
        folder: The directory of a local cluster that is to be started instead.

    Returns:
        The address of the cluster's head.

    Raises:
        ClusterError: If no cluster answers there.
    """
    import ray

    if address.startswith("ray://"):
        raise ClusterError(f"{address} is an address of Ray Client; give that of the head itself, such as HOST:6379")
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and not is_reachable((host, int(port))):
        raise ClusterError(f"no Ray cluster listens at {address}: start the cluster with 'ray start --head'")
    if folder is None:
        try:
            ray.init(address=address, log_to_driver=False)
        except ConnectionError as error:
            hint = "if it wants a token, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            raise ClusterError(f"{text_of(error)}; {hint}") from error
    else:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    host, _, port = str(ray.get_runtime_context().gcs_address).rpartition(":")
    return host.strip("[]"), int(port)


def disconnect() -> None:
    """Leave the cluster; a local one ends."""
    import ray

    ray.shutdown()


def is_reachable(head: tuple[str, int]) -> bool:
    """Return whether a cluster's head accepts a connection."""
    try:
        with socket.create_connection(head, _CONNECT_SECONDS):
            return True
    except OSError:
        return False


def resources() -> list[dict[str, float]]:
    """Return what each living node of the cluster has in total."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call, unused-ignore]
    return [node["Resources"] for node in nodes if node["Alive"]]
