"""Encode states without storing them, to know what can't be stored before a checkpoint is due."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ridgepole.checkpoint.codec.encode import encode_state
from ridgepole.errors import StateError, text_of


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The result of encoding one state.

    Attributes:
        problem: The error that a checkpoint would have, or "".
        sharded: Whether the state has tensors that are spread over ranks.
    """

    problem: str = ""
    sharded: bool = False


def rehearse(section: str, name: str, capture: Callable[[], Any]) -> Rehearsal:
    """Encode a state as a checkpoint does. No tensor is copied, and no error is raised.

    Args:
        section: `permanences` or `process`.
        name: The name of its owner.
        capture: Returns the state.
    """
    try:
        encoded = encode_state({section: {name: capture()}})
    except StateError as error:
        return Rehearsal(str(error))
    except Exception as error:  # noqa: BLE001 - a checkpoint would raise it; a rehearsal only tells
        return Rehearsal(f"{section}.{name}: state_dict raised {type(error).__name__}: {text_of(error)}")
    return Rehearsal(sharded=bool(encoded.shards))
