"""What one rank knows of the others, and how it waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from ridgepole.errors import RankError, add_note_once, text_of
from ridgepole.pipeline.ranks.cause import LOST, Cause, RankStop, cause_of
from ridgepole.pipeline.ranks.elastic import tell_torchrun
from ridgepole.pipeline.ranks.hub import Hub
from ridgepole.pipeline.ranks.rescue import Rescue
from ridgepole.pipeline.ranks.wire import Link, Message
from ridgepole.pipeline.signals import SignalGuard

LOOK_SECONDS = 0.1
"""How long a wait lasts before it looks whether a signal has come."""

VERDICT_SECONDS = 3.0
"""How long a rank that failed waits to hear whether another one failed first."""

END_SECONDS = 600.0
"""How long the ranks wait for each other's clean-up at the end of a run that went well."""

END_SECONDS_FAILED = 15.0
"""The same where it failed or was stopped: a scheduler may be about to kill."""


class Team:
    """A rank's place among the others. Every wait ends when another rank fails or is gone.

    Args:
        rank: This rank.
        size: Number of ranks.
        link: The connection to the hub.
        hub: The hub itself, on rank 0.

    Attributes:
        news: Guards what the threads and the run share; notified when something has come.
        stopping: Whether this rank has stopped where all do.
    """

    def __init__(self, rank: int, size: int, link: Link, hub: Hub | None) -> None:
        self.rank, self.size = rank, size
        self.news = threading.Condition()
        self._on_ask: Callable[[], int] | None = None
        self._on_plan: Callable[[Message], None] = lambda _message: None
        self._unanswered: Message | None = None
        self.stopping = False
        self._link, self._hub = link, hub
        self._values: dict[tuple[str, int], Any] = {}
        self._cause: Cause | None = None
        self._started = self._over = self._leaving = self._lost = self._closed = False
        self._guard: SignalGuard | None = None
        self._rescue: Rescue | None = None
        link.start(self._take, self._ended)

    # --- what the run asks

    def started(self, seconds: float) -> bool:
        """Waits until all ranks are there.

        Returns:
            Whether they are; False also where the connection was lost, and another hub must be found.

        Raises:
            RankError: If rank 0 has given up.
        """
        with self.news:
            self.news.wait_for(lambda: self._started or self._lost or self._cause is not None, seconds)
            if self._cause is not None:
                raise self._cause.error()
            return self._started and not self._lost

    def attach(self, guard: SignalGuard, last_words: Callable[[BaseException], None]) -> None:
        """From here on a failure elsewhere interrupts this rank.

        Args:
            guard: The run's.
            last_words: Cleans up and notes how the run has ended, where the main thread can't be reached any more.
        """
        with self.news:
            self._guard = guard
            self._rescue = Rescue(self.rank, guard, last_words)
            if self._cause is not None:
                self._rescue.start(self._cause)

    def answer_with(self, on_ask: Callable[[], int], on_plan: Callable[[Message], None]) -> None:
        """From here on this rank takes part in finding a step for all; a question that came before is answered now.

        Args:
            on_ask: Names the next boundary at which this rank can still stop; called in a thread.
            on_plan: Is told the boundary that all ranks stop at, or take a checkpoint at; called in a thread.
        """
        with self.news:
            self._on_ask, self._on_plan = on_ask, on_plan
            unanswered, self._unanswered = self._unanswered, None
        if unanswered is not None:
            self._answer(unanswered)

    def share(self, key: str, value: Any = None, *, seconds: float | None = None) -> Any:
        """Rank 0's value, on every rank.

        Args:
            key: Names the value; used once.
            value: On rank 0, plain JSON.
            seconds: How long to wait; as long as rank 0 is there when None.

        Raises:
            RankError: If rank 0 did not share it in time.
            KeyboardInterrupt: If another rank failed, or a signal is due.
        """
        if self.rank == 0:
            self._put(key, value)
            return value
        self._wait(lambda: (key, 0) in self._values, lambda: f"rank 0 did not come to {key!r}", seconds)
        return self._values.pop((key, 0))

    def gather(self, key: str, value: Any, *, seconds: float | None = None) -> dict[int, Any]:
        """The values of all ranks on rank 0, their own alone elsewhere.

        Args:
            key: Names the values; used once.
            value: This rank's, plain JSON.
            seconds: How long rank 0 waits; as long as all ranks are there when None.

        Returns:
            The values by rank.

        Raises:
            RankError: If a rank did not come in time; names it.
            KeyboardInterrupt: If another rank failed, or a signal is due.
        """
        if self.rank:
            self._put(key, value)
            return {self.rank: value}
        others = range(1, self.size)

        def missing() -> list[int]:
            return [rank for rank in others if (key, rank) not in self._values]

        self._wait(lambda: not missing(), lambda: f"{_ranks(missing())} did not come to {key!r}", seconds)
        return {0: value} | {rank: self._values.pop((key, rank)) for rank in others}

    def barrier(self, key: str) -> None:
        """Waits until every rank is here."""
        self.gather(key, None)
        self.share(key)

    def request(self, kind: str, signal: str = "", grace: float | None = None) -> None:
        """Asks for a boundary at which all do something. May be called from a signal's handler.

        Args:
            kind: Why a checkpoint is to be taken there.
            signal: The signal that asks for a stop.
            grace: Seconds until a scheduler kills.
        """
        self._link.send({"op": "request", "kind": kind, "signal": signal, "grace": grace})

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Waits for something that a message brings.

        Raises:
            KeyboardInterrupt: If another rank failed, or a signal is due.
        """
        self._wait(ready, lambda: "", None)

    # --- failing and leaving

    def report(self, error: BaseException) -> None:
        """Tells the others that this rank fails, if it is no consequence of theirs. They begin to stop at once."""
        with self.news:
            told, self._leaving = self._leaving, True
            known = self._cause is not None or self.stopping
        if self._rescue is not None:
            self._rescue.stop()
        if not told and not known and not isinstance(error, RankStop):
            self._link.send({"op": "fail", "cause": cause_of(error, self.rank).as_dict()})

    def settle(self, error: BaseException) -> BaseException:
        """What the run fails with here: the first cause, wherever it was."""
        self.report(error)
        if self.stopping and self._cause is None:
            return error
        with self.news:
            self.news.wait_for(lambda: self._cause is not None, VERDICT_SECONDS)
            cause = self._cause
        if cause is None or cause.rank == self.rank:
            if cause is not None and not cause.signal:
                tell_torchrun(error)
            return error
        first = cause.error()
        if isinstance(error, RankStop):
            return first
        if not cause.signal:
            add_note_once(first, f"rank {self.rank} then had {type(error).__name__}: {text_of(error)}")
        return first

    def leave(self, errors: list[BaseException], in_cleanup: list[BaseException]) -> list[BaseException]:
        """Waits, after the clean-up, until the others are through theirs.

        Args:
            errors: What went wrong here.
            in_cleanup: Those that only the clean-up had.

        Returns:
            What went wrong in the clean-up of other ranks.
        """
        with self.news:
            self._leaving = True
        seconds = END_SECONDS_FAILED if errors else END_SECONDS
        if self.rank:
            shown = f"{type(in_cleanup[0]).__name__}: {text_of(in_cleanup[0])}" if in_cleanup else None
            self._link.send({"op": "bye", "error": shown})
            return []
        keys = [("bye", rank) for rank in range(1, self.size)]
        with self.news:
            self.news.wait_for(lambda: all(key in self._values for key in keys), seconds)
            texts = {rank: self._values.get((key, rank), "is still not through") for key, rank in keys}
        if errors:
            return []
        return [RankError(f"the clean-up of rank {rank}: {text}", rank) for rank, text in texts.items() if text]

    def over(self) -> None:
        """Waits until what rank 0 writes is complete; on rank 0, says so."""
        if self.rank == 0:
            self._over = True
            self._link.send({"op": "over"})
            return
        with self.news:
            self.news.wait_for(lambda: self._over or self._lost, END_SECONDS)

    def close(self) -> None:
        """Leaves the others."""
        self._leaving = self._closed = True
        if self.rank == 0 and not self._over:
            self._link.send({"op": "over"})
        self._link.close()
        if self._hub is not None:
            self._hub.close()

    def give_up(self, error: BaseException) -> None:
        """Rank 0 does not wait for the others any longer; those that are there are told."""
        self._leaving = True
        self._link.send({"op": "fail", "cause": cause_of(error, self.rank).as_dict()})
        with self.news:
            self.news.wait_for(lambda: self._cause is not None, 1.0)
        self.close()

    def end(self, error: BaseException | None) -> None:
        """Leaves the others; tells them of a failure that no run has told them of.

        Args:
            error: What this rank fails with.

        Raises:
            RankError: If that is a consequence of what another rank failed with.
        """
        try:
            first = error if error is None or self._leaving else self.settle(error)
        finally:
            self.close()
        if first is not None and first is not error:
            raise first from None

    # --- threads

    def _put(self, key: str, value: Any) -> None:
        self._link.send({"op": "put", "key": key, "value": value})

    def _wait(self, ready: Callable[[], bool], what: Callable[[], str], seconds: float | None) -> None:
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            with self.news:
                if self._cause is not None:
                    raise RankStop(self._cause)
                if ready():
                    return
                self.news.wait(LOOK_SECONDS)
            if self._guard is not None:
                self._guard.obey()
            if until is not None and time.monotonic() > until:
                raise RankError(f"{what()} within {seconds:g} s: every rank has to come to the same calls")

    def _take(self, message: Message) -> None:
        match message["op"]:
            case "put":
                with self.news:
                    self._values[message["key"], message["rank"]] = message["value"]
                    self.news.notify_all()
            case "ask":
                self._answer(message)
            case "plan":
                self._on_plan(message)
            case "failed":
                self._fail(Cause(**message["cause"]))
            case "go":
                with self.news:
                    self._started = True
                    self.news.notify_all()
            case "over":
                with self.news:
                    self._over = True
                    self.news.notify_all()
                    leaving = self._leaving
                if not leaving:
                    self._fail(Cause(0, "has left the run", lost=True))

    def _answer(self, message: Message) -> None:
        with self.news:
            ask = self._on_ask
            if ask is None:
                self._unanswered = message
                return
        self._link.send({"op": "limit", "round": message["round"], "limit": ask()})

    def _ended(self) -> None:
        with self.news:
            self._lost = True
            self.news.notify_all()
            unexpected = self._started and not self._over and not self._closed
        if unexpected:
            self._fail(Cause(0, LOST, lost=True))

    def _fail(self, cause: Cause) -> None:
        with self.news:
            if self._cause is not None:
                return
            self._cause = cause
            self.news.notify_all()
            interrupt = not self._leaving and self._rescue is not None
        self._on_plan({"at": -1, "kind": "", "signal": "", "grace": None})  # the next boundary finds it out
        if interrupt and self._rescue is not None:
            self._rescue.start(cause)


def _ranks(ranks: list[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
