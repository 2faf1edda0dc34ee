"""The names inside `checkpoints/`, which no other module knows.

```
checkpoints/
  index.json                  latest and best, for people and tools; made from the manifests, never trusted
  000012-step-1200/           number and step; `error-000013-step-1250/` where a process failed
    manifest.json             written last: sizes and SHA-256 of the files, step, score, checksum of itself
    state.json                the tree of values
    state.safetensors         its tensors; missing where it has none
    rank-00001.json, …        the parts of further ranks, by the same two endings
  .saving-000014-…/           a save that is under way, or was interrupted; swept by the next one
```
"""

from __future__ import annotations

import re
import secrets

INDEX = "index.json"
MANIFEST = "manifest.json"
ERROR = "error"
"""The kind of checkpoint that is never resumed from by itself."""

_NAME = re.compile(r"(error-)?([0-9]{6,18})-step-([0-9]{1,20})")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.(json|safetensors)")
_LEFTOVER = re.compile(r"\.(saving|removing)-[0-9]{6,18}-[0-9a-f]{8}|\.index\.json\.[0-9]+\.part")


def checkpoint_name(number: int, step: int, kind: str) -> str:
    """Such as `000012-step-1200` or `error-000013-step-1250`."""
    return f"{'error-' if kind == ERROR else ''}{number:06d}-step-{step}"


def parse_name(name: str) -> tuple[int, int, bool] | None:
    """Number, step and whether it is one of an error; None where it is no checkpoint's name."""
    match = _NAME.fullmatch(name)
    return (int(match[2]), int(match[3]), bool(match[1])) if match else None


def part_names(rank: int) -> tuple[str, str]:
    """The two files of one rank: the tree, and its tensors."""
    stem = f"rank-{rank:05d}" if rank else "state"
    return f"{stem}.json", f"{stem}.safetensors"


def is_file_name(name: str) -> bool:
    """Whether a manifest may name this file: nothing that leads out of the checkpoint's directory."""
    return name != MANIFEST and _FILE.fullmatch(name) is not None


def temporary_name(number: int, what: str) -> str:
    """A name that no reader takes for a checkpoint's; `what` is `saving` or `removing`."""
    return f".{what}-{number:06d}-{secrets.token_hex(4)}"


def is_leftover(name: str) -> bool:
    """Whether this is what an interrupted save, removal or writing of the index leaves."""
    return _LEFTOVER.fullmatch(name) is not None
