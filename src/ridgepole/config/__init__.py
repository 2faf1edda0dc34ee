"""TOML text to a located, frozen tree: `extends`, `-s key=value`, `${…}`, located problems.

Nothing here knows the meaning of a key.
"""

from __future__ import annotations

from ridgepole.config.document import Document, Override
from ridgepole.config.problems import ProblemReport
from ridgepole.config.reader import from_text, parse_override, read
from ridgepole.config.secrets import looks_secret, mask, variable_looks_secret
from ridgepole.config.tree import thaw

__all__ = [
    "Document",
    "Override",
    "ProblemReport",
    "from_text",
    "looks_secret",
    "mask",
    "parse_override",
    "read",
    "thaw",
    "variable_looks_secret",
]
