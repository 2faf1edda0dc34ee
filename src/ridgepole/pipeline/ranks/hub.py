"""Rank 0's switchboard: passes values on, finds the step at which all stop, and knows who is still there."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from ridgepole.pipeline.ranks.cause import LOST, Cause
from ridgepole.pipeline.ranks.wire import (
    HANDSHAKE_SECONDS,
    LONGEST,
    Message,
    challenge,
    close_in_children,
    decode,
    encode,
    keep_alive,
    proof,
)

SETTLE_SECONDS = 0.25
"""How long the first failure waits for a better explanation: a rank that died makes the collectives of others fail."""


@dataclass(slots=True)
class _Member:
    """A rank that is connected."""

    writer: asyncio.StreamWriter
    started: float
    left: bool = False


@dataclass(slots=True)
class _Round:
    """The search for a step that no rank has passed."""

    number: int
    request: Message
    limits: dict[int, int] = field(default_factory=dict)


class Hub:
    """The switchboard. All of it runs in one thread with an event loop of its own.

    Args:
        listening: The socket.
        size: Number of ranks.
        token: The launch's.
    """

    def __init__(self, listening: socket.socket, size: int, token: bytes) -> None:
        self._listening, self._size, self._token = listening, size, token
        self._members: dict[int, _Member] = {}
        self._complete = False
        self._causes: list[Cause] = []
        self._decided = False
        self._rounds = 0
        self._round: _Round | None = None
        self._waiting: list[Message] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="ridgepole-hub", daemon=True)
        close_in_children(self)
        self._thread.start()
        self._ready.wait()

    @property
    def missing(self) -> list[int]:
        """Ranks that have not come yet."""
        return [rank for rank in range(self._size) if rank not in self._members]

    def close(self, seconds: float = 2.0) -> None:
        """Waits until the hub has passed on all that rank 0 has sent and noticed its end; then closes it by force."""
        self._thread.join(seconds)
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(5.0)

    def descriptors(self) -> list[int]:
        """What a forked child must not keep open."""
        sockets = [member.writer.get_extra_info("socket") for member in list(self._members.values())]
        return [self._listening.fileno(), *(held.fileno() for held in sockets if held is not None)]

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._meet, sock=self._listening, limit=LONGEST)
        self._ready.set()
        await self._end.wait()
        server.close()
        for member in self._members.values():
            member.writer.close()
        for member in self._members.values():
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(member.writer.wait_closed(), 2.0)

    # --- members

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rank = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, asyncio.TimeoutError):
            rank = await asyncio.wait_for(self._greet(reader, writer), HANDSHAKE_SECONDS)
        if rank is None:
            writer.close()
            return
        member = self._members[rank]
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            while line := await reader.readline():
                self._take(rank, decode(line))
        self._gone(rank, member)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
        keep_alive(writer.get_extra_info("socket"))
        mine = challenge()
        writer.write(encode({"challenge": mine}))
        hello = decode(await reader.readline())
        if not hmac.compare_digest(str(hello["proof"]), proof(self._token, "rank", mine)):
            return None
        rank, started = int(hello["rank"]), float(hello["started"])
        reply = {"proof": proof(self._token, "hub", str(hello["challenge"]))}
        refused = self._refuses(rank, int(hello["size"]), started)
        writer.write(encode(reply | ({"refused": refused} if refused else {})))
        await writer.drain()
        if refused:
            return None
        if rank in self._members:  # left over from a launch before this one
            self._members[rank].writer.close()
        self._members[rank] = _Member(writer, started)
        if not self._complete and not self.missing:
            self._complete = True
            self._send(range(self._size), {"op": "go"})
        return rank

    def _refuses(self, rank: int, size: int, started: float) -> str:
        if size != self._size:
            return f"rank {rank} was told of {size} ranks, and rank 0 of {self._size}"
        known = self._members.get(rank)
        if self._complete or (known is not None and known.started >= started):
            return f"a rank {rank} is here already"
        return ""

    def _gone(self, rank: int, member: _Member) -> None:
        member.writer.close()
        if rank == 0:
            self._end.set()
        if self._members.get(rank) is not member:
            return
        if not self._complete:
            del self._members[rank]
            return
        if not member.left:
            member.left = True
            self._send([0], {"op": "put", "key": "bye", "rank": rank, "value": "ended without a word"})
            self._fail(Cause(rank, LOST, lost=True))

    def _send(self, ranks: Iterable[int], message: Message) -> None:
        data = encode(message)
        for rank in ranks:
            member = self._members.get(rank)
            if member is not None and not member.writer.is_closing():
                member.writer.write(data)

    def _everyone(self) -> list[int]:
        return [rank for rank, member in self._members.items() if not member.left]

    # --- what they say

    def _take(self, rank: int, message: Message) -> None:
        match message["op"]:
            case "put":
                wanted = range(1, self._size) if rank == 0 else [0]
                self._send(wanted, message | {"rank": rank})
            case "request":
                self._ask_for(message)
            case "limit":
                self._limit(rank, message["round"], message["limit"])
            case "fail":
                self._fail(Cause(**message["cause"]))
            case "bye":
                self._members[rank].left = True
                self._send([0], {"op": "put", "key": "bye", "rank": rank, "value": message["error"]})
                if self._round is not None:
                    self._close_round()
            case "over":
                self._send(range(1, self._size), {"op": "over"})

    def _fail(self, cause: Cause) -> None:
        self._causes.append(cause)
        if len(self._causes) == 1 and self._loop is not None:
            # What stops a run at once is no consequence of anything.
            self._loop.call_later(0 if cause.signal or cause.lost else SETTLE_SECONDS, self._decide)

    def _decide(self) -> None:
        lost = [cause for cause in self._causes if cause.lost]
        self._decided = True
        self._send(self._everyone(), {"op": "failed", "cause": (lost or self._causes)[0].as_dict()})

    # --- one step for all

    def _ask_for(self, request: Message) -> None:
        """Begins the search for a step, unless the same is sought already."""
        known = [*self._waiting, *([self._round.request] if self._round else [])]
        if self._decided or any(other["signal"] == request["signal"] and request["signal"] for other in known):
            return
        self._waiting.append(request)
        if self._round is None:
            self._next_round()

    def _next_round(self) -> None:
        self._rounds += 1
        self._round = _Round(self._rounds, self._waiting.pop(0))
        self._send(self._everyone(), {"op": "ask", "round": self._rounds})

    def _limit(self, rank: int, number: int, limit: int) -> None:
        if self._round is not None and self._round.number == number:
            self._round.limits[rank] = limit
            self._close_round()

    def _close_round(self) -> None:
        """Once everyone has named the next step that it can still stop at, the latest of them is the one."""
        current = self._round
        if current is None or not current.limits or any(rank not in current.limits for rank in self._everyone()):
            return
        plan = {"op": "plan", "at": max(current.limits.values())} | {
            name: current.request[name] for name in ("kind", "signal", "grace")
        }
        self._round = None
        self._send(self._everyone(), plan)
        if self._waiting:
            self._next_round()
