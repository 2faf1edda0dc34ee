"""Leases against simultaneous starts: they show who has taken a card before its memory does.

A lease is a `Flock` on a slot file, so the kernel releases it on any death of its holder. The
slot's name is `<uuid>.<uid>.<n>`: each user locks files of their own, and may try the
locks of all others. A lease outlives the object that took it: `Device().device` must keep its card
although the `Device` is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole.devices.host import printable
from ridgepole.files import Flock

log = logging.getLogger("ridgepole.device")

VARIABLE = "RIDGEPOLE_LEASE_DIR"
LOCK_TIMEOUT_S = 10.0
_LOCK = "choose.lock"
_SLOTS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseHolder:
    """The holder of a lease, as its slot file names it.

    Attributes:
        pid: The holder's process; 0 where unknown.
        user: That process's user.
        start: When the lease was taken, in ISO 8601 with UTC offset.
        min_free: The bytes of memory asked for, or None.
        exclusive: Whether no other run may take the card.
        run: The id of the run; empty in a plain script.
    """

    pid: int = 0
    user: str = ""
    start: str = ""
    min_free: int | None = None
    exclusive: bool = False
    run: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the holder as plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    def describe(self, own_pid: int) -> str:
        """Return the holder in a few words."""
        who = "this process" if self.pid == own_pid else f"pid {self.pid}" if self.pid else "an unknown process"
        run = f", run {self.run}" if self.run else ""
        user = f" ({self.user}{run})" if self.user and self.pid != own_pid else ""
        return f"{who}{user}{', exclusively' if self.exclusive else ''}"


class LeaseRegistry:
    """The directory of a machine's leases.

    Args:
        directory: By default `$RIDGEPOLE_LEASE_DIR`, else `/tmp/ridgepole-leases`: the same for
            every user and job of the machine, whatever their `TMPDIR` is.
    """

    def __init__(self, directory: Path | None = None) -> None:
        # Not tempfile's directory: batch systems give each job a TMPDIR, and jobs must see each
        # other.
        self.directory = directory or Path(os.environ.get(VARIABLE) or "/tmp/ridgepole-leases")  # noqa: S108 - sticky

    def holders(self, keys: Iterable[str]) -> dict[str, tuple[LeaseHolder, ...]]:
        """Return the leases on each card in the order of their slots, unreadable ones left out."""
        try:
            names = sorted(os.listdir(self.directory))  # noqa: PTH208 - names
        except OSError:
            names = []
        return {
            key: tuple(
                _read_holder(note)
                for name in names
                if name.startswith(f"{_safe(key)}.") and (note := Flock(self.directory / name).holder()) is not None
            )
            for key in keys
        }

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the directory while a card is chosen; where that is impossible, only warn."""
        lock = Flock(self.directory / _LOCK, public=True)
        try:
            self._make_directory()
            if not lock.take(LOCK_TIMEOUT_S):
                log.warning(
                    "another process has held %s for %g s: choosing a device without the lock",
                    lock.path,
                    LOCK_TIMEOUT_S,
                )
        except OSError as error:
            log.warning(
                "no device lease: %s can't be used (%s); another start at this moment may take the same card; "
                "set %s to a directory that all users can write",
                self.directory,
                error,
                VARIABLE,
            )
        try:
            yield
        finally:
            lock.release()

    def take(self, key: str, holder: LeaseHolder) -> Flock | None:
        """Take a lease on a card; call it inside `lock`.

        Returns:
            The lease, or None where the directory can't be written (`lock` has warned).
        """
        try:
            for number in range(_SLOTS):
                lease = Flock(self.directory / f"{_safe(key)}.{os.getuid()}.{number}", public=True)
                if lease.take(note=holder.as_dict()):
                    return lease
        except OSError as error:
            log.warning("no device lease on %s: %s", key, error)
        return None

    def _make_directory(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.directory.mkdir(parents=True)
            # Open to every user, sticky as /tmp is; mkdir's own mode is cut by the umask.
            self.directory.chmod(0o1777)
        if not stat.S_ISDIR(self.directory.lstat().st_mode):
            raise NotADirectoryError(f"{self.directory} is not a directory")


def _safe(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "_", key)


def _read_holder(note: Mapping[str, Any]) -> LeaseHolder:
    """Read a slot file's content and trust no field of it: any user may have written it."""
    try:
        pid, min_free = note["pid"], note["min_free"]
        return LeaseHolder(
            pid=pid if isinstance(pid, int) else 0,
            user=printable(str(note["user"])[:64]),
            start=printable(str(note["start"])[:40]),
            min_free=min_free if isinstance(min_free, int) else None,
            exclusive=note["exclusive"] is True,
            run=printable(str(note["run"])[:128]),
        )
    except KeyError:
        return LeaseHolder()
