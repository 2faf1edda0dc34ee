"""One rank's view of the others, and how it waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ridgepole.errors import RankError, add_note_once, text_of
from ridgepole.pipeline.distributed.failure import (
    LOST,
    ParentWatch,
    RankFailure,
    RankStop,
    Watchdog,
    write_torchrun_error,
)
from ridgepole.pipeline.distributed.protocol import Connection, Message, pack, unpack
from ridgepole.pipeline.distributed.server import CoordinatorServer
from ridgepole.pipeline.lifecycle.signals import SignalGuard

POLL_SECONDS = 0.1
"""Seconds after which a wait checks for a signal."""

FIRST_FAILURE_SECONDS = 3.0
"""Seconds that a rank that failed waits to hear whether another one failed first."""

END_SECONDS = 600.0
"""Seconds that the ranks wait for each other's clean-up at the end of a run that went well."""

END_SECONDS_FAILED = 15.0
"""The same for a run that failed or was stopped: a scheduler may be about to kill it."""


class Coordinator:
    """A rank's place among the others. Every wait ends when another rank fails or is gone.

    Args:
        rank: This rank.
        size: Number of ranks.
        link: The connection to the server.
        server: The server itself, on rank 0.

    Attributes:
        news: Guards what the threads and the run share; notified of every change.
        stopping: Whether this rank has stopped at the step that all ranks agreed on.
        verified: How many checkpoints the ranks were asked to verify together.
    """

    def __init__(self, rank: int, size: int, link: Connection, server: CoordinatorServer | None) -> None:
        self.rank, self.size = rank, size
        self.news = threading.Condition()
        self.stopping = False
        self.verified = 0
        self._on_ask: Callable[[], int] | None = None
        self._on_decision: Callable[[Message], None] = lambda _message: None
        self._unanswered: Message | None = None
        self._link, self._server = link, server
        self._values: dict[tuple[str, int], Any] = {}
        self._failure: RankFailure | None = None
        self._started = self._over = self._leaving = self._lost = self._closed = False
        self._guard: SignalGuard | None = None
        self._thread = threading.get_ident()
        self._watchdog: Watchdog | None = None
        self._parent_watch: ParentWatch | None = None
        link.start(self._on_message, self._on_end)

    # --- joining

    def started(self, seconds: float) -> bool:
        """Wait until all ranks have joined, and return whether they have.

        The answer is False too if the connection was lost, and another server must be found.

        Raises:
            RankError: If rank 0 has given up.
        """
        with self.news:
            self.news.wait_for(lambda: self._started or self._lost or self._failure is not None, seconds)
            if self._failure is not None:
                raise self._failure.error()
            return self._started and not self._lost

    def obey_signals(self, guard: SignalGuard) -> None:
        """Let a signal that came to this rank end the waits of this thread from here on."""
        self._guard, self._thread = guard, threading.get_ident()

    def attach(self, guard: SignalGuard, emergency_cleanup: Callable[[BaseException], None]) -> None:
        """Let a failure elsewhere interrupt this rank from here on.

        Args:
            guard: The run's.
            emergency_cleanup: Cleans up and records the end of the run, if the main thread can't be
                reached.
        """
        with self.news:
            self._parent_watch = ParentWatch(guard)
            self._watchdog = Watchdog(self.rank, guard, emergency_cleanup)
            if self._failure is not None:
                self._watchdog.start(self._failure)

    def answer_with(self, on_ask: Callable[[], int], on_decision: Callable[[Message], None]) -> None:
        """Take part in agreeing on a step; a question that came before is answered now.

        Args:
            on_ask: Names the next step at which this rank can still stop; called in a thread.
            on_decision: Called with the step at which all ranks stop or take a checkpoint, in a
                thread.
        """
        with self.news:
            self._on_ask, self._on_decision = on_ask, on_decision
            unanswered, self._unanswered = self._unanswered, None
        if unanswered is not None:
            self._answer(unanswered)

    # --- exchanging values

    def share(self, key: str, value: Any = None, *, seconds: float | None = None) -> Any:
        """Return rank 0's value on every rank.

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
        self._wait(lambda: (key, 0) in self._values, lambda: f"rank 0 did not reach {key!r}", seconds)
        return self._values.pop((key, 0))

    def gather(self, key: str, value: Any, *, seconds: float | None = None) -> dict[int, Any]:
        """Return the values of all ranks on rank 0, and only its own on another rank.

        Args:
            key: Names the values; used once.
            value: This rank's, plain JSON.
            seconds: How long rank 0 waits; as long as all ranks are there when None.

        Raises:
            RankError: If a rank did not send its value in time.
            KeyboardInterrupt: If another rank failed, or a signal is due.
        """
        if self.rank:
            self._put(key, value)
            return {self.rank: value}
        others = range(1, self.size)

        def missing() -> list[int]:
            return [rank for rank in others if (key, rank) not in self._values]

        self._wait(lambda: not missing(), lambda: f"{_ranks(missing())} did not reach {key!r}", seconds)
        return {0: value} | {rank: self._values.pop((key, rank)) for rank in others}

    def share_large(self, key: str, value: Any = None, *, seconds: float | None = None) -> Any:
        """Return rank 0's value on every rank, as `share`, whatever its size."""
        pieces = pack(value) if self.rank == 0 else []
        count = self.share(key, len(pieces), seconds=seconds)
        pieces = [self.share(f"{key}, piece {index}", pieces[index] if pieces else None) for index in range(count)]
        return value if self.rank == 0 else unpack(pieces)

    def gather_large(self, key: str, value: Any, *, seconds: float | None = None) -> dict[int, Any]:
        """Return the values of all ranks on rank 0, as `gather`, whatever their size."""
        pieces = pack(value) if self.rank else []
        counts = self.gather(key, len(pieces), seconds=seconds)
        if self.rank:
            for index, piece in enumerate(pieces):
                self._put(f"{key}, piece {index}", piece)
            return {self.rank: value}
        return {0: value} | {
            rank: unpack([self._take((f"{key}, piece {index}", rank)) for index in range(count)])
            for rank, count in counts.items()
            if rank
        }

    def _take(self, place: tuple[str, int]) -> Any:
        self._wait(lambda: place in self._values, lambda: f"rank {place[1]} did not send {place[0]!r}", None)
        return self._values.pop(place)

    def barrier(self, key: str) -> None:
        """Wait until every rank is here."""
        self.gather(key, None)
        self.share(key)

    def request(
        self,
        kind: str,
        signal: str = "",
        grace: float | None = None,
        *,
        rollback: Mapping[str, Any] | None = None,
    ) -> None:
        """Ask for a step at which all ranks act. May be called from a signal handler.

        Args:
            kind: Why a checkpoint is to be taken there.
            signal: The signal that asks for a stop.
            grace: Seconds until a scheduler kills.
            rollback: The fault before which all ranks go back, as plain JSON.
        """
        more = {} if rollback is None else {"rollback": dict(rollback)}
        self._link.send({"op": "request", "kind": kind, "signal": signal, "grace": grace} | more)

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait for a condition that a message fulfils.

        Raises:
            KeyboardInterrupt: If another rank failed, or a signal is due.
        """
        self._wait(ready, lambda: "", None)

    # --- failing and leaving

    def report(self, error: BaseException) -> None:
        """Report this rank's failure, unless it results from another's. The others stop."""
        with self.news:
            reported, self._leaving = self._leaving, True
            known = self._failure is not None or self.stopping
        if self._watchdog is not None:
            self._watchdog.stop()
        if not reported and not known and not isinstance(error, RankStop):
            self._send_failure(error)

    def first_failure(self, error: BaseException) -> BaseException:
        """Report an error, and return the error to raise: that of the rank that failed first."""
        self.report(error)
        if self.stopping and self._failure is None:
            return error
        with self.news:
            self.news.wait_for(lambda: self._failure is not None, FIRST_FAILURE_SECONDS)
            failure = self._failure
        if failure is None or failure.rank == self.rank:
            if failure is not None and not failure.signal:
                write_torchrun_error(error)
            return error
        first = failure.error()
        if not (isinstance(error, RankStop) or failure.signal):
            add_note_once(first, f"rank {self.rank} then had {type(error).__name__}: {text_of(error)}")
        return first

    def leave(self, errors: list[BaseException], in_cleanup: list[BaseException]) -> list[BaseException]:
        """Wait until the other ranks have cleaned up too; return the errors of their clean-up.

        Args:
            errors: The errors of this rank.
            in_cleanup: Those of its clean-up.
        """
        with self.news:
            self._leaving = True
        if self.rank:
            shown = f"{type(in_cleanup[0]).__name__}: {text_of(in_cleanup[0])}" if in_cleanup else None
            self._link.send({"op": "bye", "error": shown})
            return []
        keys = [("bye", rank) for rank in range(1, self.size)]
        seconds = END_SECONDS_FAILED if errors else END_SECONDS
        with self.news:
            self.news.wait_for(lambda: all(key in self._values for key in keys), seconds)
            texts = {rank: self._values.get((key, rank), "has not finished") for key, rank in keys}
        if errors:
            return []
        return [RankError(f"the clean-up of rank {rank}: {text}", rank) for rank, text in texts.items() if text]

    def over(self) -> None:
        """Wait until rank 0 has written everything; on rank 0, announce that."""
        if self.rank == 0:
            self._over = True
            self._link.send({"op": "over"})
            return
        with self.news:
            self.news.wait_for(lambda: self._over or self._lost, END_SECONDS)

    def close(self) -> None:
        """Close the connection, and the server on rank 0."""
        self._leaving = self._closed = True
        if self._parent_watch is not None:
            self._parent_watch.stop()
        if self.rank == 0 and not self._over:
            self._link.send({"op": "over"})
        self._link.close()
        if self._server is not None:
            self._server.close()

    def give_up(self, error: BaseException) -> None:
        """Stop waiting for ranks that have not joined, and tell those that have."""
        self._leaving = True
        self._send_failure(error)
        with self.news:
            self.news.wait_for(lambda: self._failure is not None, 1.0)
        self.close()

    def end(self, error: BaseException | None) -> None:
        """Leave the other ranks, and report a failure that no run has reported.

        Raises:
            RankError: If the error results from another rank's failure.
        """
        try:
            first = error if error is None or self._leaving else self.first_failure(error)
        finally:
            self.close()
        if first is not None and first is not error:
            raise first from None

    # --- threads

    def _send_failure(self, error: BaseException) -> None:
        self._link.send({"op": "fail", "cause": RankFailure.of(error, self.rank).as_dict()})

    def _put(self, key: str, value: Any) -> None:
        self._link.send({"op": "put", "key": key, "value": value})

    def _wait(self, ready: Callable[[], bool], what: Callable[[], str], seconds: float | None) -> None:
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            with self.news:
                if self._failure is not None:
                    raise RankStop(self._failure)
                if ready():
                    return
                self.news.wait(POLL_SECONDS)
            if self._closed:  # in a save that was given up
                raise RankError(f"rank {self.rank} has left the run", self.rank)
            if self._guard is not None and threading.get_ident() == self._thread:
                self._guard.obey()
            if until is not None and time.monotonic() > until:
                raise RankError(f"{what()} within {seconds:g} s: all ranks must make the same calls")

    def _on_message(self, message: Message) -> None:
        match message["op"]:
            case "put":
                with self.news:
                    self._values[message["key"], message["rank"]] = message["value"]
                    self.news.notify_all()
            case "ask":
                self._answer(message)
            case "plan":
                self._on_decision(message)
            case "failed":
                self._fail(RankFailure(**message["cause"]))
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
                    self._fail(RankFailure(rank=0, text="has left the run", lost=True))

    def _answer(self, message: Message) -> None:
        with self.news:
            ask = self._on_ask
            if ask is None:
                self._unanswered = message
                return
        self._link.send({"op": "limit", "round": message["round"], "limit": ask()})

    def _on_end(self) -> None:
        with self.news:
            self._lost = True
            self.news.notify_all()
            unexpected = self._started and not self._over and not self._closed
        if unexpected:
            self._fail(RankFailure(rank=0, text=LOST, lost=True))

    def _fail(self, failure: RankFailure) -> None:
        with self.news:
            if self._failure is not None:
                return
            self._failure = failure
            self.news.notify_all()
            watchdog = None if self._leaving else self._watchdog
        # The next step notices the failure
        self._on_decision({"at": -1, "kind": "", "signal": "", "grace": None})
        if watchdog is not None:
            watchdog.start(failure)


def _ranks(ranks: list[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
