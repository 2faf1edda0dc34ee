"""Rank 0's server: forwards values, agrees on steps, and notices ranks that are gone."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from ridgepole.pipeline.distributed.agreement import Rounds
from ridgepole.pipeline.distributed.failure import LOST, RankFailure
from ridgepole.pipeline.distributed.protocol import (
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

BLAME_SECONDS = 0.25
"""Seconds to wait for a better cause: a rank that died makes collectives of others fail."""


@dataclass(slots=True)
class _Member:
    """A connected rank."""

    writer: asyncio.StreamWriter
    started: float
    left: bool = False


class CoordinatorServer:
    """The server. All of it runs in one thread with an event loop of its own."""

    def __init__(self, listening: socket.socket, size: int, token: bytes) -> None:
        self._listening, self._size, self._token = listening, size, token
        self._members: dict[int, _Member] = {}
        self._complete = False
        self._failures: list[RankFailure] = []
        self._failed = False
        self._rounds = Rounds()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="ridgepole-hub", daemon=True)
        close_in_children(self)
        self._thread.start()
        self._ready.wait()

    @property
    def missing(self) -> list[int]:
        """Return the ranks that have not joined yet."""
        return [rank for rank in range(self._size) if rank not in self._members]

    def close(self, seconds: float = 2.0) -> None:
        """Wait until all messages of rank 0 are forwarded; after that time, close by force."""
        self._thread.join(seconds)
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(5.0)

    def descriptors(self) -> list[int]:
        """Return what a forked child must close."""
        sockets = [member.writer.get_extra_info("socket") for member in list(self._members.values())]
        return [self._listening.fileno(), *(held.fileno() for held in sockets if held is not None)]

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve_rank, sock=self._listening, limit=LONGEST)
        self._ready.set()
        await self._end.wait()
        server.close()
        for member in self._members.values():
            member.writer.close()
        for member in self._members.values():
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(member.writer.wait_closed(), 2.0)

    # --- members

    async def _serve_rank(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rank = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, asyncio.TimeoutError):
            rank = await asyncio.wait_for(self._greet(reader, writer), HANDSHAKE_SECONDS)
        if rank is None:
            writer.close()
            return
        member = self._members[rank]
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            while line := await reader.readline():
                self._on_message(rank, decode(line))
        self._on_end(rank, member)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
        keep_alive(writer.get_extra_info("socket"))
        mine = challenge()
        writer.write(encode({"challenge": mine}))
        hello = decode(await reader.readline())
        if not hmac.compare_digest(str(hello["proof"]), proof(self._token, "rank", mine)):
            return None
        rank, started = int(hello["rank"]), float(hello["started"])
        reply = {"proof": proof(self._token, "hub", str(hello["challenge"]))}
        refused = self._refusal(rank, int(hello["size"]), started)
        writer.write(encode(reply | ({"refused": refused} if refused else {})))
        await writer.drain()
        if refused:
            return None
        if rank in self._members:  # left over from an earlier launch
            self._members[rank].writer.close()
        self._members[rank] = _Member(writer, started)
        if not self._complete and not self.missing:
            self._complete = True
            self._send(range(self._size), {"op": "go"})
        return rank

    def _refusal(self, rank: int, size: int, started: float) -> str:
        if size != self._size:
            return f"rank {rank} expects {size} ranks, and rank 0 expects {self._size}"
        known = self._members.get(rank)
        if self._complete or (known is not None and known.started >= started):
            return f"a rank {rank} has joined already"
        return ""

    def _on_end(self, rank: int, member: _Member) -> None:
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
            self._fail(RankFailure(rank=rank, text=LOST, lost=True))

    def _send(self, ranks: Iterable[int], message: Message) -> None:
        data = encode(message)
        for rank in ranks:
            member = self._members.get(rank)
            if member is not None and not member.writer.is_closing():
                member.writer.write(data)

    def _present(self) -> list[int]:
        return [rank for rank, member in self._members.items() if not member.left]

    def _send_to_all(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._send(self._present(), message)

    # --- messages

    def _on_message(self, rank: int, message: Message) -> None:
        match message["op"]:
            case "put":
                self._send(range(1, self._size) if rank == 0 else [0], message | {"rank": rank})
            case "request":
                if not self._failed:
                    self._send_to_all(self._rounds.request(message))
            case "limit":
                self._send_to_all(self._rounds.limit(rank, message["round"], message["limit"], self._present()))
            case "fail":
                self._fail(RankFailure(**message["cause"]))
            case "bye":
                self._members[rank].left = True
                self._send([0], {"op": "put", "key": "bye", "rank": rank, "value": message["error"]})
                self._send_to_all(self._rounds.close(self._present()))
            case "over":
                self._send(range(1, self._size), {"op": "over"})

    def _fail(self, failure: RankFailure) -> None:
        self._failures.append(failure)
        if len(self._failures) == 1 and self._loop is not None:
            # A stop and a lost rank don't result from another failure, so they need no wait.
            self._loop.call_later(0 if failure.signal or failure.lost else BLAME_SECONDS, self._announce_failure)

    def _announce_failure(self) -> None:
        lost = [failure for failure in self._failures if failure.lost]
        self._failed = True
        self._send_to_all([{"op": "failed", "cause": (lost or self._failures)[0].as_dict()}])
