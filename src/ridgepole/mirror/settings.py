"""The `mirror` key of `[pipeline]`."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from annotated_types import Ge

from ridgepole.errors import MissingExtraError, RunDirError, did_you_mean

SCHEMES = ("s3", "gs", "az", "file")


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorPolicy:
    """`mirror = { url = "s3://bucket/runs", drain_seconds = 30 }` of `[pipeline]`."""

    url: str
    """The place: `s3://bucket/prefix`, `gs://`, `az://container/prefix` or `file:///directory`."""
    every_seconds: Annotated[float, Ge(0.05)] = 5.0
    """Seconds between two looks for what is new."""
    drain_seconds: Annotated[float, Ge(0)] = 30.0
    """The most seconds that the end of the run waits for what is left."""
    lease_seconds: Annotated[float, Ge(0.5)] = 30.0
    """Seconds without a sign of life after which another machine may take a mirror over."""


def is_url(text: str) -> bool:
    """Return whether a command's argument is the URL of a mirror, not a local name."""
    return "://" in text


def url_fault(url: str) -> tuple[str, str] | None:
    """Return the fault of a URL and what to do about it; None where there is none."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or "://" not in url:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        hint = did_you_mean(parts.scheme, SCHEMES) or "for example s3://bucket/runs"
        return f"mirror must be a URL that begins with one of {known}, not {url!r}", hint
    if parts.scheme == "file" and (parts.netloc or not parts.path.strip("/")):
        return f"mirror needs a whole path, not {url!r}", "for example file:///mnt/backup/runs"
    if parts.scheme != "file" and not parts.netloc:
        return f"mirror {url!r} names no bucket", f"for example {parts.scheme}://bucket/runs"
    if parts.username or parts.password or parts.query:
        return "mirror must hold no user, password or query", "set the credentials in the environment"
    return None


def policy_of(given: MirrorPolicy | str) -> MirrorPolicy:
    """Return the policy of what a pipeline says, which may be a URL alone."""
    return MirrorPolicy(url=given) if isinstance(given, str) else given


def need_obstore() -> None:
    """Check that the client of object stores is installed.

    Raises:
        MissingExtraError: If it is not.
    """
    if importlib.util.find_spec("obstore") is None:
        raise MissingExtraError("obstore", "remote", "a mirror")


def checked_url(url: str) -> str:
    """Return a URL without a slash at its end.

    Raises:
        RunDirError: If no mirror can be there.
        MissingExtraError: If the client is not installed.
    """
    fault = url_fault(url)
    if fault is not None:
        raise RunDirError("; ".join(fault))
    need_obstore()
    return url.rstrip("/")
