"""TOML text to a located, frozen tree: `extends`, `-s key=value`, `${…}`, and every problem with its place.

Knows no owner's keys: what they mean is the business of those who read the tree.
"""

from __future__ import annotations

from ridgepole.config.document import Document, Override
from ridgepole.config.overrides import parse_override
from ridgepole.config.reader import from_text, read
from ridgepole.config.secrets import looks_secret, mask, variable_looks_secret
from ridgepole.config.tree import thaw

__all__ = [
    "Document",
    "Override",
    "from_text",
    "looks_secret",
    "mask",
    "parse_override",
    "read",
    "thaw",
    "variable_looks_secret",
]
