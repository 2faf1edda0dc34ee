"""The lease of a mirror: one writer, named in an object that only its holder replaces."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ridgepole.errors import RunDirError
from ridgepole.mirror.objects import ConflictError, Objects, UnreachableError

LEASE = "lease.json"


class TwoWritersError(RunDirError):
    """Another process writes this mirror."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The holder of a lease, as its object names it.

    Attributes:
        attempt: The number of the attempt that writes.
        place: The machine and directory of the run; a mirror's local lock admits one process there.
        host: The machine's name.
        pid: The process.
        seconds: Without a renewal for this long, another machine may take over.
        released: Whether the holder has ended.
        renewed: Counts the renewals.
    """

    attempt: int
    place: str
    host: str
    pid: int
    seconds: float
    released: bool = False
    renewed: int = 0


def place_of(run: Path) -> str:
    """Return what tells a run directory from copies of it, on this machine and on others."""
    status = run.stat()
    return f"{socket.gethostname()}:{status.st_dev}:{status.st_ino}"


class Lease:
    """The lease of one run, as this process holds it.

    Args:
        objects: The objects of the run.
        attempt: The attempt that writes.
        place: Of the run directory.
        seconds: The time after which others may take over.
    """

    def __init__(self, objects: Objects, attempt: int, place: str, seconds: float) -> None:
        self._objects = objects
        self._ours = Holder(attempt=attempt, place=place, host=socket.gethostname(), pid=os.getpid(), seconds=seconds)
        self._e_tag: str | None = None
        self._count = 0
        self._renewed_at = 0.0

    def take(self, wait: Callable[[float], bool]) -> None:
        """Take the lease; wait for one that is not renewed until it has run out.

        Args:
            wait: Waits for seconds; returns whether to give up.

        Raises:
            TwoWritersError: If another process holds it, or a later attempt did.
            UnreachableError: If it was given up.
        """
        found = self._read()
        if found is not None:
            holder, self._e_tag = found
            self._check(holder)
            if not holder.released and holder.place != self._ours.place:
                # Clocks of machines differ: what counts is that the holder is silent
                until = time.monotonic() + holder.seconds
                while time.monotonic() < until:
                    if wait(min(0.5, holder.seconds / 5)):
                        raise UnreachableError(f"{self._objects.url} is still held by {holder.host}")
                    again = self._read()
                    if again is None:
                        break
                    if again[1] != self._e_tag:
                        self._refuse(again[0], "writes")
            self._count = holder.renewed
        self._write()

    def _check(self, holder: Holder) -> None:
        if holder.attempt > self._ours.attempt:
            raise TwoWritersError(
                f"{self._objects.url} is at attempt {holder.attempt}, and this directory at {self._ours.attempt}: "
                f"the run was resumed on {holder.host}; resume it there, or by its URL"
            )
        if holder.attempt == self._ours.attempt and holder.place != self._ours.place:
            self._refuse(holder, "has written")

    def _refuse(self, holder: Holder, verb: str) -> None:
        raise TwoWritersError(
            f"two writers: process {holder.pid} on {holder.host} {verb} attempt {holder.attempt} to {self._objects.url}"
        )

    def renew(self) -> None:
        """Renew the lease where that is due.

        Raises:
            TwoWritersError: If another process has taken it.
        """
        if time.monotonic() - self._renewed_at > self._ours.seconds / 3:
            self._write()

    def release(self) -> None:
        """Say that this process has ended."""
        self._write(released=True)

    def _write(self, *, released: bool = False) -> None:
        self._count += 1
        fields = asdict(self._ours) | {"renewed": self._count, "released": released}
        data = json.dumps(fields).encode()
        try:
            self._e_tag = self._objects.replace(LEASE, data, self._e_tag)
        except ConflictError:
            found = self._objects.read(LEASE)
            if found is not None and found[0] == data:  # only the answer was lost
                self._e_tag = found[1]
            elif found is None:
                raise TwoWritersError(f"the lease of {self._objects.url} was removed") from None
            else:
                self._refuse(_decode(found[0]), "writes")
        self._renewed_at = time.monotonic()

    def _read(self) -> tuple[Holder, str] | None:
        found = self._objects.read(LEASE)
        return None if found is None else (_decode(found[0]), found[1])


def _decode(data: bytes) -> Holder:
    try:
        return Holder(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise RunDirError(f"the lease of a mirror is damaged: {error}; remove {LEASE} there") from error
