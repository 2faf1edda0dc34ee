"""Which run at W&B a run belongs to, kept in the run directory so that a resume finds it again."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from ridgepole.files import write_atomically
from ridgepole.permanence import RunContext

NAME = "attached.json"


class Attached:
    """The id at W&B, and the directories of the client that the attempts of a run have filled.

    Attributes:
        id: The id at W&B: that of the run's earlier attempts, else that of `WANDB_RUN_ID` (which an agent of a sweep
            sets), else the run id; in a plain script a new one.
        folder: The client's folder in the run directory.
    """

    def __init__(self, folder: Path, run: RunContext | None) -> None:
        self.folder = folder
        self._kept = run is not None  # a plain script starts a new run each time
        fields = self._read() if self._kept else {}
        own = run.run_id if run is not None else secrets.token_hex(4)
        self.id: str = str(fields.get("id") or os.environ.get("WANDB_RUN_ID") or own)
        self._unsent: list[str] = [str(name) for name in fields.get("unsent", [])]

    def _read(self) -> dict[str, Any]:
        try:
            fields = json.loads((self.folder / NAME).read_bytes())
        except (OSError, ValueError):
            return {}
        return fields if isinstance(fields, dict) else {}

    def add(self, directory: Path) -> None:
        """Notes the directory of a new attempt; it counts as not sent until `sent`."""
        self._unsent.append(directory.name)
        self._write()

    def sent(self) -> None:
        """Notes that the latest attempt has arrived."""
        del self._unsent[-1:]
        self._write()

    def unsent(self) -> list[Path]:
        """The directories that W&B does not have, or not all of."""
        return [self.folder / name for name in self._unsent]

    def _write(self) -> None:
        if self._kept:
            write_atomically(self.folder / NAME, json.dumps({"id": self.id, "unsent": self._unsent}).encode() + b"\n")

    def folders(self) -> set[Path]:
        """The directories of runs that are there."""
        return {path for path in self.folder.glob("*run-*") if path.is_dir() and not path.is_symlink()}

    def remove_since(self, before: set[Path]) -> None:
        """Removes what an attempt to start has left."""
        for path in self.folders() - before:
            shutil.rmtree(path, ignore_errors=True)
