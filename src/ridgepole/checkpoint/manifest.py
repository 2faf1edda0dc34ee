"""The files of a checkpoint: their names, and the manifest that holds their sizes and hashes.

```
checkpoints/
  index.json                  latest and best, for people and tools; made from the manifests
  000012-step-1200/           number and step; `error-000013-step-1250/` where a process failed
    manifest.json             written last: sizes and SHA-256 of the files, step, score
    state.json                the tree of values
    state.safetensors         its tensors; missing where it has none
    rank-00001.json, …        the parts of further ranks, by the same two endings
    shards.json               where tensors are spread over ranks: the box in each file
  .saving-000014-…/           a save that is under way, or was interrupted; the next one removes it
```

A manifest is JSON whose last member, `sha256`, is the hash of all bytes before it (with the closing
brace in its place), so that damage to the manifest itself is seen too. A newer format must keep
this member.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

FORMAT = 2
"""Version of the layout and of the tree's tags; a checkpoint with a larger one is refused.

A checkpoint without shards is written as version 1, so that an older Ridgepole reads it.
"""

MAX_MANIFEST = 16 << 20
"""Bytes; no longer manifest is read."""

INDEX = "index.json"
MANIFEST = "manifest.json"
SHARDS = "shards.json"
ERROR = "error"
"""The kind of checkpoint that is never resumed from by itself."""

_NAME = re.compile(r"(error-)?([0-9]{6,18})-step-([0-9]{1,20})")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.(json|safetensors)")
_LEFTOVER = re.compile(r"\.(saving|removing)-[0-9]{6,18}-[0-9a-f]{8}|\.index\.json\.[0-9]+\.part")
_SEAL = b',"sha256":"'
_TAIL = len(_SEAL) + 64 + len(b'"}\n')


# --- names


def checkpoint_name(number: int, step: int, kind: str) -> str:
    """Return a name such as `000012-step-1200` or `error-000013-step-1250`."""
    return f"{'error-' if kind == ERROR else ''}{number:06d}-step-{step}"


def parse_name(name: str) -> tuple[int, int, bool] | None:
    """Return number, step and whether it is an error's; None for other names."""
    match = _NAME.fullmatch(name)
    return (int(match[2]), int(match[3]), bool(match[1])) if match else None


def part_names(rank: int) -> tuple[str, str]:
    """Return the two files of one rank: the tree, and its tensors."""
    stem = f"rank-{rank:05d}" if rank else "state"
    return f"{stem}.json", f"{stem}.safetensors"


def is_file_name(name: str) -> bool:
    """Return whether a manifest may name this file: it must be in the checkpoint's directory."""
    return name != MANIFEST and _FILE.fullmatch(name) is not None


def temporary_name(number: int, what: Literal["saving", "removing"]) -> str:
    """Return a name that no reader takes for a checkpoint's."""
    return f".{what}-{number:06d}-{secrets.token_hex(4)}"


def is_leftover(name: str) -> bool:
    """Return whether an interrupted save, removal or writing of the index leaves this name."""
    return _LEFTOVER.fullmatch(name) is not None


# --- manifests


class DamagedError(Exception):
    """A checkpoint, or a file of it, is not what was written; never leaves this package."""


class UnsupportedVersionError(Exception):
    """A checkpoint that only a newer Ridgepole reads; never leaves this package."""


@dataclass(frozen=True, slots=True)
class Score:
    """The rank of a checkpoint among others.

    Attributes:
        metric: Name of the metric.
        mode: Whether a smaller or a larger value is better.
        value: Its value when the checkpoint was taken.
    """

    metric: str
    mode: Literal["min", "max"]
    value: float


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Bytes and hexadecimal hash of one file, as its manifest records them."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """The facts about a checkpoint that are known without loading it.

    Attributes:
        name: Of its directory.
        path: Its directory.
        number: Counts the checkpoints of a run; never used twice.
        kind: Why it was taken: `step`, `signal`; a run never resumes from `error` by itself.
        step: The run's step.
        time: Seconds since the epoch.
        score: Its rank; None where that was not measured.
        protect: Tags, with spaces between them: the newest with a tag is kept whatever `keep_last`
            says; None for no tag.
        config_hash: The caller's hash of the config it was taken under.
        world_size: Number of ranks that took part.
        meta: Values of the caller that can be read without loading.
        files: Size and hash by file name.
        problem: Why its manifest can't be used; empty where it can. Without it number, step and
            kind come from the name, and the rest is empty.
        newer: Whether the problem is that a newer Ridgepole wrote it.
    """

    name: str
    path: Path
    number: int
    kind: str
    step: int
    time: float = 0.0
    score: Score | None = None
    protect: str | None = None
    config_hash: str = ""
    world_size: int = 1
    meta: Mapping[str, Any] | None = None
    files: Mapping[str, FileRecord] | None = None
    problem: str = ""
    newer: bool = False

    @property
    def size(self) -> int:
        """Bytes of all its files but the manifest."""
        return sum(record.size for record in (self.files or {}).values())

    @property
    def usable(self) -> bool:
        """Return whether a run may be resumed from it: it seems sound, and is not of an error."""
        return not self.problem and self.kind != ERROR


def encode_manifest(info: CheckpointInfo) -> bytes:
    """Return the bytes of a manifest.

    Raises:
        TypeError: `meta` holds a value that JSON has no form for.
    """
    fields: dict[str, Any] = {"format": FORMAT if SHARDS in (info.files or {}) else 1}
    for name in ("number", "kind", "step", "time", "protect", "config_hash", "world_size"):
        fields[name] = getattr(info, name)
    fields["score"] = asdict(info.score) if info.score else None
    fields["meta"] = dict(info.meta or {})
    fields["files"] = {name: asdict(record) for name, record in (info.files or {}).items()}
    body = orjson.dumps(fields)
    return body[:-1] + _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def decode_manifest(data: bytes, path: Path) -> CheckpointInfo:
    """Read the manifest of the checkpoint at `path`.

    Raises:
        DamagedError: It is not a manifest, or not what was written.
        UnsupportedVersionError: A newer Ridgepole wrote it.
    """
    body, tail = data[:-_TAIL] + b"}", data[-_TAIL:]
    if len(data) <= _TAIL or tail != _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}\n':
        raise DamagedError("its manifest is damaged")
    try:
        fields = orjson.loads(data)
        version = fields["format"]
        if type(version) is int and version > FORMAT:
            reason = f"written by a newer Ridgepole (format {version}, this one reads {FORMAT}): upgrade"
            raise UnsupportedVersionError(reason)
        info = _info(fields, path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"its manifest is malformed ({type(error).__name__}: {error})") from None
    parsed = parse_name(path.name)
    if parsed and parsed != (info.number, info.step, info.kind == ERROR):
        raise DamagedError("its manifest is that of another checkpoint")
    return info


def _info(fields: Any, path: Path) -> CheckpointInfo:
    files = {name: FileRecord(**record) for name, record in fields["files"].items()}
    for name, record in files.items():
        if not is_file_name(name):
            raise ValueError(f"a file called {name[:100]!r}")
        if type(record.size) is not int or record.size < 0 or type(record.sha256) is not str:
            raise ValueError(f"no size and hash of {name}")
    if part_names(0)[0] not in files:
        raise ValueError("no state among its files")
    types = {"number": int, "step": int, "kind": str, "time": float, "world_size": int, "config_hash": str}
    for name, kind in (types | {"meta": dict, "format": int}).items():
        if type(fields[name]) is not kind:
            raise TypeError(f"{name} is a {type(fields[name]).__name__}")
    score = fields["score"]
    return CheckpointInfo(
        name=path.name,
        path=path,
        **{name: fields[name] for name in types},
        score=None if score is None else _score(**score),
        protect=None if fields["protect"] is None else str(fields["protect"]),
        meta=fields["meta"],
        files=files,
    )


def _score(metric: Any, mode: Any, value: Any) -> Score:
    if type(metric) is not str or mode not in ("min", "max") or type(value) is not float:
        raise ValueError("a malformed score")
    return Score(metric, mode, value)
