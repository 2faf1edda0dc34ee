"""Checks of the W&B client and account, without importing the client or asking the server."""

from __future__ import annotations

import importlib.util
import json
import netrc
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ridgepole.errors import MissingExtraError, TrackerError
from ridgepole.files import write_atomically
from ridgepole.permanence import RunContext

NAME = "attached.json"


class Attached:
    """The id at W&B, and the client's directories of the run's attempts.

    Attributes:
        id: The id at W&B: the given one, else that of the run's earlier attempts, else
            `WANDB_RUN_ID` (which an agent of a sweep sets), else the run id; in a plain script a
            new id.
        folder: The client's folder in the run directory.
    """

    def __init__(self, folder: Path, run: RunContext | None, given: str | None = None) -> None:
        self.folder = folder
        self._kept = run is not None  # a plain script starts a new run each time
        fields = self._read() if self._kept else {}
        own = run.run_id if run is not None else secrets.token_hex(4)
        self.id: str = str(given or fields.get("id") or os.environ.get("WANDB_RUN_ID") or own)
        self._unsent: list[str] = [str(name) for name in fields.get("unsent", [])]

    def _read(self) -> dict[str, Any]:
        try:
            fields = json.loads((self.folder / NAME).read_bytes())
        except (OSError, ValueError):
            return {}
        return fields if isinstance(fields, dict) else {}

    def add(self, directory: Path) -> None:
        """Add the directory of a new attempt, as not sent until `sent`."""
        self._unsent.append(directory.name)
        self._write()

    def sent(self) -> None:
        """Record that the latest attempt has arrived."""
        del self._unsent[-1:]
        self._write()

    def unsent(self) -> list[Path]:
        """Return the directories that W&B does not have completely."""
        return [self.folder / name for name in self._unsent]

    def _write(self) -> None:
        if self._kept:
            write_atomically(self.folder / NAME, json.dumps({"id": self.id, "unsent": self._unsent}).encode() + b"\n")

    def folders(self) -> set[Path]:
        """Return the existing directories of runs."""
        return {path for path in self.folder.glob("*run-*") if path.is_dir() and not path.is_symlink()}

    def remove_since(self, before: set[Path]) -> None:
        """Remove the directories of a failed start."""
        for path in self.folders() - before:
            shutil.rmtree(path, ignore_errors=True)


RESUMES = ("allow", "must", "never")
MODES = ("online", "offline", "disabled")
DEFAULT_SERVER = "https://api.wandb.ai"

_OTHERS = ("WANDB_SERVICE", "WANDB_MODE", "WANDB_DISABLED")
"""Variables of another client, or replaced by our options."""
_NOT_IN_IDS = "/\\#?%:"
_OLD_MODES = {"run": "online", "dryrun": "offline"}  # the client's former modes


def checked_mode(mode: str | None) -> str:
    """Return the mode of a logger: as given, else `WANDB_MODE`, else online.

    Raises:
        ValueError: If it is not in `MODES`; the message says where it was set.
    """
    where = "mode" if mode is not None else "the environment variable WANDB_MODE"
    word = mode if mode is not None else os.environ.get("WANDB_MODE") or "online"
    word = _OLD_MODES.get(word, word) if mode is None else word
    if word not in MODES:
        raise ValueError(f"{where} must be one of {', '.join(MODES)}, not {word!r}")
    return word


def checked_id(run_id: str) -> str:
    """Return the id of a run, if W&B can take it."""
    if not isinstance(run_id, str):
        raise TypeError(f"id must be a string, not {type(run_id).__name__}")
    if not run_id or run_id != run_id.strip() or len(run_id) > 128 or set(run_id) & set(_NOT_IN_IDS):
        raise ValueError(f"id={run_id!r}: an id at W&B has 1 to 128 characters, and none of {' '.join(_NOT_IN_IDS)}")
    return run_id


def checked_tags(tags: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the tags of a run as a tuple."""
    if tags is None:
        return None
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise TypeError(f"tags must be a list of strings, such as ['baseline'], not {tags!r}")
    for tag in tags:
        if not 1 <= len(tag) <= 64:
            raise ValueError(f"a tag at W&B has 1 to 64 characters, not {len(tag)}: {tag[:70]!r}")
    return tuple(tags)


def check_client() -> None:
    """Check that the client is installed."""
    try:
        spec = importlib.util.find_spec("wandb")
    except (ImportError, ValueError):
        spec = None
    # A folder `wandb` full of runs, which the client leaves in a working directory, looks like an
    # empty package.
    if spec is None or spec.origin is None:
        raise MissingExtraError("wandb", "wandb", "WandBLogger")


def check_key() -> None:
    """Check that the client will find a key for the server, without network access."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return
    server = _setting("base_url") or DEFAULT_SERVER
    server = os.environ.get("WANDB_BASE_URL") or server
    if _in_netrc(urlsplit(server).netloc) or _setting("api_key"):
        return
    raise TrackerError(
        f"no W&B API key for {server}: run `wandb login`, set WANDB_API_KEY, or log offline with mode='offline'"
    )


def error_line(error: BaseException) -> str:
    """Return an error of the client in one line, without the API key."""
    text, key = f"{type(error).__name__}: {error}".strip().rstrip(":"), os.environ.get("WANDB_API_KEY", "")
    return text.replace(key, "***") if key else text


def client_environment(folder: Path) -> dict[str, str]:
    """Return the environment of the client's process: caches in a folder, no shared service."""
    environment = {name: value for name, value in os.environ.items() if name not in _OTHERS}
    environment.setdefault("WANDB_CACHE_DIR", str(folder / "cache"))
    environment.setdefault("WANDB_DATA_DIR", str(folder / "data"))
    environment.setdefault("WANDB_ERROR_REPORTING", "false")  # no reports to third parties
    return environment


def _in_netrc(host: str) -> bool:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises without a home
    given = os.environ.get("NETRC")
    for path in [Path(given).expanduser()] if given else [home / ".netrc", home / "_netrc"]:
        try:
            if netrc.netrc(path).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _setting(name: str) -> str:
    """Return a value from the client's settings files: the working directory's, else the user's."""
    import configparser

    config = os.environ.get("WANDB_CONFIG_DIR") or os.path.expanduser("~/.config/wandb")  # noqa: PTH111 - as above
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read([Path(config) / "settings", Path("wandb") / "settings"])
        return parser.get("default", name, fallback="")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return ""
