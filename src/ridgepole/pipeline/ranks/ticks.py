"""Step boundaries that all ranks stop at, and take their checkpoints at, together.

What is due after so many steps every rank works out alike. What only one knows (a signal, the clock, a new best
metric) is agreed on: the hub asks every rank for the next boundary that it can still stop at, and the latest of them is
the one. A rank's thread answers, and from then on the rank waits at the boundary that it named, should it get there
before the answer: so none can have passed the one that is chosen. Nothing of that is in the way of a step, which
compares integers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from ridgepole.checkpoint.policy import CheckpointPolicy
from ridgepole.pipeline.due import DueTicks, Kind
from ridgepole.pipeline.ranks.cause import signal_of, stop_of
from ridgepole.pipeline.ranks.team import Team
from ridgepole.pipeline.ranks.wire import Message
from ridgepole.pipeline.signals import SignalGuard


@dataclass(frozen=True, slots=True)
class _Plan:
    """What all ranks do at a boundary."""

    at: int
    kind: Kind
    signal: str


class RankTicks(DueTicks):
    """Counts the step boundaries of one of several ranks.

    Args:
        team: The ranks.
        policy: As for `DueTicks`, like the others.
        guard: Knows whether a signal asked the run to stop.
        checkpoint: Takes a checkpoint, together with the other ranks.
        is_new_best: Whether the metric of `keep_best` has got a value that is worth a checkpoint; asked on rank 0.
        last_seconds: How long the last checkpoint took.
        say: Warns the user.
    """

    def __init__(
        self,
        team: Team,
        policy: CheckpointPolicy,
        guard: SignalGuard,
        checkpoint: Callable[[Kind], None],
        is_new_best: Callable[[], bool],
        last_seconds: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self._team = team
        self._plans: list[_Plan] = []
        self._asked: float = math.inf
        self._gate: float = math.inf
        self._stops = self._ends = 0
        self._leads = not team.rank
        self._asking = False
        super().__init__(policy, guard, checkpoint, is_new_best, last_seconds, say)
        team.answer_with(self._answer, self._plan)
        guard.on_request = self._pass_on
        if guard.requested is not None:  # it came before there was anybody to tell
            self._pass_on()

    def free(self) -> int:
        """One boundary at a time: one that was handed out further ahead could not be taken back."""
        return 1

    def schedule(self) -> None:
        """Works out when the next checkpoint is due, from now on."""
        super().schedule()
        self._asking = False

    def boundary(self) -> None:
        """Does what all ranks do at this boundary.

        Raises:
            KeyboardInterrupt: If the run was asked to stop, or another rank failed.
        """
        self._guard.ticking = True
        plan = self._reached() if self.count >= self._gate else None
        mine = self._due() if self._leads else None  # asked first: it may rank the checkpoint that is taken now
        if plan is not None and plan.signal:
            self._stop(stop_of(plan.signal))
        elif self.count >= self._due_count:
            self._checkpoint("step")
        elif plan is not None:
            self._checkpoint(plan.kind)
        elif mine is not None and not self._asking:
            self._asking = True
            self._team.request(mine)

    def end_process(self) -> None:
        """The boundary at the end of a process, where all ranks wait for each other.

        Raises:
            KeyboardInterrupt: If the run was asked to stop, or another rank failed.
        """
        self._ends += 1
        key = f"the end of process {self._ends}"
        counts = self._team.gather(key, self.count + 1)
        self.count = max(counts.values())  # ranks may tick differently inside a process; from here on they agree again
        agreed = self._team.share(key, {"count": self.count, "kind": self._due() if self._leads else None})
        self.count = agreed["count"]
        plan = self._reached() if self.count >= self._gate else None
        stop = stop_of(plan.signal) if plan is not None and plan.signal else None
        kind = plan.kind if plan is not None else agreed["kind"]
        if self._policy.after_process or (stop is not None and self._policy.on_signal):
            kind = "boundary"
        if stop is not None and not self._agreed_time():
            kind = None
        if kind is not None:
            self._checkpoint(kind)
        if stop is not None:
            self._team.stopping = True
            raise stop

    def _stop(self, stop: KeyboardInterrupt) -> None:
        self._guard.obey()
        if self._policy.on_signal and self._agreed_time():
            self._checkpoint("signal")
        self._team.stopping = True
        raise stop

    def _agreed_time(self) -> bool:
        """Whether rank 0 expects a checkpoint to be done in time."""
        self._stops += 1
        return bool(self._team.share(f"time for a checkpoint {self._stops}", self._leads and self._has_time()))

    def _reached(self) -> _Plan | None:
        """What is to be done at this boundary, once it is known.

        Raises:
            KeyboardInterrupt: If another rank failed.
        """
        team = self._team
        while True:
            team.wait_for(lambda: self.count < self._asked)
            with team.news:
                if self.count >= self._asked:
                    continue  # asked again in between
                due = [plan for plan in self._plans if plan.at <= self.count]
                self._plans = [plan for plan in self._plans if plan.at > self.count]
                self._set_gate()
            stops = [plan for plan in due if plan.signal]
            return stops[0] if stops else due[0] if due else None

    # --- called in threads and handlers

    def _pass_on(self) -> None:
        """A signal has come to this rank."""
        stop = self._guard.requested
        if stop is not None:
            left = self._guard.deadline - time.monotonic()
            self._team.request("signal", signal_of(stop), left if left < math.inf else None)

    def _answer(self) -> int:
        """The next boundary that this rank can still stop at; it will not pass it before all is decided."""
        with self._team.news:
            limit = self.count + 1
            while True:
                self._asked = limit
                self._set_gate()
                # The run counts first and compares then: a count below the limit has the comparison before it.
                if self.count < limit:
                    return limit
                limit = self.count + 1

    def _plan(self, message: Message) -> None:
        with self._team.news:
            self._asked = math.inf
            self._plans.append(_Plan(message["at"], message["kind"], message["signal"]))
            self._set_gate()
            if message["grace"] is not None:
                self._guard.deadline = min(self._guard.deadline, time.monotonic() + message["grace"])
            self._team.news.notify_all()

    def _set_gate(self) -> None:
        self._gate = min([self._asked, *(plan.at for plan in self._plans)])
