"""An object store by its URL; the only module that knows obstore."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ridgepole.errors import RidgepoleError, RunDirError
from ridgepole.files import Flock
from ridgepole.mirror.settings import checked_url

_CHUNK = 8 << 20
_CLIENT = {"timeout": "30s", "connect_timeout": "5s"}
_ALLOW_HTTP = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_STATUS = re.compile(r"status code: (\d{3}) ([A-Za-z -]+)")
_FAULT = re.compile(r"<Code>(\w+)</Code>(?:\s*<Message>(.*?)</Message>)?", re.DOTALL)
"""The body of an error of S3 and of Azure Blob Storage; both document these two elements."""
_PASSING = frozenset({"408", "409", "412", "425", "429"})
"""Answers of the 400s that a later try may not get."""
_RETRIES = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}


class ConflictError(RidgepoleError):
    """Another process has written an object since it was read."""


class RefusedError(RunDirError):
    """The store refuses what a mirror needs: the rights, the bucket."""


class UnreachableError(RunDirError):
    """The store does not answer, or can't store now; a later try may succeed."""


class Objects:
    """The objects below a URL.

    Args:
        url: The URL; for a directory it is made where it is missing.
        write: Whether to make a directory.

    Raises:
        RunDirError: If there can't be a store.
    """

    def __init__(self, url: str, *, write: bool = False) -> None:
        from obstore.store import LocalStore, from_url

        self.url = checked_url(url)
        parts = urlsplit(self.url)
        self._directory: Path | None = None
        try:
            if parts.scheme == "file":
                self._directory = Path(unquote(parts.path))
                if not write and not self._directory.is_dir():
                    raise RefusedError(f"{url} does not exist")
                self._store: Any = LocalStore(self._directory, mkdir=True)
            else:
                retries: Any = _RETRIES
                # Options of ours hide those that the client reads from the environment
                plain = any(os.environ.get(name, "").lower() in ("1", "true") for name in _ALLOW_HTTP)
                options: Any = _CLIENT | ({"allow_http": True} if plain else {})
                self._store = from_url(self.url, client_options=options, retry_config=retries)
        except RidgepoleError:
            raise
        except Exception as error:  # each scheme has errors of its own
            raise RefusedError(f"{url} can't be used: {_first_line(error)}") from error

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return an object and its e_tag; None where it does not exist."""
        import obstore

        try:
            with self._errors(key):
                answer = obstore.get(self._store, key)
                return bytes(answer.bytes()), str(answer.meta["e_tag"])
        except FileNotFoundError:
            return None

    def size(self, key: str) -> int:
        """Return the bytes of an object; -1 where it does not exist."""
        import obstore

        try:
            with self._errors(key):
                return int(obstore.head(self._store, key)["size"])
        except FileNotFoundError:
            return -1

    def chunks(self, key: str) -> Iterator[bytes]:
        """Yield an object in pieces."""
        import obstore

        try:
            with self._errors(key):
                for piece in obstore.get(self._store, key).stream(min_chunk_size=1 << 20):
                    yield bytes(piece)
        except FileNotFoundError:
            raise RunDirError(f"{self.url}/{key} is missing, although the index names it") from None

    def write(self, key: str, data: bytes | Path) -> None:
        """Store an object; a file goes in pieces, so that memory stays bounded."""
        import obstore

        with self._errors(key):
            obstore.put(self._store, key, data, chunk_size=_CHUNK, max_concurrency=2)

    def replace(self, key: str, data: bytes, e_tag: str | None) -> str:
        """Store an object if it is still the one that was read, and return its e_tag.

        Args:
            key: The object.
            data: Its bytes.
            e_tag: Of the one that was read; None where there was none.

        Raises:
            ConflictError: If another process was faster.
        """
        import obstore

        if self._directory is not None:
            return self._replace_locally(self._directory, key, data, e_tag)
        mode: Any = "create" if e_tag is None else {"e_tag": e_tag}
        with self._errors(key):
            return str(obstore.put(self._store, key, data, mode=mode, use_multipart=False)["e_tag"])

    def _replace_locally(self, directory: Path, key: str, data: bytes, e_tag: str | None) -> str:
        """Do it in a directory, whose client has no condition on an e_tag."""
        import obstore

        target = directory / key
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = Flock(target.with_name(f".{target.name}.lock"))
            held = lock.take(patience=10.0)
        except OSError as error:
            kind = RefusedError if isinstance(error, PermissionError) else UnreachableError
            raise kind(f"{self.url}/{key} can't be written: {error.strerror or error}") from error
        if not held:
            raise UnreachableError(f"{self.url}/{key} is locked by another process")
        try:
            found = self.read(key)
            if (None if found is None else found[1]) != e_tag:
                raise ConflictError(key)
            with self._errors(key):
                return str(obstore.put(self._store, key, data, use_multipart=False)["e_tag"])
        finally:
            lock.release()

    def delete(self, keys: list[str]) -> None:
        """Delete objects that no index names any more."""
        import obstore

        for key in keys:
            with contextlib.suppress(FileNotFoundError), self._errors(key):
                obstore.delete(self._store, key)

    def folders(self) -> list[str]:
        """Return the names right below the URL that others follow, in their order."""
        import obstore

        with self._errors(""):
            found = obstore.list_with_delimiter(self._store)["common_prefixes"]
        return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found)

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from obstore import exceptions as faults

        where = f"{self.url}/{key}".rstrip("/")
        try:
            yield
        except FileNotFoundError as error:
            if any(word in str(error) for word in _NO_BUCKET):
                raise RefusedError(f"{where}: the bucket does not exist") from error
            raise
        except (faults.AlreadyExistsError, faults.PreconditionError) as error:
            raise ConflictError(key) from error
        except (faults.PermissionDeniedError, faults.UnauthenticatedError) as error:
            raise RefusedError(f"{where}: {_describe(error)}") from error
        except (faults.BaseError, OSError) as error:
            status = _STATUS.search(str(error))
            refused = status is not None and status[1].startswith("4") and status[1] not in _PASSING
            if refused or "Permission denied" in str(error):
                raise RefusedError(f"{where}: {_describe(error)}") from error
            raise UnreachableError(f"{where}: {_describe(error)}") from error


def _describe(error: BaseException) -> str:
    """Return what the store answered; where it did not, the first line of the client's error."""
    text = str(error)
    status = _STATUS.search(text)
    if status is None:
        return _first_line(error)
    said = f"the store answered {status[1]} {status[2].strip()}"
    fault = _FAULT.search(text)
    if fault is None:
        return said
    message = " ".join((fault[2] or "").split())
    return f"{said}, {fault[1]}" + (f": {message[:200]}" if message else "")


def _first_line(error: BaseException) -> str:
    """Return the text of an error without the dump that the client adds."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
