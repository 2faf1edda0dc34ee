"""The part of a job of Ray that runs on each of its nodes."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from ridgepole import rundir
from ridgepole.scripts.child import Child
from ridgepole.submit.spec import JobSpec
from ridgepole.watch.console import Console

_POLL_SECONDS = 0.3
_GRACE_SECONDS = 60.0  # time for a checkpoint after the job was asked to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResult:
    """The end of a node's part: its exit code, or why it could not begin."""

    code: int
    node: str
    problem: str = ""


def free_endpoint() -> tuple[str, int]:
    """Return this node's address and a port that is free now."""
    import ray

    with socket.create_server(("", 0)) as server:
        address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call, unused-ignore]
        return address, int(server.getsockname()[1])


def run_node(spec: JobSpec, path: str, index: int, restart: int, endpoint: str) -> NodeResult:
    """Run the command of one node to its end; a file in the job's record asks it to stop.

    Args:
        spec: The job.
        path: The job's record.
        index: The number of the node, from 0.
        restart: How often the job has started before.
        endpoint: The address at which torchrun's processes meet.
    """
    host, record = socket.gethostname(), Path(path)
    for folder in (record, Path(spec.directory)):
        if not folder.is_dir():
            hint = "it must be on a file system that all nodes share, at the same path"
            return NodeResult(code=2, node=host, problem=f"node {host} does not see {folder}: {hint}")
    environ = os.environ | {rundir.JOB_VARIABLE: path} | spec.launch_environ()
    if spec.nodes > 1:
        environ |= {"PET_RDZV_ID": f"{record.name}-{restart}", "PET_RDZV_ENDPOINT": endpoint}
    log = record / ("job.log" if index == 0 else f"job-{index}.log")
    command = spec.command if index == 0 else spec.other_command
    # It does not outlive this process, and with that not its place in the cluster
    child = Child(command, Console(log), environ=environ, cwd=spec.directory, own_group=True)
    try:
        while child.process.poll() is None:
            if (record / "stop").exists():
                child.terminate(_GRACE_SECONDS)
            time.sleep(_POLL_SECONDS)
    finally:
        with contextlib.suppress(OSError):
            child.kill()
        child.process.wait()
        child.close()
    code = child.process.returncode
    return NodeResult(code=code if code >= 0 else 128 - code, node=host)
