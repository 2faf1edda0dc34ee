"""Decide about Ctrl-C and a scheduler's signals.

| signal | inside a process that ticks | elsewhere | during clean-up |
|---|---|---|---|
| first SIGINT | stop at the next tick | KeyboardInterrupt now | noted |
| second SIGINT | KeyboardInterrupt now | | noted |
| third SIGINT | restore the terminal, leave with 130 | the same | the same |
| SIGTERM | stop at the next tick, or after half the grace time | StopRequested now | noted |
| SIGTERM again | noted: a scheduler repeats itself | | noted |
| SIGHUP | as SIGTERM | | noted |
| SIGUSR1 | stop at the next tick | StopRequested when the process ends | noted |

A checkpoint that is being taken is finished first. Two things interrupt it: the end of the grace
time, and a second Ctrl-C at the terminal.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalState:
    """The part of a run's state on which the reaction to a signal depends.

    Attributes:
        interrupts: How many SIGINTs have come.
        terminated: Whether a SIGTERM or SIGHUP has come.
        stopping: Whether a signal has asked for a stop before.
        ticking: Whether the running process has ticked.
        saving: Whether a checkpoint is being taken.
        cleaning: Whether the clean-up has begun.
        at_terminal: Whether the run is in the foreground of a terminal, whose user presses Ctrl-C.
        overdue: Whether the stop is to come at once, or after the checkpoint that is being taken.
        forced: Whether the stop interrupts a checkpoint, too.
    """

    interrupts: int = 0
    terminated: bool = False
    stopping: bool = False
    ticking: bool = False
    saving: bool = False
    cleaning: bool = False
    at_terminal: bool = False
    overdue: bool = False
    forced: bool = False


class Action(enum.Enum):
    """The reaction to a signal."""

    EXIT = "leave the process at once"
    NOTE = "only note it"
    STOP_AT_TICK = "stop at the next tick, or when the process ends"
    STOP_IN_TIME = "stop at the next tick, or by itself after half the grace time"
    STOP_NOW = "raise at once"


def transition(state: SignalState, name: str) -> tuple[SignalState, Action]:
    """Return the state after a signal, and the reaction to it."""
    interrupt, ends = name == "SIGINT", name in ("SIGTERM", "SIGHUP")
    after = replace(state, interrupts=state.interrupts + interrupt, terminated=state.terminated or ends, stopping=True)
    if interrupt and after.interrupts >= 3:
        return after, Action.EXIT
    if state.cleaning or (ends and state.terminated):
        return after, Action.NOTE
    if name == "SIGUSR1":
        return after, Action.STOP_AT_TICK
    if after.interrupts > 1:  # a second Ctrl-C, which a scheduler does not send
        insists = state.at_terminal or not state.saving
        return replace(after, overdue=True, forced=insists), Action.STOP_NOW
    if state.ticking and not state.overdue:  # also a first Ctrl-C after a SIGTERM
        return after, Action.STOP_AT_TICK if interrupt else Action.STOP_IN_TIME
    if ends and state.overdue:  # raised before: the user's code may be ending in good order
        return after, Action.STOP_IN_TIME
    return replace(after, overdue=True), Action.STOP_NOW
