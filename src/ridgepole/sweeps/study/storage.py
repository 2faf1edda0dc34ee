"""Optuna's storage of a sweep: a journal file, or a database. Imported with Optuna."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalStorage
from optuna.trial import FrozenTrial

from ridgepole.errors import SweepError
from ridgepole.sweeps.spec.spec import SweepSpec
from ridgepole.sweeps.sweepdir import SweepDir

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that a storage may be locked or unreachable before the sweep stops."""
_ONE_TRY = 2
_PAUSE = 0.2
_SYNC_SECONDS = 1.0


class JournalFile(BaseJournalBackend):
    """The journal of one study in one file, for one driver, which holds the sweep's `driver.lock`.

    Others may append to it with Optuna's own backend, such as `study.enqueue_trial`; the driver
    reads that in the order of the file.

    The format is that of Optuna's own `JournalFileBackend`, which can read the file. That backend
    locks, syncs and reads the file back at each of some ten operations a trial, refuses a file
    whose last line a kill has cut, and waits half a minute for the lock of a writer that was
    killed.

    Args:
        path: The file. The writer makes a missing one.
        writes: Whether this process is the driver. Others only read, and see the file as it was
            when they opened it.

    Attributes:
        foreign: The number of operations that others have appended since the driver opened it.
    """

    def __init__(self, path: Path, *, writes: bool) -> None:
        self._unread: list[tuple[int, bytes]] = []
        self._count = self._offset = 0
        self.foreign = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND if writes else os.O_RDONLY
        self._fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
        with os.fdopen(os.dup(self._fd), "rb") as file:
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if writes and len(whole) < len(content):  # cut by a kill: that operation was never done
            os.ftruncate(self._fd, len(whole))
        self._remember(whole.splitlines())
        self._offset = len(whole)
        if not writes:
            self.close()

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Return the operations from a number on, and forget those before it."""
        self.catch_up()
        self._unread = [each for each in self._unread if each[0] >= log_number_from]
        return [json.loads(line) for _, line in self._unread]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Hand operations to the operating system: they survive any death of this process.

        Raises:
            OSError: If that fails; the journal holds none of them then.
        """
        lines = [json.dumps(log, separators=(",", ":")).encode() for log in logs]
        written = data = b"".join(line + b"\n" for line in lines)
        end = os.lseek(self._fd, 0, os.SEEK_END)
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except BaseException:
            os.ftruncate(self._fd, end)
            raise
        if os.fstat(self._fd).st_size == self._offset + len(written):
            self._remember(lines)
            self._offset += len(written)
        else:
            self.foreign -= len(lines)  # the driver's own are among what is read
            self.catch_up()

    def catch_up(self) -> None:
        """Read what others have appended."""
        if self._fd < 0 or (size := os.fstat(self._fd).st_size) == self._offset:
            return
        data = os.pread(self._fd, size - self._offset, self._offset)
        whole = data[: data.rfind(b"\n") + 1]  # another one may be writing just now
        lines = whole.splitlines()
        self._remember(lines)
        self._offset += len(whole)
        self.foreign += len(lines)

    def sync(self) -> None:
        """Bring everything to the disk."""
        if self._fd >= 0:
            os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _remember(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self._unread.append((self._count, line))
            self._count += 1


class StudyStorage:
    """The study of one sweep and its storage.

    Args:
        directory: The sweep's directory.
        spec: The sweep.
        writes: Whether this process is the driver; others only read.
        say: Is told when the driver waits for the storage.

    Attributes:
        study: The study; its name is the sweep's id.
        storage: Its storage.
        study_id: The storage's number of the study.
        metrics: The metrics that it optimises.

    Raises:
        SweepError: If the storage can't be opened, or stays locked.
    """

    def __init__(
        self, directory: SweepDir, spec: SweepSpec, *, writes: bool, say: Callable[[str], None] = lambda _line: None
    ) -> None:
        self._say = say
        self.metrics = spec.objectives
        self._synced = time.monotonic()
        self._journal: JournalFile | None = None
        self._database: RDBStorage | None = None
        self._foreign = 0
        url, name = spec.options.storage, directory.id
        self._shown_url = _without_password(url or str(directory.journal))
        self.storage: BaseStorage
        if url is None:
            try:
                self._journal = JournalFile(directory.journal, writes=writes)
                self.storage = JournalStorage(self._journal)
            except (OSError, ValueError) as error:
                raise SweepError(f"can't read the sweep's storage {directory.journal}: {error}") from error
        else:
            self._database = self.with_retry(lambda: _open_database(url))
            self.storage = optuna.storages.get_storage(self._database)

        def open_study() -> optuna.Study:
            if not writes:
                return optuna.load_study(study_name=name, storage=self.storage)
            metrics = spec.objectives
            study = optuna.create_study(
                study_name=name,
                storage=self.storage,
                directions=[metric.goal for metric in metrics] or ["minimize"],
                load_if_exists=True,
            )
            names = [metric.name for metric in metrics]
            if names and study.metric_names != names:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    study.set_metric_names(names)
            return study

        self.study = self.with_retry(open_study)
        self.study_id = self.with_retry(lambda: self.storage.get_study_id_from_name(name))

    def with_retry(self, call: Callable[[], T]) -> T:
        """Call a function; repeat it for a while if the storage is locked or unreachable.

        Raises:
            SweepError: If the storage stays so.
        """
        until = time.monotonic() + PATIENCE
        reported = False
        while True:
            try:
                return call()
            except Exception as error:
                if not _is_unavailable(error):
                    raise
                reason, where = _reason(error), f"the sweep's storage {self._shown_url}"
                if time.monotonic() >= until:
                    advice = "unlock or start it, then continue with ridgepole sweep resume"
                    raise SweepError(f"{where} can't be used for {PATIENCE:.0f} s now: {reason}; {advice}") from error
                if not reported:
                    reported = True
                    self._say(f"{where} is locked or unreachable ({reason}); waiting up to {PATIENCE:.0f} s")
            time.sleep(_PAUSE)

    def get_trials(self) -> list[FrozenTrial]:
        """Return all trials, not to be changed."""
        return self.with_retry(lambda: self.study.get_trials(deepcopy=False))

    def changed_from_outside(self, known: int) -> bool:
        """Return whether the storage may have more trials than the driver knows.

        Args:
            known: The number of trials that the driver knows.
        """
        if self._journal is None:
            return len(self.get_trials()) != known
        self._journal.catch_up()
        before, self._foreign = self._foreign, self._journal.foreign
        return before != self._foreign

    def sync(self, *, now: bool = False) -> None:
        """Bring a journal to the disk, at most once a second unless `now`.

        Any death of the process loses nothing. A loss of power may take the records of the last
        second, and those trials run again.
        """
        if self._journal is not None and (now or time.monotonic() - self._synced >= _SYNC_SECONDS):
            self._journal.sync()
            self._synced = time.monotonic()

    def close(self) -> None:
        """Close the storage."""
        self.sync(now=True)
        if self._journal is not None:
            self._journal.close()
        self.storage.remove_session()
        if self._database is not None:
            self._database.engine.dispose()


def _open_database(url: str) -> RDBStorage:
    # SQLite waits within each try; with_retry waits around all of them, and reports it.
    arguments = {"connect_args": {"timeout": _ONE_TRY}} if url.startswith("sqlite") else {}
    try:
        return RDBStorage(_with_driver(url), engine_kwargs=arguments)
    except Exception as error:
        if _is_unavailable(error):
            raise
        hint = "; install it, such as psycopg for PostgreSQL" if isinstance(error, ImportError) else ""
        message = f"can't open the sweep's storage {_without_password(url)}: {_reason(error)}{hint}"
        raise SweepError(message) from error


def _with_driver(url: str) -> str:
    """Return a URL that names the installed PostgreSQL driver, not SQLAlchemy's old default."""
    scheme, sep, rest = url.partition("://")
    old, new = (importlib.util.find_spec(name) is not None for name in ("psycopg2", "psycopg"))
    return f"postgresql+psycopg{sep}{rest}" if scheme == "postgresql" and new and not old else url


def _is_unavailable(error: BaseException) -> bool:
    """Return whether an error wraps SQLAlchemy's OperationalError: locked or unreachable."""
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__name__ in ("OperationalError", "InterfaceError"):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0]


def _without_password(url: str) -> str:
    """Return a URL with its password masked, in the account and in the query."""
    url = re.sub(r"(?i)([?&](?:ssl)?(?:password|passwd|pwd)=)[^&]*", r"\1***", url)
    scheme, sep, rest = url.partition("://")
    account, at, host = rest.rpartition("@")
    if not (sep and at and ":" in account):
        return url
    return f"{scheme}://{account.partition(':')[0]}:***@{host}"
