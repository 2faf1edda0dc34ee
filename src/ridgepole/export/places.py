"""Where an export goes: a directory of its own that is never written to twice."""

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
"""Where exports go inside a run directory."""

MANIFEST = "export.json"
"""Says in each export's directory what it is, and whether it is whole."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and where.

    Attributes:
        to: The target, such as `"csv"`.
        path: The export's directory.
        records: How many records of metrics went there; for a table, how many values.
        media: How many figures, tables, texts and the like went there.
        skipped: What could not be taken along, one sentence each.
        bad: How many unreadable or torn lines of the local record were passed over.
        hidden: How many records or values of abandoned segments were left out.
        url: Where it can be seen, if it went to a server.
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
    """Takes a directory for one export; where that fails, everything that it wrote is removed again.

    Args:
        path: The directory; missing or empty.
        facts: What stands in the manifest.

    Yields:
        Further facts, to be filled in; they are in the manifest once the export is whole.

    Raises:
        RunDirError: If the directory can't be made, or holds something.
    """
    manifest = path / MANIFEST
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise RunDirError(_refusal(path))
        with manifest.open("x", encoding="utf-8") as file:  # of two at once, one gets it
            json.dump(facts | {"complete": False}, file)
    except FileExistsError as error:
        raise RunDirError(_refusal(path)) from error
    except RunDirError:
        raise
    except OSError as error:
        raise RunDirError(
            f"can't export to {path}: {error.strerror or error}; name another place with --out"
        ) from error
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
        return f"can't export to {path}: it is a file; name another place with --out"
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        what = "a finished" if manifest["complete"] else "an unfinished"
        found = f"{what} export of {manifest['run']} to {manifest['to']}"
    except (OSError, ValueError, TypeError, KeyError):
        found = "something else"
    return f"{path} holds {found} already; remove it, or name another place with --out"


def _remove(path: Path, *, whole: bool) -> None:
    """Removes what a failed export wrote; a directory that was there before stays, as empty as it was."""
    for child in path.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                child.unlink()
    if whole:
        with contextlib.suppress(OSError):
            path.rmdir()
