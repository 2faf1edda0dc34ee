"""Trials that W&B's server chooses, with one agent for each that runs at a time."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import SweepError
from ridgepole.sweeps.run.driver import Sweep, TrialSource
from ridgepole.sweeps.study.outcome import TrialOutcome
from ridgepole.sweeps.wandb.process import AgentProcess, News

if TYPE_CHECKING:
    from ridgepole.sweeps.study.trial_record import TrialRecord

_NOTICE_SECONDS = 30.0  # time without a trial after which a line reports it
PATIENCE = 600.0  # seconds without a trial after which the sweep stops; it can be resumed
_SEND_SECONDS = 30.0  # time for the last values to reach W&B


class WandbTrialSource(TrialSource):
    """Trials from W&B's agents. They are logged there if the trial's own logger doesn't do it.

    Args:
        sweep: The sweep.
        path: Its path at W&B: `entity/project/id`.
        creator: The process that has just created it there; it becomes the first agent.
    """

    prunes = True

    def __init__(self, sweep: Sweep, path: str, creator: AgentProcess | None = None) -> None:
        super().__init__(sweep.store, sweep.source.limit)
        self._sweep, self._path = sweep, path
        self._news: News = queue.SimpleQueue() if creator is None else creator.news
        self._creator = creator
        self._handlers: dict[str, Callable[[AgentProcess, Any], None]] = {
            "trial": self._on_trial,
            "stop": self._on_stop,
            "done": self._on_done,
            "problem": self._on_problem,
            "failed": self._on_failed,
            "away": self._on_failed,
            "over": self._on_over,
            "gone": self._on_gone,
        }
        self._processes = [] if creator is None else [creator]
        self._agents: list[AgentProcess] = []
        self._begun = False
        self._new_trials: deque[TrialRecord] = deque()
        self._serving: dict[AgentProcess, TrialRecord] = {}
        self._searching: set[AgentProcess] = set()
        self._sending: set[AgentProcess] = set()
        self._mirrored: dict[int, bool] = {}
        self._error = ""
        self._printed: set[str] = set()
        self._since = time.monotonic()

    # --- for the driver

    def next(self) -> TrialRecord | None:
        """Return the next trial that an agent was given.

        Raises:
            SweepError: If all agents have ended, and not because W&B has no further trial.
        """
        self.pump()
        if self._new_trials:
            return self._new_trials.popleft()
        left = self.limit - len(self.store.rows)
        if left > 0 and not self._begun:
            self._begin(min(self._sweep.workers, left))
        self.exhausted = left <= 0 or not self._agents
        if self.exhausted and self._error and left > 0:
            raise SweepError(f"W&B's agent has ended: {self._error}; continue with `ridgepole sweep resume`")
        if self.exhausted and left > 0:
            self._sweep.reason = "W&B has no further trial"
        return None

    def wait(self, timeout: float) -> None:
        """Wait for the agents."""
        with contextlib.suppress(queue.Empty):
            self._on_message(*self._news.get(timeout=timeout))
        waited = time.monotonic() - self._since
        if waited > PATIENCE:
            raise SweepError(f"W&B has given no trial for {PATIENCE:.0f} s; continue with `ridgepole sweep resume`")
        if waited > _NOTICE_SECONDS:
            self._print_once("waiting for W&B to give a trial")

    def pump(self) -> None:
        """Handle the agents' messages."""
        while True:
            try:
                self._on_message(*self._news.get_nowait())
            except queue.Empty:
                return

    def reported(self, record: TrialRecord, values: tuple[float, ...]) -> None:
        """Log the values if no other client does; handle a request to stop the trial."""
        metric = self._sweep.spec.metric
        if metric is not None and self._mirrors(record):
            agent = self._agent_of(record)
            for value in values:
                agent.order({"log": {metric.name: value}})
        self.pump()

    def ended(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """Release the agent, or hold it if there are no further trials."""
        self._since = time.monotonic()
        begun = record.number in self._mirrored
        mirrors = bool(record.environ) and self._mirrors(record)
        if not mirrors and record not in self._serving.values():
            return
        agent = self._agent_of(record)
        metric = self._sweep.spec.metric
        if mirrors and not begun and metric is not None and outcome.value is not None:
            agent.order({"log": {metric.name: outcome.value}})
        last = len(self._searching) >= self.limit - len(self.store.rows)
        if agent in self._agents and not last:
            self._searching.add(agent)
        code = int(outcome.status == "failed") if mirrors else None
        self._sending.add(agent)
        agent.order({"end": code, "last": last})

    def close(self) -> None:
        """Wait until W&B has everything, and end the agents.

        An interrupted trial is a failed run there until it is resumed.
        """
        for agent, record in self._serving.items():
            if record.outcome is None and self._mirrored.get(record.number):
                self._sending.add(agent)
                agent.order({"end": 1, "last": True})
        deadline = time.monotonic() + _SEND_SECONDS
        while self._sending and (left := deadline - time.monotonic()) > 0:
            try:
                self._on_message(*self._news.get(timeout=left))
            except queue.Empty:
                break
        if self._sending:
            self._print_once("W&B did not get all of the sweep's last values")
        for agent in self._processes:
            agent.close()
        self._agents, self._serving = [], {}

    # --- messages of agents

    def _begin(self, count: int) -> None:
        self._begun = True
        self._since = time.monotonic()
        order = {"agent": self._path}
        if self._creator is not None:
            self._creator.order(order)
            self._agents.append(self._creator)
        while len(self._agents) < count:
            self._agents.append(self._process(order))
        self._searching.update(self._agents)

    def _process(self, order: Mapping[str, Any]) -> AgentProcess:
        self._processes.append(AgentProcess(self._sweep.directory.wandb, self._news, order))
        return self._processes[-1]

    def _on_message(self, agent: AgentProcess, message: Mapping[str, Any]) -> None:
        for name, value in message.items():
            if name in self._handlers:
                self._handlers[name](agent, value)

    def _on_trial(self, agent: AgentProcess, trial: Mapping[str, Any]) -> None:
        try:
            values = self._sweep.spec.space.flatten(trial["args"])
        except (KeyError, TypeError) as error:
            self._error = f"its trial lacks the parameter {error}"
            agent.close()
            return
        record = self.store.create(values, trial["environ"])
        assert record is not None
        self._since = time.monotonic()
        self._searching.discard(agent)
        self._serving[agent] = record
        self._new_trials.append(record)

    def _on_stop(self, agent: AgentProcess, _run: str) -> None:
        record = self._serving.get(agent)
        if record is not None:
            self._sweep.prune(record)

    def _on_done(self, agent: AgentProcess, _run: str) -> None:
        self._sending.discard(agent)
        self._serving.pop(agent, None)

    def _on_problem(self, _agent: AgentProcess, text: str) -> None:
        self._print_once(f"a trial can't be logged at W&B: {text}")

    def _on_failed(self, agent: AgentProcess, text: str) -> None:
        if agent in self._agents:  # not one that only logs a trial
            self._error = self._error or text
        self._print_once(f"W&B's agent has failed: {text}")

    def _on_over(self, agent: AgentProcess, _: str) -> None:
        self._agents.remove(agent)

    def _on_gone(self, agent: AgentProcess, _: str) -> None:
        if agent is self._creator:
            self._creator = None
        if agent in self._agents:
            self._agents.remove(agent)
            self._error = self._error or "its process has died"
        self._searching.discard(agent)
        self._on_done(agent, "")

    # --- the process that logs a trial at W&B

    def _agent_of(self, record: TrialRecord) -> AgentProcess:
        """Return the process that logs a trial: its agent, or one that resumes its run."""
        for agent, served in self._serving.items():
            if served is record and agent.alive:
                return agent
        agent = self._process({"run": record.environ})
        self._serving[agent] = record
        return agent

    def _mirrors(self, record: TrialRecord) -> bool:
        """Return whether a trial is logged from here: no client in it has begun its run."""
        if record.number not in self._mirrored:
            self._mirrored[record.number] = bool(record.environ) and not self._has_client(record)
        return self._mirrored[record.number]

    def _has_client(self, record: TrialRecord) -> bool:
        """Return whether an online client has made its directory for the trial's run."""
        run_id = record.environ.get("WANDB_RUN_ID", "")
        own = os.environ.get("WANDB_DIR")
        roots = [self._sweep.directory.root / run for run in record.runs]
        roots += [Path(own)] if own else [Path("logs"), Path()]
        return any(path for root in roots for path in (root / "wandb").glob(f"run-*-{run_id}"))

    def _print_once(self, line: str) -> None:
        if line not in self._printed:
            self._printed.add(line)
            self._sweep.display.say(line)
