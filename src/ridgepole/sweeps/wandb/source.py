"""Trials that W&B's server chooses, one agent of it for each that runs at a time."""

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
from ridgepole.sweeps.outcome import Outcome
from ridgepole.sweeps.source import Source
from ridgepole.sweeps.wandb.process import AgentProcess, News

if TYPE_CHECKING:
    from ridgepole.sweeps.driver import Sweep
    from ridgepole.sweeps.rows import Row

_SAY_AFTER = 30.0
"""Seconds without a trial after which a line says so."""
PATIENCE = 600.0
"""Seconds without a trial after which the sweep stops; it can go on."""
_SEND_SECONDS = 30.0
"""Seconds in which the last values have to reach W&B."""


class AtWandB(Source):
    """Gets trials from W&B's agents, and tells W&B how they go where the trial's own logger doesn't.

    Args:
        sweep: The sweep.
        path: What it is at W&B: `entity/project/id`.
    """

    prunes = True

    def __init__(self, sweep: Sweep, path: str) -> None:
        super().__init__(sweep.ledger, sweep.limit)
        self._sweep, self._path = sweep, path
        self._news: News = queue.SimpleQueue()
        self._actions: dict[str, Callable[[AgentProcess, Any], None]] = {
            "trial": self._given,
            "stop": self._stopped,
            "done": self._done,
            "problem": self._problem,
            "failed": self._failed,
            "away": self._failed,
            "over": self._over,
            "gone": self._gone,
        }
        self._processes: list[AgentProcess] = []
        self._agents: list[AgentProcess] = []
        self._begun = False
        self._given_rows: deque[Row] = deque()
        self._serving: dict[AgentProcess, Row] = {}
        self._hunting: set[AgentProcess] = set()
        self._sending: set[AgentProcess] = set()
        self._mirrored: dict[int, bool] = {}
        self._error = ""
        self._said: set[str] = set()
        self._since = time.monotonic()

    # --- for the driver

    def next(self) -> Row | None:
        """The next trial that an agent was given.

        Raises:
            SweepError: If there are no agents any more, for another reason than that W&B has no further trial.
        """
        self.pump()
        if self._given_rows:
            return self._given_rows.popleft()
        left = self.limit - len(self.ledger.rows)
        if left > 0 and not self._begun:
            self._begin(min(self._sweep.workers, left))
        self.dry = left <= 0 or not self._agents
        if self.dry and self._error and left > 0:
            raise SweepError(f"W&B's agent has ended: {self._error}; the sweep can go on with `ridgepole sweep resume`")
        if self.dry and left > 0:
            self._sweep.reason = "W&B has no further trial"
        return None

    def wait(self, timeout: float) -> None:
        """Waits for the agents."""
        with contextlib.suppress(queue.Empty):
            self._hear(*self._news.get(timeout=timeout))
        waited = time.monotonic() - self._since
        if waited > PATIENCE:
            raise SweepError(
                f"W&B has given no trial for {PATIENCE:.0f} s: the sweep can go on with `ridgepole sweep resume`"
            )
        if waited > _SAY_AFTER:
            self._say_once("waiting for W&B to give a trial")

    def pump(self) -> None:
        """Takes in what the agents have said."""
        while True:
            try:
                self._hear(*self._news.get_nowait())
            except queue.Empty:
                return

    def reported(self, row: Row, values: tuple[float, ...], seen: int) -> None:
        """Passes the values on where no other client does; takes in whether the trial is to stop."""
        del seen
        metric = self._sweep.spec.metric
        if metric is not None and self._mirrors(row):
            agent = self._agent_of(row)
            for value in values:
                agent.order({"log": {metric.name: value}})
        self.pump()

    def ended(self, row: Row, outcome: Outcome) -> None:
        """Lets the agent go on, or holds it where there are to be no further trials."""
        self._since = time.monotonic()
        known = row.number in self._mirrored
        mirrors = bool(row.environ) and self._mirrors(row)
        if not mirrors and row not in self._serving.values():
            return
        agent = self._agent_of(row)
        metric = self._sweep.spec.metric
        if mirrors and not known and metric is not None and outcome.value is not None:
            agent.order({"log": {metric.name: outcome.value}})
        last = len(self._hunting) >= self.limit - len(self.ledger.rows)
        if agent in self._agents and not last:
            self._hunting.add(agent)
        code = int(outcome.status == "failed") if mirrors else None
        self._sending.add(agent)
        agent.order({"end": code, "last": last})

    def close(self) -> None:
        """Waits for what is on its way, and ends the agents. An interrupted trial is a failed run until it goes on."""
        for agent, row in self._serving.items():
            if row.outcome is None and self._mirrored.get(row.number):
                self._sending.add(agent)
                agent.order({"end": 1, "last": True})
        deadline = time.monotonic() + _SEND_SECONDS
        while self._sending and (left := deadline - time.monotonic()) > 0:
            try:
                self._hear(*self._news.get(timeout=left))
            except queue.Empty:
                break
        if self._sending:
            self._say_once("W&B did not get all of the sweep's last values")
        for agent in self._processes:
            agent.close()
        self._agents, self._serving = [], {}

    # --- what agents say

    def _begin(self, count: int) -> None:
        self._begun = True
        self._since = time.monotonic()
        for _ in range(count):
            self._agents.append(self._process({"agent": self._path}))
        self._hunting.update(self._agents)

    def _process(self, order: Mapping[str, Any]) -> AgentProcess:
        self._processes.append(AgentProcess(self._sweep.directory.wandb, self._news, order))
        return self._processes[-1]

    def _hear(self, agent: AgentProcess, told: Mapping[str, Any]) -> None:
        for name, value in told.items():
            if name in self._actions:
                self._actions[name](agent, value)

    def _given(self, agent: AgentProcess, trial: Mapping[str, Any]) -> None:
        try:
            values = self._sweep.spec.space.flatten(trial["args"])
        except (KeyError, TypeError) as error:
            self._error = f"it was given a trial without the parameter {error}"
            agent.close()
            return
        row = self.ledger.create(values, trial["environ"])
        assert row is not None
        self._since = time.monotonic()
        self._hunting.discard(agent)
        self._serving[agent] = row
        self._given_rows.append(row)

    def _stopped(self, agent: AgentProcess, _run: str) -> None:
        row = self._serving.get(agent)
        if row is not None:
            self._sweep.prune(row)

    def _done(self, agent: AgentProcess, _run: str) -> None:
        self._sending.discard(agent)
        self._serving.pop(agent, None)

    def _problem(self, _agent: AgentProcess, text: str) -> None:
        self._say_once(f"W&B was not told how a trial goes: {text}")

    def _failed(self, agent: AgentProcess, text: str) -> None:
        if agent in self._agents:  # and not one that only passes on how a trial goes
            self._error = self._error or text
        self._say_once(f"W&B's agent has failed: {text}")

    def _over(self, agent: AgentProcess, _: str) -> None:
        self._agents.remove(agent)

    def _gone(self, agent: AgentProcess, _: str) -> None:
        if agent in self._agents:
            self._agents.remove(agent)
            self._error = self._error or "its process has died"
        self._hunting.discard(agent)
        self._done(agent, "")

    # --- who logs a trial at W&B

    def _agent_of(self, row: Row) -> AgentProcess:
        """The process that logs a trial: the agent that was given it, or one that goes on with its run."""
        for agent, served in self._serving.items():
            if served is row and agent.alive:
                return agent
        agent = self._process({"run": row.environ})
        self._serving[agent] = row
        return agent

    def _mirrors(self, row: Row) -> bool:
        """Whether W&B hears of a trial from here: no client in it has begun the run that belongs to it."""
        if row.number not in self._mirrored:
            self._mirrored[row.number] = bool(row.environ) and not self._has_client(row)
        return self._mirrored[row.number]

    def _has_client(self, row: Row) -> bool:
        """Whether a client that is on line has made its directory for the trial's run, wherever that would be."""
        run_id = row.environ.get("WANDB_RUN_ID", "")
        own = os.environ.get("WANDB_DIR")
        roots = [self._sweep.directory.root / run for run in row.runs]
        roots += [Path(own)] if own else [Path("logs"), Path()]
        return any(path for root in roots for path in (root / "wandb").glob(f"run-*-{run_id}"))

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._sweep.display.say(line)
