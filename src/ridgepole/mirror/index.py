"""The index of a mirrored run: the only object that says which others count."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ridgepole.errors import RunDirError

FORMAT = 1
_SHA = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a file, stored as an object of its own.

    Attributes:
        key: The object, below the run's prefix.
        size: Its bytes.
        sha256: Their hash.
    """

    key: str
    size: int
    sha256: str


@dataclass(slots=True)
class Index:
    """The files of a mirrored run, each with its parts in their order.

    Attributes:
        attempt: The attempt that wrote it.
        writer: The process that wrote it.
        version: Counts the versions.
        files: The parts by the file's path in the run directory.
    """

    attempt: int
    writer: str
    version: int = 0
    files: dict[str, tuple[Part, ...]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the object's bytes."""
        return json.dumps({"format": FORMAT, **asdict(self)}).encode()

    @classmethod
    def decode(cls, data: bytes, url: str) -> Index:
        """Read an index.

        Raises:
            RunDirError: If it is damaged, or a newer Ridgepole wrote it.
        """
        try:
            fields: Any = json.loads(data)
            if int(fields["format"]) > FORMAT:
                raise RunDirError(f"{url} was written by a newer Ridgepole: upgrade")
            files = {str(name): tuple(Part(**part) for part in parts) for name, parts in fields["files"].items()}
            wrong = [
                name
                for name, parts in files.items()
                if not _is_inside(name) or not all(_is_inside(p.key) and _SHA.fullmatch(p.sha256) for p in parts)
            ]
            if wrong:
                raise ValueError(f"a file called {wrong[0]!r}")
            return cls(int(fields["attempt"]), str(fields["writer"]), int(fields["version"]), files)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunDirError(f"the index of {url} is damaged: {error}") from error


def _is_inside(name: str) -> bool:
    """Return whether a path stays in the run directory."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name
