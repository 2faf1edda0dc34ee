"""A checkpoint's manifest: what it is, and size and SHA-256 of each of its files.

It is JSON whose last member, `sha256`, is the hash of all bytes before it (with the closing brace in its place), so
that damage to the manifest itself is seen too. A newer format must keep that one member.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from ridgepole.checkpoint.layout import ERROR, is_file_name, parse_name, part_names
from ridgepole.checkpoint.policy import KeepBest

FORMAT = 1
"""Version of the layout and of the tree's tags; a checkpoint with a larger one is refused."""

MAX_MANIFEST = 16 << 20
"""Bytes; nothing that is longer is read."""

_SEAL = b',"sha256":"'
_TAIL = len(_SEAL) + 64 + len(b'"}\n')


class DamagedError(Exception):
    """A checkpoint, or a file of it, is not what was written; never leaves this package."""


class NewerError(Exception):
    """A checkpoint that only a newer Ridgepole reads; never leaves this package."""


@dataclass(frozen=True, slots=True)
class Score:
    """How good a checkpoint is.

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
    """What a manifest says of one file.

    Attributes:
        size: Bytes.
        sha256: Hexadecimal.
    """

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What is known of a checkpoint without loading it.

    Attributes:
        name: Of its directory.
        path: Its directory.
        number: Counts the checkpoints of a run; never used twice.
        kind: Why it was taken, such as `step`, `boundary` or `signal`; `error` is never resumed from by itself.
        step: The run's step.
        time: Seconds since the epoch.
        score: How good it is; None where that was not measured.
        protect: The newest with this tag is kept whatever `keep_last` says; None for no tag.
        config_hash: What the caller said of the config it was taken under.
        world_size: Number of ranks that took part.
        meta: What the caller wanted to be readable without loading.
        files: Size and hash by file name.
        problem: Why its manifest can't be used; empty where it can. Without it number, step and kind come from the
            name, and the rest is empty.
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
        """Whether a run may be resumed from it without being told to: sound as far as is known, and of no error."""
        return not self.problem and self.kind != ERROR


def encode_manifest(info: CheckpointInfo) -> bytes:
    """The bytes of a manifest.

    Raises:
        TypeError: If `meta` holds what JSON has no form for.
    """
    fields: dict[str, Any] = {"format": FORMAT}
    for name in ("number", "kind", "step", "time", "protect", "config_hash", "world_size"):
        fields[name] = getattr(info, name)
    fields["score"] = asdict(info.score) if info.score else None
    fields["meta"] = dict(info.meta or {})
    fields["files"] = {name: asdict(record) for name, record in (info.files or {}).items()}
    body = orjson.dumps(fields)
    return body[:-1] + _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def decode_manifest(data: bytes, path: Path) -> CheckpointInfo:
    """Reads a manifest.

    Args:
        data: All of its bytes.
        path: The checkpoint's directory.

    Raises:
        DamagedError: If it is none, or not what was written.
        NewerError: If a newer Ridgepole wrote it.
    """
    body, tail = data[:-_TAIL] + b"}", data[-_TAIL:]
    if len(data) <= _TAIL or tail != _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}\n':
        raise DamagedError("its manifest is damaged")
    try:
        fields = orjson.loads(data)
        version = fields["format"]
        if type(version) is int and version > FORMAT:
            raise NewerError(f"written by a newer Ridgepole (format {version}, this one reads {FORMAT}): upgrade")
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
        path.name,
        path,
        **{name: fields[name] for name in types},
        score=None if score is None else _score(**score),
        protect=None if fields["protect"] is None else str(fields["protect"]),
        meta=fields["meta"],
        files=files,
    )


def _score(metric: Any, mode: Any, value: Any) -> Score:
    if type(metric) is not str or mode not in ("min", "max") or type(value) is not float:
        raise ValueError("a score that is none")
    return Score(metric, mode, value)


def score_of(keep_best: KeepBest | None, value: float | None) -> Score | None:
    """The score of a checkpoint; None without a policy, and for a value that is not finite: it is never the best."""
    if keep_best is None or value is None or not math.isfinite(value):
        return None
    return Score(keep_best.metric, keep_best.mode, float(value))
