"""W&B's own service chooses the trials; they run here, in this process or in worker processes."""

from __future__ import annotations

import os
import queue
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import SweepError, TrackerError
from ridgepole.permanences.loggers.wandb.account import check_client, check_key, checked_mode
from ridgepole.sweeps.executors import inline, process
from ridgepole.sweeps.executors.base import Executor
from ridgepole.sweeps.jobs import PipelineJob
from ridgepole.sweeps.options import Options

if TYPE_CHECKING:
    from ridgepole.sweeps.driver import Sweep

_ANSWER_SECONDS = 45.0
"""Seconds in which W&B has to answer that it has the sweep; then it counts as out of reach."""


def check(options: Options) -> None:
    """Finds out what can be known before anything is made.

    Raises:
        MissingExtraError: If the client is not installed.
        SweepError: If `WANDB_MODE` is no mode, or there is no key for the server.
    """
    del options
    check_client()
    try:
        if checked_mode(None) == "online":
            check_key()
    except (ValueError, TrackerError) as error:
        raise SweepError(f"executor 'wandb': {error}") from error


def make(options: Options, workers: int) -> Executor:
    """What runs the trials that W&B gives: worker processes where there are to be several."""
    return process.make(options, workers) if workers > 1 else inline.make(options, workers)


def drive(sweep: Sweep) -> None:
    """Runs a sweep whose trials W&B chooses; where it is out of reach, the local engine chooses them.

    Raises:
        SweepError: If W&B refuses the sweep; else as `Sweep.drive`.
    """
    path = _attached(sweep)
    if path:
        from ridgepole.sweeps.wandb.source import AtWandB

        sweep.source = AtWandB(sweep, path)
    sweep.drive()


def _attached(sweep: Sweep) -> str:
    """What the sweep is at W&B: made there once, and never changed; empty for one that is run by the local engine."""
    known = sweep.directory.attached().get("path")
    if known:
        sweep.display.say(f"going on with the sweep {known} at W&B")
        return str(known)
    if sweep.ledger.rows:
        sweep.display.say("this sweep has begun on the local engine, and goes on there")
        return ""
    if checked_mode(None) != "online":
        return _fall_back(sweep, f"W&B is off line (WANDB_MODE={os.environ.get('WANDB_MODE')})")
    told = _create(sweep)
    if "created" not in told:
        return _fall_back(sweep, f"W&B can't be reached ({told.get('away', 'no answer in time')})")
    sweep.directory.attach(told["created"])
    path = str(told["created"]["path"])
    entity, project, name = ["", "", *path.split("/")][-3:]
    sweep.display.say(f"sweep {path} at W&B: {told['created']['app']}/{entity}/{project}/sweeps/{name}")
    return path


def _fall_back(sweep: Sweep, why: str) -> str:
    sweep.display.say(f"{why}: this sweep runs on the local engine")
    return ""


def _create(sweep: Sweep) -> dict[str, Any]:
    """What the client says of a new sweep.

    Raises:
        SweepError: If W&B refuses it.
    """
    from ridgepole.sweeps.wandb.process import AgentProcess, News

    spec = sweep.spec
    project = spec.project or os.environ.get("WANDB_PROJECT")
    if project is None and isinstance(sweep.job, PipelineJob):
        project = Path(sweep.job.file).stem  # as a WandBLogger in it has it
    order = {"sweep": spec.config, "entity": spec.entity, "project": project}
    news: News = queue.SimpleQueue()
    agent = AgentProcess(sweep.directory.wandb, news, order)
    until = time.monotonic() + _ANSWER_SECONDS
    try:
        told = news.get(timeout=max(0.0, until - time.monotonic()))[1]
    except queue.Empty:
        return {}
    finally:
        agent.close()
    if "failed" in told:
        raise SweepError(f"W&B refuses the sweep: {told['failed']}; the client's own words are in {agent.log}")
    return told
