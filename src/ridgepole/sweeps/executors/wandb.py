"""Run the trials that W&B's own service chooses, in this process or in worker processes."""

from __future__ import annotations

import contextlib
import os
import queue
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import SweepError, TrackerError
from ridgepole.loggers.wandb.account import check_client, check_key, checked_mode
from ridgepole.sweeps.executors.inline import InlineExecutor
from ridgepole.sweeps.executors.process import ProcessExecutor
from ridgepole.sweeps.run.executor import Executor
from ridgepole.sweeps.run.targets import PipelineTarget
from ridgepole.sweeps.spec.options import Options
from ridgepole.sweeps.wandb.process import AgentProcess, News
from ridgepole.sweeps.wandb.trial_source import WandbTrialSource

if TYPE_CHECKING:
    from ridgepole.sweeps.run.driver import Sweep

_ANSWER_SECONDS = 45.0  # time for W&B to confirm the sweep; after that it counts as unreachable


class WandbExecutor(Executor):
    """An executor for trials that W&B chooses; one of this machine runs them."""

    @classmethod
    def validate(cls, options: Options) -> None:
        """Check the client, `WANDB_MODE`, and the key for the server."""
        del options
        check_client()
        try:
            if checked_mode(None) == "online":
                check_key()
        except (ValueError, TrackerError) as error:
            raise SweepError(f"executor 'wandb': {error}") from error

    @classmethod
    def create(cls, options: Options, workers: int) -> Executor:
        """Return an executor with worker processes for several trials at a time."""
        kind = ProcessExecutor if workers > 1 else InlineExecutor
        return kind.create(options, workers)

    @classmethod
    def trial_source(cls, sweep: Sweep) -> WandbTrialSource | None:
        """Return W&B's trials; None if W&B is unreachable, so that the local engine chooses them.

        Raises:
            SweepError: If W&B refuses the sweep.
        """
        path, creator = _register(sweep)
        return WandbTrialSource(sweep, path, creator) if path else None


def _register(sweep: Sweep) -> tuple[str, AgentProcess | None]:
    """Return the sweep's path at W&B, and the process that has just created it there.

    The path is empty for a local sweep. A sweep is created at W&B once, and never changed.
    """
    known = sweep.directory.attached().get("path")
    if known:
        sweep.display.say(f"resuming the sweep {known} at W&B")
        return str(known), None
    if sweep.store.rows:
        sweep.display.say("this sweep began on the local engine, and continues there")
        return "", None
    if checked_mode(None) != "online":
        return _use_local_engine(sweep, f"W&B is off line (WANDB_MODE={os.environ.get('WANDB_MODE')})")
    answer, creator = _create(sweep)
    if creator is None:
        return _use_local_engine(sweep, f"W&B can't be reached ({answer.get('away', 'no answer in time')})")
    sweep.directory.attach(answer["created"])
    path = str(answer["created"]["path"])
    entity, project, name = ["", "", *path.split("/")][-3:]
    sweep.display.say(f"sweep {path} at W&B: {answer['created']['app']}/{entity}/{project}/sweeps/{name}")
    return path, creator


def _use_local_engine(sweep: Sweep, reason: str) -> tuple[str, None]:
    sweep.display.say(f"{reason}: this sweep runs on the local engine")
    return "", None


def _create(sweep: Sweep) -> tuple[dict[str, Any], AgentProcess | None]:
    """Create the sweep at W&B; return the client's answer, and its process if it succeeded."""
    spec = sweep.spec
    project = spec.project or os.environ.get("WANDB_PROJECT")
    if project is None and isinstance(sweep.target, PipelineTarget):
        project = Path(sweep.target.file).stem  # as a WandBLogger in it has it
    order = {"sweep": spec.config, "entity": spec.entity, "project": project}
    news: News = queue.SimpleQueue()
    agent = AgentProcess(sweep.directory.wandb, news, order)
    answer: dict[str, Any] = {}
    try:
        with contextlib.suppress(queue.Empty):
            answer = news.get(timeout=_ANSWER_SECONDS)[1]
    finally:
        if "created" not in answer:
            agent.close()
    if "failed" in answer:
        raise SweepError(f"W&B refuses the sweep: {answer['failed']}; see the client's output in {agent.log}")
    return answer, agent if "created" in answer else None
