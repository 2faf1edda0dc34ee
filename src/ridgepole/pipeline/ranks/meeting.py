"""How the ranks of one launch find each other, with nothing but the directory of runs that they share.

Rank 0 opens a port and writes its addresses and a token into `<root>/.ranks/<launch>.json`; the others read the file
and connect. A file that a crashed launch has left names a port where nobody answers to its token, so it is passed over
until rank 0 has replaced it: only a connection that both ends have authenticated counts. When all are there the file
goes.
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
from ridgepole.files import write_atomically
from ridgepole.launch import Launch, launched
from ridgepole.pipeline.ranks.hub import Hub
from ridgepole.pipeline.ranks.team import Team
from ridgepole.pipeline.ranks.wire import Link, RefusedError, connect, listen

JOIN_SECONDS = 300.0
"""How long ranks wait for each other: on many nodes the imports of the last one may take minutes."""

_JOIN = "RIDGEPOLE_JOIN_SECONDS"
_LOOK_SECONDS = 0.05


def meet(root: Path) -> Team | None:
    """Waits for the other ranks of this process's launch.

    Args:
        root: The directory that holds runs, which all ranks see.

    Returns:
        The team; None where this process is alone.

    Raises:
        RankError: If not all ranks came in time, or the environment contradicts itself.
        RunDirError: If nothing can be written to the directory.
    """
    try:
        launch = launched()
        seconds = float(os.environ.get(_JOIN, JOIN_SECONDS))
    except ValueError as error:
        raise RankError(str(error), exit_code=2) from None
    if launch is None:
        return None
    file = root.absolute() / rundir.RANKS / f"{launch.key}.json"
    try:  # on every rank: where rank 0 can't leave word, nobody would wait for it in vain
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(root, error) from error
    return _Host(launch, file, seconds).meet() if launch.rank == 0 else _join(launch, file, seconds)


class _Host:
    """Rank 0's side."""

    def __init__(self, launch: Launch, file: Path, seconds: float) -> None:
        self.launch, self.file, self.seconds = launch, file, seconds
        self.token = secrets.token_hex(32)

    def meet(self) -> Team:
        started = time.time()
        listening = listen()
        port = listening.getsockname()[1]
        hub = Hub(listening, self.launch.size, bytes.fromhex(self.token))
        team = None
        try:
            link = connect(("localhost", port), bytes.fromhex(self.token), _hello(self.launch, started))
            team = Team(0, self.launch.size, link, hub)
            self._publish(port)
            self._wait(team, hub)
        except BaseException as error:
            if team is None:
                hub.close(0)
            else:
                team.give_up(error)
            raise
        finally:
            self._withdraw()
        return team

    def _publish(self, port: int) -> None:
        document = {"token": self.token, "host": socket.gethostname(), "port": port, "addresses": _addresses()}
        until = time.monotonic() + 1.0
        while True:
            try:
                self.file.parent.mkdir(exist_ok=True)
                write_atomically(self.file, json.dumps(document).encode(), 0o600)
            except FileNotFoundError as error:  # another launch took the directory away between the two
                if time.monotonic() > until:
                    raise _unwritable(self.file, error) from error
            except OSError as error:
                raise _unwritable(self.file, error) from error
            else:
                return

    def _wait(self, team: Team, hub: Hub) -> None:
        until = time.monotonic() + self.seconds
        while not team.started(1.0):
            if _read(self.file).get("token") != self.token:
                raise RankError(f"another launch has taken {self.file}: tell them apart with RIDGEPOLE_LAUNCH=name", 0)
            if time.monotonic() > until:
                missing = ", ".join(map(str, hub.missing))
                raise RankError(
                    f"of {self.launch.size} ranks {missing} did not come within {self.seconds:g} s ({_JOIN}): start "
                    f"them all, with the same directory of runs ({self.file.parents[1]})"
                )

    def _withdraw(self) -> None:
        with contextlib.suppress(OSError):
            if _read(self.file).get("token") == self.token:
                self.file.unlink()
            self.file.parent.rmdir()  # stays where another launch has its file in it


def _unwritable(path: Path, error: OSError) -> RunDirError:
    return RunDirError(f"can't write {path}: {error.strerror or error}; name another directory with --run-dir")


def _join(launch: Launch, file: Path, seconds: float) -> Team:
    """The side of the other ranks."""
    started = time.time()
    until = time.monotonic() + seconds
    why = "there is no such file"
    while time.monotonic() < until:
        document = _read(file)
        if document:
            try:
                link = _reach(document, _hello(launch, started))
            except OSError as error:
                why = f"at {document.get('host')}, port {document.get('port')}: {error}"
            else:
                team = Team(launch.rank, launch.size, link, None)
                if team.started(until - time.monotonic()):
                    return team
                why = "it waits for other ranks, or has ended while it did"
                team.close()
        time.sleep(_LOOK_SECONDS)
    raise RankError(
        f"rank {launch.rank} did not meet rank 0 within {seconds:g} s ({_JOIN}) by {file} ({why}): rank 0 failed "
        f"before the run began, or the directory of runs is not on a filesystem that all nodes share",
        0,
    )


def _hello(launch: Launch, started: float) -> dict[str, Any]:
    return {"rank": launch.rank, "size": launch.size, "started": started}


def _reach(document: dict[str, Any], hello: dict[str, Any]) -> Link:
    """Tries rank 0's addresses one after the other; that it is the right one is proven by the token."""
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
    """Names and numbers by which other nodes may reach this one, the launcher's own first."""
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


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
