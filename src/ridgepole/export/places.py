"""The directory of an export: empty at first, and written only once."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole.errors import RunDirError
from ridgepole.files import write_atomically

FOLDER = "export"
"""The directory of exports inside a run directory."""

MANIFEST = "export.json"
"""The file in each export's directory that describes it, and whether it is complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The result of an export.

    Attributes:
        to: The target, such as `"csv"`.
        path: The export's directory.
        records: Number of exported records of metrics; for a table, the number of values.
        media: Number of exported figures, tables, texts and other media.
        skipped: A sentence for each item that could not be exported.
        bad: Number of unreadable or torn lines of the local record, which were skipped.
        hidden: Number of records or values of abandoned segments, which were left out.
        url: The address of the export on a server, if it has one.
    """

    to: str
    path: Path
    records: int
    media: int = 0
    skipped: tuple[str, ...] = ()
    bad: int = 0
    hidden: int = 0
    url: str | None = None


@contextlib.contextmanager
def claimed(path: Path, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Claim a missing or empty directory for one export, and remove all that a failed export wrote.

    Args:
        path: The directory.
        facts: The content of the manifest.

    Yields:
        An empty mapping for further facts of the complete export.

    Raises:
        RunDirError: If the directory can't be made, or is not empty.
    """
    manifest = path / MANIFEST
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise RunDirError(_refusal(path))
        with manifest.open("x", encoding="utf-8") as file:  # of two concurrent exports, one gets it
            json.dump(facts | {"complete": False}, file)
    except FileExistsError as error:
        raise RunDirError(_refusal(path)) from error
    except RunDirError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise RunDirError(f"can't export to {path}: {reason}; name another place with --output") from error
    found: dict[str, Any] = {}
    try:
        yield found
        text = json.dumps(facts | found | {"complete": True, "time": time.time()}, indent=2, ensure_ascii=False)
        write_atomically(manifest, text.encode() + b"\n")
    except BaseException:
        _remove(path, whole=made)
        raise


def _refusal(path: Path) -> str:
    if not path.is_dir():
        return f"can't export to {path}: it is a file; name another place with --output"
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        what = "a finished" if manifest["complete"] else "an unfinished"
        found = f"{what} export of {manifest['run']} to {manifest['to']}"
    except (OSError, ValueError, TypeError, KeyError):
        found = "something else"
    return f"{path} holds {found} already; remove it, or name another place with --output"


def _remove(path: Path, *, whole: bool) -> None:
    """Remove what a failed export wrote; `whole` removes the directory, too."""
    for child in path.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                child.unlink()
    if whole:
        with contextlib.suppress(OSError):
            path.rmdir()
