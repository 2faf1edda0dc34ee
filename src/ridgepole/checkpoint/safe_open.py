"""Open the files of a checkpoint: new ones for the disk, existing ones without following links."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ridgepole.checkpoint.hashing import CHUNK, Digest, FileSink
from ridgepole.checkpoint.manifest import MAX_MANIFEST, DamagedError, FileRecord
from ridgepole.errors import CheckpointError

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.EISDIR, errno.EMLINK, errno.EUCLEAN}
"""The system's codes for a file that is missing, a link, in the wrong form, or on a broken disk."""


@contextmanager
def system_errors(path: Path, what: str) -> Iterator[None]:
    """Raise the system's errors as a `CheckpointError` that says what did not work."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        reason = f"{what}: {error.strerror or error}; the checkpoints before it are untouched"
        raise CheckpointError(error.errno, reason, str(path)) from error


def write_new(path: Path, fill: Callable[[FileSink], None]) -> FileRecord:
    """Write a file that must not exist yet, and force it to the disk.

    Args:
        path: The file.
        fill: Writes the content.

    Returns:
        Size and hash of what was written.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with Digest() as digest:
            sink = FileSink(fd, digest)
            fill(sink)
            sink.close()
            return FileRecord(sink.size, digest.hexdigest())
    finally:
        os.close(fd)


@contextmanager
def opened(directory: Path, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file in that very directory; yield it and its size in bytes.

    Raises:
        DamagedError: It is missing, not a regular file, or on a broken disk.
        OSError: The system refuses at the moment, as without a right or a free descriptor.
    """
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # O_NONBLOCK: opening a pipe would wait for its writer
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
        finally:
            os.close(folder)
        with os.fdopen(fd, "rb", buffering=1 << 16) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DamagedError(f"{name} is not a regular file")
            yield file, status.st_size
    except OSError as error:
        if error.errno not in _GONE:
            raise
        reason = "is missing" if error.errno == errno.ENOENT else f"can't be read ({error.strerror})"
        raise DamagedError(f"{name} {reason}") from error


def read_small(directory: Path, name: str) -> bytes:
    """Read a file that has no record, such as a manifest.

    Raises:
        DamagedError: As `opened`, and if it is longer than any manifest.
    """
    with opened(directory, name) as (file, size):
        if size > MAX_MANIFEST:
            raise DamagedError(f"{name} is {size} bytes long")
        return file.read(MAX_MANIFEST)


def read_recorded(directory: Path, name: str, record: FileRecord) -> bytes:
    """Read a file; raise `DamagedError` unless it is what its record says."""
    with opened(directory, name) as (file, size), Digest() as digest:
        check_size(name, size, record)
        data = file.read(size)
        digest.update(memoryview(data))
        check_hash(name, digest, record)
        return data


def check_recorded(directory: Path, name: str, record: FileRecord) -> None:
    """Read a file through; raise `DamagedError` unless it is what its record says."""
    with opened(directory, name) as (file, size), Digest() as digest:
        check_size(name, size, record)
        while data := file.read(CHUNK):
            digest.update(memoryview(data))
        check_hash(name, digest, record)


def check_size(name: str, size: int, record: FileRecord) -> None:
    """Raise `DamagedError` where a file's length is not the recorded one, before it is read."""
    if size != record.size:
        raise DamagedError(f"{name} has {size} bytes instead of {record.size}")


def check_hash(name: str, digest: Digest, record: FileRecord) -> None:
    """Raise `DamagedError` where the hash of what was read is not the recorded one."""
    if digest.hexdigest() != record.sha256:
        raise DamagedError(f"{name} is damaged: its SHA-256 is not the one of what was written")
