"""What can be known of the W&B client and account without importing the one or asking the other."""

from __future__ import annotations

import importlib.util
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from ridgepole.errors import MissingExtraError, TrackerError

MODES = ("online", "offline", "disabled")
DEFAULT_SERVER = "https://api.wandb.ai"

_OLD_MODES = {"run": "online", "dryrun": "offline"}  # the client's own former words, which WANDB_MODE may still have


def checked_mode(mode: str | None) -> str:
    """The mode of a logger: the given one, else that of `WANDB_MODE`, else online.

    Raises:
        ValueError: If it is none of `MODES`; it says where it was set.
    """
    where = "mode" if mode is not None else "the environment variable WANDB_MODE"
    word = mode if mode is not None else os.environ.get("WANDB_MODE") or "online"
    word = _OLD_MODES.get(word, word) if mode is None else word
    if word not in MODES:
        raise ValueError(f"{where} must be one of {', '.join(MODES)}, not {word!r}")
    return word


def check_client() -> None:
    """Checks that the client is installed.

    Raises:
        MissingExtraError: If it is not.
    """
    try:
        spec = importlib.util.find_spec("wandb")
    except (ImportError, ValueError):
        spec = None
    # A folder `wandb` full of runs, as the client likes to leave in a working directory, is found as an empty package.
    if spec is None or spec.origin is None:
        raise MissingExtraError("wandb", "wandb", "WandBLogger")


def check_key() -> None:
    """Checks that there is a key for the server, wherever the client looks for one. Asks nobody.

    Raises:
        TrackerError: If there is none.
    """
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return
    server = _setting("base_url") or DEFAULT_SERVER
    server = os.environ.get("WANDB_BASE_URL") or server
    if _in_netrc(urlsplit(server).netloc) or _setting("api_key"):
        return
    raise TrackerError(
        f"no W&B API key for {server}: run `wandb login`, set WANDB_API_KEY, or log off line with mode='offline'"
    )


def without_key(text: str) -> str:
    """A message of the client that is safe to show."""
    key = os.environ.get("WANDB_API_KEY", "")
    return text.replace(key, "***") if key else text


def _in_netrc(host: str) -> bool:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    given = os.environ.get("NETRC")
    for path in [Path(given).expanduser()] if given else [home / ".netrc", home / "_netrc"]:
        try:
            if netrc.netrc(path).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _setting(name: str) -> str:
    """A value from the settings files of the client: the user's own, then the working directory's before it."""
    import configparser

    config = os.environ.get("WANDB_CONFIG_DIR") or os.path.expanduser("~/.config/wandb")  # noqa: PTH111 - as above
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read([Path(config) / "settings", Path("wandb") / "settings"])
        return parser.get("default", name, fallback="")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return ""
