"""The options of `ridgepole submit`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

ACTIONS = ("start", "status", "cancel", "logs")


def with_action(arguments: list[str]) -> list[str]:
    """Return the command line with its action: `submit FILE` is `submit start FILE`."""
    named = arguments[1:2] and (arguments[1] in ACTIONS or arguments[1] in ("-h", "--help"))
    return arguments if arguments[:1] != ["submit"] or named else ["submit", "start", *arguments[1:]]


def add_submit(
    verbs: Any,
    root: argparse.ArgumentParser,
    as_json: argparse.ArgumentParser,
    common: argparse.ArgumentParser,
    *,
    overrides: dict[str, Any],
    positive: Callable[[str], int],
    add_labels: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the actions of `ridgepole submit`."""
    actions = verbs.add_parser(
        "submit",
        help="run a pipeline or a script as one job of a cluster",
        usage="ridgepole submit FILE.toml|SCRIPT.py --executor slurm|ray [options] [-- ARGUMENT ...] | "
        "status [JOB] | cancel JOB | logs [JOB]",
    ).add_subparsers(dest="action", metavar="ACTION", required=True, prog="ridgepole submit")
    start = actions.add_parser(
        "start",
        prog="ridgepole submit",
        parents=[root, as_json, common],
        help="submit a job; 'start' may be left out",
        usage="ridgepole submit FILE.toml|SCRIPT.py --executor slurm|ray [options] [-- ARGUMENT ...]",
    )
    start.add_argument("file", metavar="FILE", help="a pipeline's TOML file, or a script")
    start.add_argument("--executor", choices=["slurm", "ray"], required=True, help="the kind of cluster")
    start.add_argument("--nodes", metavar="N", type=positive, default=1, help="the number of nodes; 1")
    start.add_argument("--gpus-per-node", metavar="N", type=positive, default=0, help="the GPUs on each; none")
    start.add_argument(
        "--processes-per-node", metavar="N", type=positive, help="the processes on each; one for each GPU, or 1"
    )
    start.add_argument("--cpus", metavar="N", type=positive, help="the cores on each; as the cluster has it")
    start.add_argument("-s", "--set", **overrides)
    add_labels(start)
    start.add_argument(
        "--max-requeues", metavar="N", type=positive, default=100, help="how often it may start again; 100"
    )
    start.add_argument("--dry-run", action="store_true", help="show the job, and submit nothing")
    ray = start.add_argument_group("ray")
    ray.add_argument("--address", metavar="HOST:PORT", help="the cluster's head, or 'auto'; RAY_ADDRESS by default")
    slurm = start.add_argument_group("slurm")
    for name, metavar, text in (
        ("time", "TIME", "the time limit, as 4:00:00"),
        ("partition", "NAME", "the partition"),
        ("account", "NAME", "the account"),
        ("qos", "NAME", "the quality of service"),
        ("mem", "SIZE", "the memory on each node, as 64G"),
        ("constraint", "LIST", "features that nodes must have"),
    ):
        slurm.add_argument(f"--{name}", metavar=metavar, help=text)
    slurm.add_argument(
        "--sbatch",
        metavar="OPTION",
        action="append",
        default=[],
        help="any other, as --sbatch=--exclude=n1; repeatable",
    )
    slurm.add_argument(
        "--setup", metavar="LINE", action="append", default=[], help="a line of shell that runs first; repeatable"
    )
    slurm.add_argument(
        "--warn",
        metavar="SECONDS",
        type=positive,
        help="how long before its time limit the job stops with a checkpoint; 120",
    )
    job = "id, unique prefix, the cluster's number, or 'latest'"
    status = actions.add_parser("status", parents=[root, as_json, common], help="show the jobs, or one")
    status.add_argument("job", metavar="JOB", nargs="?", help=job)
    cancel = actions.add_parser("cancel", parents=[root, common], help="stop a job, with a checkpoint")
    cancel.add_argument("job", metavar="JOB", help=job)
    logs = actions.add_parser("logs", parents=[root, common], help="print what a job has printed")
    logs.add_argument("job", metavar="JOB", nargs="?", default="latest", help=job)
