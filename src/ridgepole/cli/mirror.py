"""`ridgepole mirror`, and the runs of a mirror for other verbs."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from ridgepole import rundir
from ridgepole.cli.output import complain, say
from ridgepole.cli.roots import runs_root
from ridgepole.errors import RunDirError
from ridgepole.mirror.settings import MirrorPolicy, checked_url, is_url


def call(arguments: argparse.Namespace) -> int:
    """Upload what the mirror of a run lacks, or download a run."""
    if arguments.action == "pull":
        from ridgepole.mirror.download import fetch_run

        say(str(fetch_run(checked_url(arguments.url), Path(arguments.runs_dir or "runs"), complain)))
        return 0
    from ridgepole.mirror.helper import Orders, push

    run = rundir.find_run(arguments.run, runs_root(arguments, arguments.run))
    if run.status == "running":
        raise RunDirError(f"run {run.id} is running: it mirrors itself")
    policy = _policy(run, arguments.to)
    url = checked_url(policy.url)
    push(
        Orders(
            run=str(run.path.absolute()),
            url=url,
            every_seconds=policy.every_seconds,
            drain_seconds=policy.drain_seconds,
            lease_seconds=policy.lease_seconds,
        )
    )
    say(f"{run.id} is at {url}/{run.id}")
    return 0


def local_root(root: str, stack: ExitStack) -> Path:
    """Return a directory of runs; that of a mirror is fetched, and removed at the end."""
    if not is_url(root):
        return Path(root)
    from ridgepole.mirror.download import fetch_records

    url = checked_url(root)
    here = Path(tempfile.mkdtemp(prefix="ridgepole-mirror-"))
    stack.callback(shutil.rmtree, here, ignore_errors=True)
    for fault in fetch_records(url, here):
        complain(fault)
    return here


def _policy(run: rundir.RunInfo, url: str | None) -> MirrorPolicy:
    given = run.json(rundir.RESOLVED).get("pipeline", {}).get("mirror")
    if url is None and not given:
        raise RunDirError(f"the config of run {run.id} has no mirror: name one with --to URL")
    known = {"url": given} if isinstance(given, str) else dict(given or {})
    return MirrorPolicy(**(known | ({"url": url} if url else {})))
