"""Optuna's storage of a sweep: a journal in its directory, or a database. Imported only where Optuna is needed."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import optuna
from optuna.storages import BaseStorage
from optuna.storages.journal import JournalStorage

from ridgepole.errors import SweepError
from ridgepole.sweeps.journalfile import JournalFile
from ridgepole.sweeps.pruner import make_pruner

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

    from ridgepole.sweeps.spec import SweepSpec
    from ridgepole.sweeps.sweepdir import SweepDir

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that a storage may be locked, or away, before the driver gives up; the sweep can go on later."""
_ONE_TRY = 2
_PAUSE = 0.2
_SYNC_SECONDS = 1.0


class Store:
    """The study of one sweep.

    Args:
        directory: The sweep's directory.
        spec: The sweep.
        writes: Whether this process is the driver; others only read.
        say: Is told when the storage has to be waited for.

    Attributes:
        study: The study; its name is the sweep's id.
        storage: Its storage.
        study_id: What the storage calls it.

    Raises:
        SweepError: If the storage can't be opened, or stays locked.
    """

    def __init__(
        self, directory: SweepDir, spec: SweepSpec, *, writes: bool, say: Callable[[str], None] = lambda _line: None
    ) -> None:
        self._say = say
        self._synced = time.monotonic()
        self._journal: JournalFile | None = None
        self._dispose: Callable[[], None] = lambda: None
        self._where = spec.options.storage or str(directory.journal)
        if spec.options.storage is None:
            try:
                self._journal = JournalFile(directory.journal, writes=writes)
                self.storage: BaseStorage = JournalStorage(self._journal)
            except (OSError, ValueError) as error:
                raise SweepError(f"can't read the sweep's storage {directory.journal}: {error}") from error
        else:
            database = self.patiently(lambda: _database(spec.options.storage or ""))
            self._dispose = database.engine.dispose
            self.storage = optuna.storages.get_storage(database)
        name = directory.id

        def study() -> optuna.Study:
            if not writes:
                return optuna.load_study(study_name=name, storage=self.storage, pruner=make_pruner(spec))
            return optuna.create_study(
                study_name=name,
                storage=self.storage,
                direction=spec.direction,
                pruner=make_pruner(spec),
                load_if_exists=True,
            )

        self.study = self.patiently(study)
        self.study_id = self.patiently(lambda: self.storage.get_study_id_from_name(name))

    def patiently(self, call: Callable[[], T]) -> T:
        """Calls something that needs the storage; while that is locked or away it is tried again, for a while.

        Raises:
            SweepError: If it stays so.
        """
        until = time.monotonic() + PATIENCE
        told = False
        while True:
            try:
                return call()
            except Exception as error:
                if not _is_unavailable(error):
                    raise
                if time.monotonic() >= until:
                    message = f"the sweep's storage {_shown(self._where)} can't be used for {PATIENCE:.0f} s now"
                    raise SweepError(
                        f"{message}: {_reason(error)}; free it, and go on with ridgepole sweep resume"
                    ) from error
                if not told:
                    told = True
                    self._say(
                        f"the sweep's storage {_shown(self._where)} is locked or away ({_reason(error)}); "
                        f"waiting up to {PATIENCE:.0f} s"
                    )
            time.sleep(_PAUSE)

    def sync(self, *, now: bool = False) -> None:
        """Brings a journal to the disk, where a second has passed since that was done last.

        Any death of the process loses nothing. A loss of power may take what was recorded within the last second, and
        those trials run again.
        """
        if self._journal is not None and (now or time.monotonic() - self._synced >= _SYNC_SECONDS):
            self._journal.sync()
            self._synced = time.monotonic()

    def close(self) -> None:
        """Closes it."""
        if self._journal is not None:
            self.sync(now=True)
            self._journal.close()
        self.storage.remove_session()
        self._dispose()


def _database(url: str) -> RDBStorage:
    from optuna.storages import RDBStorage

    # SQLite's own patience is inside each try; ours is around all of them, and can say something.
    arguments = {"connect_args": {"timeout": _ONE_TRY}} if url.startswith("sqlite") else {}
    try:
        return RDBStorage(_with_driver(url), engine_kwargs=arguments)
    except Exception as error:
        if _is_unavailable(error):
            raise
        hint = "; install it, such as psycopg for PostgreSQL" if isinstance(error, ImportError) else ""
        raise SweepError(f"can't open the sweep's storage {_shown(url)}: {_reason(error)}{hint}") from error


def _with_driver(url: str) -> str:
    """A PostgreSQL URL that names no driver means the one that is installed; SQLAlchemy would insist on the old one."""
    scheme, sep, rest = url.partition("://")
    old, new = (importlib.util.find_spec(name) is not None for name in ("psycopg2", "psycopg"))
    return f"postgresql+psycopg{sep}{rest}" if scheme == "postgresql" and new and not old else url


def _is_unavailable(error: BaseException) -> bool:
    """Whether it is the storage that can't be used now: SQLAlchemy's OperationalError, however it is wrapped."""
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


def _shown(where: str) -> str:
    """A URL without its password, wherever that stands in it."""
    where = re.sub(r"(?i)([?&](?:ssl)?(?:password|passwd|pwd)=)[^&]*", r"\1***", where)
    scheme, sep, rest = where.partition("://")
    account, at, host = rest.rpartition("@")
    if not (sep and at and ":" in account):
        return where
    return f"{scheme}://{account.partition(':')[0]}:***@{host}"
