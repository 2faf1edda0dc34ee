"""Connect the ranks of one launch through the directory of runs that they share.

Rank 0 opens a port and writes its addresses and a token into `<directory of
runs>/.ranks/<launch>.json`. The other ranks read the file and connect. A file that a crashed launch
has left names a port where no server answers to its token, so it is skipped until rank 0 has
replaced it. Only a connection that both ends have authenticated counts. When all ranks have joined,
the file is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.errors import RankError, RunDirError
from ridgepole.files import read_json, write_atomically
from ridgepole.launch import Launch, launched
from ridgepole.pipeline.distributed.coordinator import Coordinator
from ridgepole.pipeline.distributed.protocol import Connection, RefusedError, connect, listen
from ridgepole.pipeline.distributed.server import CoordinatorServer

JOIN_SECONDS = 300.0
"""Seconds to wait for all ranks: on many nodes the last one may import for minutes."""

_JOIN = "RIDGEPOLE_JOIN_SECONDS"
_POLL_SECONDS = 0.05


def join_ranks(root: Path) -> Coordinator | None:
    """Wait for the other ranks of this process's launch; return None if this process is alone.

    Raises:
        RankError: If not all ranks joined in time, or the environment contradicts itself.
        RunDirError: If the directory of runs can't be written.
    """
    try:
        launch = launched()
        seconds = float(os.environ.get(_JOIN, JOIN_SECONDS))
    except ValueError as error:
        raise RankError(str(error), exit_code=2) from None
    if launch is None:
        return None
    file = root.absolute() / rundir.RANKS / f"{launch.key}.json"
    try:  # on every rank, so that no rank waits in vain for a file that rank 0 can't write
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(root, error) from error
    return _Host(launch, file, seconds).join() if launch.rank == 0 else _join(launch, file, seconds)


class _Host:
    """Rank 0's side of the rendezvous."""

    def __init__(self, launch: Launch, file: Path, seconds: float) -> None:
        self.launch, self.file, self.seconds = launch, file, seconds
        self.token = secrets.token_hex(32)

    def join(self) -> Coordinator:
        started = time.time()
        listening = listen()
        port = listening.getsockname()[1]
        server = CoordinatorServer(listening, self.launch.size, bytes.fromhex(self.token))
        coordinator = None
        try:
            link = connect(("localhost", port), bytes.fromhex(self.token), _hello(self.launch, started))
            coordinator = Coordinator(0, self.launch.size, link, server)
            self._publish(port)
            self._wait(coordinator, server)
        except BaseException as error:
            if coordinator is None:
                server.close(0)
            else:
                coordinator.give_up(error)
            raise
        finally:
            self._withdraw()
        return coordinator

    def _publish(self, port: int) -> None:
        document = {"token": self.token, "host": socket.gethostname(), "port": port, "addresses": _addresses()}
        until = time.monotonic() + 1.0
        while True:
            try:
                self.file.parent.mkdir(exist_ok=True)
                write_atomically(self.file, json.dumps(document).encode(), 0o600)
            except FileNotFoundError as error:  # another launch removed the directory in between
                if time.monotonic() > until:
                    raise _unwritable(self.file, error) from error
            except OSError as error:
                raise _unwritable(self.file, error) from error
            else:
                return

    def _wait(self, coordinator: Coordinator, server: CoordinatorServer) -> None:
        until = time.monotonic() + self.seconds
        while not coordinator.started(1.0):
            if read_json(self.file).get("token") != self.token:
                raise RankError(
                    f"another launch has taken {self.file}: set RIDGEPOLE_LAUNCH=name to tell them apart", 0
                )
            if time.monotonic() > until:
                missing = ", ".join(map(str, server.missing))
                raise RankError(
                    f"of {self.launch.size} ranks {missing} did not join within {self.seconds:g} s ({_JOIN}): start "
                    f"all of them with the same directory of runs ({self.file.parents[1]})"
                )

    def _withdraw(self) -> None:
        with contextlib.suppress(OSError):
            if read_json(self.file).get("token") == self.token:
                self.file.unlink()
            self.file.parent.rmdir()  # stays while another launch has its file in it


def _unwritable(path: Path, error: OSError) -> RunDirError:
    return RunDirError(f"can't write {path}: {error.strerror or error}; name another directory with --runs-dir")


def _join(launch: Launch, file: Path, seconds: float) -> Coordinator:
    """Connect to rank 0, as another rank."""
    started = time.time()
    until = time.monotonic() + seconds
    why = "the file does not exist"
    while time.monotonic() < until:
        document = read_json(file)
        if document:
            try:
                link = _reach(document, _hello(launch, started))
            except OSError as error:
                why = f"at {document.get('host')}, port {document.get('port')}: {error}"
            else:
                coordinator = Coordinator(launch.rank, launch.size, link, None)
                if coordinator.started(until - time.monotonic()):
                    return coordinator
                why = "it still waits for other ranks, or ended while waiting"
                coordinator.close()
        time.sleep(_POLL_SECONDS)
    raise RankError(
        f"rank {launch.rank} did not connect to rank 0 within {seconds:g} s ({_JOIN}) by {file} ({why}): rank 0 failed "
        f"before the run began, or the directory of runs is not on a filesystem that all nodes share",
        0,
    )


def _hello(launch: Launch, started: float) -> dict[str, Any]:
    return {"rank": launch.rank, "size": launch.size, "started": started}


def _reach(document: dict[str, Any], hello: dict[str, Any]) -> Connection:
    """Try rank 0's addresses one after the other; the token proves that it is the right server."""
    token, port = bytes.fromhex(document["token"]), int(document["port"])
    here = document["host"] == socket.gethostname()
    problem: OSError = ConnectionError("no address")
    for address in [*(["localhost"] if here else []), *document["addresses"]]:
        try:
            return connect((address, port), token, hello)
        except RefusedError:
            raise
        except OSError as error:
            problem = error
    raise problem


def _addresses() -> list[str]:
    """Return the addresses by which other nodes may reach this one, the launcher's own first."""
    import psutil

    own = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
        and not address.address.startswith(("127.", "fe80", "::1"))
    ]
    master = os.environ.get("MASTER_ADDR", "")
    return list(dict.fromkeys([*([master] if master else []), socket.gethostname(), *own]))
