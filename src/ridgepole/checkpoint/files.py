"""Files of a checkpoint: new ones, forced to the disk, and existing ones, read without being led astray."""

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

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.EISDIR, errno.EMLINK, errno.EUCLEAN}
"""What the system says of a file that is missing, a link, in the wrong form, or on a broken disk."""


def write_new(path: Path, fill: Callable[[FileSink], None]) -> FileRecord:
    """Writes a file that must not exist yet, and forces it to the disk.

    Args:
        path: Where.
        fill: Writes the content.

    Returns:
        Size and hash of what was written.

    Raises:
        OSError: If the system refuses.
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
    """Opens a file of a checkpoint: a regular one in that very directory, no link and no pipe.

    Yields:
        The file and its size in bytes.

    Raises:
        DamagedError: If it is missing, no regular file, or on a broken disk.
        OSError: If the system can't at the moment, as without a right or with no descriptors left.
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
                raise DamagedError(f"{name} is no regular file")
            yield file, status.st_size
    except OSError as error:
        if error.errno not in _GONE:
            raise
        reason = "is missing" if error.errno == errno.ENOENT else f"can't be read ({error.strerror})"
        raise DamagedError(f"{name} {reason}") from error


def read_small(directory: Path, name: str) -> bytes:
    """All of a file that has no record, such as a manifest.

    Raises:
        DamagedError: As `opened`, and if it is longer than any manifest.
    """
    with opened(directory, name) as (file, size):
        if size > MAX_MANIFEST:
            raise DamagedError(f"{name} is {size} bytes long")
        return file.read(MAX_MANIFEST)


def read_recorded(directory: Path, name: str, record: FileRecord) -> bytes:
    """All of a file, which must be what its record says.

    Raises:
        DamagedError: If it isn't.
    """
    with opened(directory, name) as (file, size), Digest() as digest:
        check_size(name, size, record)
        data = file.read(size)
        digest.update(memoryview(data))
        check_hash(name, digest, record)
        return data


def check_recorded(directory: Path, name: str, record: FileRecord) -> None:
    """Reads a file through to see whether it is what its record says; `DamagedError` if it isn't."""
    with opened(directory, name) as (file, size), Digest() as digest:
        check_size(name, size, record)
        while data := file.read(CHUNK):
            digest.update(memoryview(data))
        check_hash(name, digest, record)


def check_size(name: str, size: int, record: FileRecord) -> None:
    """Compares lengths before anything is read; `DamagedError` if they differ."""
    if size != record.size:
        raise DamagedError(f"{name} has {size} bytes instead of {record.size}")


def check_hash(name: str, digest: Digest, record: FileRecord) -> None:
    """Compares what was read with what was written; `DamagedError` if it differs."""
    if digest.hexdigest() != record.sha256:
        raise DamagedError(f"{name} is damaged: its SHA-256 is not the one of what was written")
