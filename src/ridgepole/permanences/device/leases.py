"""Leases against simultaneous starts: who has taken which card, before its memory shows it.

A lease is a `flock` on a slot file, so the kernel gives it back on any death of its holder. The slot's name is
`<uuid>.<uid>.<n>`: each user locks their own files, and anybody may try the lock of anybody's. Nothing is ever
unlinked, for a file that is unlinked while another process opens it would give two of them "the same" lock. Held on a
bare descriptor that no finaliser closes: `Device().device` must keep its card although the `Device` is gone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole.permanences.device import flocks
from ridgepole.permanences.device.host import printable

log = logging.getLogger("ridgepole.device")

VARIABLE = "RIDGEPOLE_LEASE_DIR"
LOCK_TIMEOUT_S = 10.0
_LOCK = "choose.lock"
_SLOTS = 4096
_LARGEST = 4096


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, as its slot file says.

    Attributes:
        pid: The holder's process, 0 where the file doesn't tell.
        user: That process's user.
        start: When the lease was taken, in ISO 8601 with UTC offset.
        min_free: The bytes of memory asked for, or None.
        exclusive: Whether the card is shared with nobody.
        run: The id of the run that it was taken for; empty in a plain script.
    """

    pid: int = 0
    user: str = ""
    start: str = ""
    min_free: int | None = None
    exclusive: bool = False
    run: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The holder as plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    def describe(self, own_pid: int) -> str:
        """The holder in a few words."""
        who = "this process" if self.pid == own_pid else f"pid {self.pid}" if self.pid else "an unknown process"
        run = f", run {self.run}" if self.run else ""
        user = f" ({self.user}{run})" if self.user and self.pid != own_pid else ""
        return f"{who}{user}{', exclusively' if self.exclusive else ''}"


@functools.cache
def _descriptors() -> set[int]:
    """The lease descriptors of this process; a forked child closes its copies, which would outlive the holder."""
    held: set[int] = set()

    def forget() -> None:
        for descriptor in held:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        held.clear()

    os.register_at_fork(after_in_child=forget)
    return held


class Lease:
    """A lease that this process holds. A copy of it, in a forked child or unpickled elsewhere, holds nothing.

    Args:
        path: The slot file.
        descriptor: The open descriptor that holds the lock, or -1 for none.
    """

    __slots__ = ("_descriptor", "_pid", "_registry", "_serial", "path")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._pid = os.getpid()
        self._serial = flocks.identity(os.fstat(descriptor)) if descriptor >= 0 else (0, 0)
        self._registry = _descriptors()
        if descriptor >= 0:
            self._registry.add(descriptor)

    def __reduce__(self) -> tuple[type[Lease], tuple[Path, int]]:
        return (Lease, (self.path, -1))

    @property
    def held(self) -> bool:
        """Whether this process still holds it and others can see it."""
        if not self._mine():
            return False
        try:
            return flocks.identity(self.path.stat()) == self._serial
        except OSError:
            return False  # somebody has removed the file: the lock is kept, but nobody can see it

    @property
    def foreign(self) -> bool:
        """Whether it is not this process's to hold: given back, or a copy in a forked child or unpickled elsewhere."""
        return self._descriptor < 0 or self._pid != os.getpid()

    def release(self) -> None:
        """Gives the lease back; a second call, or one in a forked child, does nothing."""
        if self.foreign:
            return
        mine = self._mine()
        descriptor, self._descriptor = self._descriptor, -1
        self._registry.discard(descriptor)
        if mine:
            flocks.unlock(descriptor)

    def _mine(self) -> bool:
        if self.foreign:
            return False
        try:
            # Whoever closed all descriptors of the process (a daemon does) may have opened another file since.
            return flocks.identity(os.fstat(self._descriptor)) == self._serial
        except OSError:
            return False


class Board:
    """The directory in which the leases of a machine are kept.

    Args:
        directory: By default `$RIDGEPOLE_LEASE_DIR`, else `/tmp/ridgepole-leases`: the same for every user and job of
            the machine, whatever their `TMPDIR` is.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or default_directory()

    def holders(self, key: str) -> tuple[Holder, ...]:
        """The leases on a card, in the order of their slots. Never raises: what can't be read is not counted."""
        return self.holders_of([key])[key]

    def holders_of(self, keys: Iterable[str]) -> dict[str, tuple[Holder, ...]]:
        """The same for several cards."""
        try:
            names = sorted(os.listdir(self.directory))  # noqa: PTH208 - names
        except OSError:
            names = []
        return {
            key: tuple(
                holder
                for name in names
                if name.startswith(f"{_safe(key)}.") and (holder := self._probe(self.directory / name)) is not None
            )
            for key in keys
        }

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held while cards are read and one is chosen. Where it can't be had, warns and goes on without it."""
        descriptor = -1
        try:
            self._make_directory()
            descriptor = flocks.open_made(self.directory / _LOCK)
            if not flocks.lock_within(descriptor, LOCK_TIMEOUT_S):
                log.warning(
                    "another process has held %s for %g s: choosing a device without it",
                    self.directory / _LOCK,
                    LOCK_TIMEOUT_S,
                )
        except (OSError, ImportError) as error:
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
            if descriptor >= 0:
                flocks.unlock(descriptor)

    def take(self, key: str, holder: Holder) -> Lease | None:
        """Takes a lease; to be called under `lock`.

        Args:
            key: The card's key.
            holder: What the slot file is to say.

        Returns:
            The lease, or None where the directory can't be written (`lock` has warned).
        """
        try:
            import fcntl

            for number in range(_SLOTS):
                path = self.directory / f"{_safe(key)}.{_uid()}.{number}"
                descriptor = flocks.open_made(path, os.O_RDWR)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if flocks.identity(os.fstat(descriptor)) != flocks.identity(path.stat()):
                        raise BlockingIOError  # removed by somebody meanwhile: the next one
                    # Spaces over what an earlier holder wrote: cutting the file costs a journaling disk more.
                    length = min(os.fstat(descriptor).st_size, _LARGEST)
                    os.pwrite(descriptor, json.dumps(holder.as_dict()).encode().ljust(length), 0)
                    return Lease(path, descriptor)
                except (BlockingIOError, FileNotFoundError):
                    os.close(descriptor)
                except BaseException:
                    os.close(descriptor)
                    raise
        except (OSError, ImportError) as error:
            log.warning("no device lease on %s: %s", key, error)
        return None

    def _make_directory(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.directory.mkdir(parents=True)
            # Open to every user, sticky as /tmp is; mkdir's own mode is cut by the umask.
            self.directory.chmod(0o1777)
        if not stat.S_ISDIR(self.directory.lstat().st_mode):
            raise NotADirectoryError(f"{self.directory} is not a directory")

    @staticmethod
    def _probe(path: Path) -> Holder | None:
        """Who holds a slot, or None where it is free."""
        try:
            import fcntl

            descriptor = os.open(path, os.O_RDONLY | flocks.NO_FOLLOW)
        except (OSError, ImportError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            try:
                # A shared lock: two that look at the same moment don't take each other for the holder.
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read_holder(os.pread(descriptor, _LARGEST, 0))
            return None
        except OSError:
            return None
        finally:
            os.close(descriptor)


def default_directory() -> Path:
    """Where leases are kept unless a directory is named."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    import tempfile

    # Not tempfile's directory: a batch system gives each job its own TMPDIR, and jobs must see each other.
    shared = Path("/tmp") if os.name == "posix" else Path(tempfile.gettempdir())  # noqa: S108 - sticky, per-user files
    return shared / "ridgepole-leases"


def _safe(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "_", key)


def _uid() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _read_holder(text: bytes) -> Holder:
    """What a slot file says; anybody may have written it, so nothing in it is trusted to be there or of its type."""
    try:
        fields = json.loads(text)
        pid, min_free = fields["pid"], fields["min_free"]
        return Holder(
            pid=pid if isinstance(pid, int) else 0,
            user=printable(str(fields["user"])[:64]),
            start=printable(str(fields["start"])[:40]),
            min_free=min_free if isinstance(min_free, int) else None,
            exclusive=fields["exclusive"] is True,
            run=printable(str(fields["run"])[:128]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return Holder()
