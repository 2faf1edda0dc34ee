"""Write sizes for people."""

from __future__ import annotations


def in_bytes(count: int) -> str:
    """Return a size in GB or MB."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
