"""Find a step at which all ranks stop, or take a checkpoint, that no rank has passed.

What is due after so many steps every rank computes alike. What only one rank knows (a signal, the
clock, a new best metric) is agreed on: the server asks every rank for the next step at which it can
still stop, and the latest of them is chosen. A rank that reaches the step that it named waits there
until it knows the choice. So no rank can have passed the step that is chosen, and an ordinary step
only compares integers.

Neither class here does any input or output. The callers hold a lock and send the messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Decision:
    """A step that was agreed on.

    Attributes:
        at: The step, by the count of all steps.
        kind: Why a checkpoint is to be taken there.
        signal: The signal that asks for a stop; empty for a checkpoint alone.
        rollback: The fault before which all ranks go back; None for a checkpoint.
    """

    at: int
    kind: Any
    signal: str
    rollback: Mapping[str, Any] | None = None


class StepAgreement:
    """One rank's side.

    Attributes:
        gate: The first step at which the rank has to look; below it, it may pass.
    """

    def __init__(self) -> None:
        self.gate: float = math.inf
        self._asked: float = math.inf
        self._decisions: list[Decision] = []

    def answer(self, count: Callable[[], int]) -> int:
        """Return the next step at which this rank can still stop; from now on it waits there.

        The run may count on at the same time. It counts first and compares then: after the gate is
        set, a count below the limit has its comparison still before it.
        """
        while True:
            limit = count() + 1
            self._asked = limit
            self._set_gate()
            if count() < limit:
                return limit

    def decide(self, decision: Decision) -> None:
        """Take note of a decision, which ends the waiting."""
        self._asked = math.inf
        self._decisions.append(decision)
        self._set_gate()

    def must_wait(self, count: int) -> bool:
        """Return whether the rank is at a step that it named, and the decision is not known yet."""
        return count >= self._asked

    def due(self, count: int) -> Decision | None:
        """Return and remove the decision for a step: a stop, else a rollback, else a checkpoint."""
        due = [decision for decision in self._decisions if decision.at <= count]
        self._decisions = [decision for decision in self._decisions if decision.at > count]
        self._set_gate()
        return min(due, key=lambda decision: (not decision.signal, decision.rollback is None), default=None)

    def _set_gate(self) -> None:
        self.gate = min([self._asked, *(decision.at for decision in self._decisions)])


@dataclass(slots=True)
class _Round:
    number: int
    request: dict[str, Any]
    limits: dict[int, int] = field(default_factory=dict)


class Rounds:
    """The server's side: one request after the other is put to all ranks.

    Every method returns the messages to send to all ranks that have not left.
    """

    def __init__(self) -> None:
        self._count = 0
        self._current: _Round | None = None
        self._waiting: list[dict[str, Any]] = []

    def request(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask for a step, unless a step for the same signal, or a fault, is sought already."""
        known = [*self._waiting, *([self._current.request] if self._current else [])]
        if request["signal"] and any(other["signal"] == request["signal"] for other in known):
            return []
        if request["kind"] == "guard" and any(other["kind"] == "guard" for other in known):
            return []
        self._waiting.append(request)
        return self._next() if self._current is None else []

    def limit(self, rank: int, number: int, limit: int, ranks: Iterable[int]) -> list[dict[str, Any]]:
        """Take a rank's answer to a round; `ranks` are those that have not left."""
        if self._current is None or self._current.number != number:
            return []
        self._current.limits[rank] = limit
        return self.close(ranks)

    def close(self, ranks: Iterable[int]) -> list[dict[str, Any]]:
        """Decide once all ranks that have not left have answered: the latest step is chosen."""
        current = self._current
        if current is None or not current.limits or any(rank not in current.limits for rank in ranks):
            return []
        chosen = {name: current.request[name] for name in ("kind", "signal", "grace")}
        if current.request.get("rollback") is not None:
            chosen["rollback"] = current.request["rollback"]
        self._current = None
        decision = {"op": "plan", "at": max(current.limits.values())} | chosen
        return [decision, *(self._next() if self._waiting else [])]

    def _next(self) -> list[dict[str, Any]]:
        self._count += 1
        self._current = _Round(self._count, self._waiting.pop(0))
        return [{"op": "ask", "round": self._count}]
