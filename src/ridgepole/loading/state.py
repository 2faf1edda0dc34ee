"""The stored position of a loader, and whether another loader can go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMAT = 1

_ADVICE = {
    "length": "load the same data set",
    "world_size": "run it on as many processes as before",
    "weights": "pass the same weights",
}


def read_cursor(state: Mapping[str, Any], now: Mapping[str, Any], batches_per_epoch: int) -> int:
    """The cursor of a stored state.

    Args:
        state: What `state_dict` returned, in this process or another.
        now: The same of the loader that is to go on; its cursor doesn't matter.
        batches_per_epoch: Of that loader.

    Raises:
        TypeError: If the state is not a mapping.
        ValueError: If it isn't a loader's, is written by a newer Ridgepole, doesn't belong to this loader, or is
            damaged.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"the state of a ResumableLoader is a mapping, as state_dict returns it, not {state!r}")
    written = state.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise ValueError(
            f"the loader's state has format {written}, written by a newer Ridgepole; this one reads up to {FORMAT}"
        )
    if missing := [key for key in now if key not in state]:
        raise ValueError(f"this is not the state of a ResumableLoader: it has no {', '.join(missing)}")
    fixed = [key for key in now if key not in {"cursor", "epochs"}]
    if different := [key for key in fixed if state[key] != now[key]]:
        found = "; ".join(f"{key} was {state[key]!r} and is {now[key]!r}" for key in different)
        advice = [_ADVICE.get(key, f"pass {key}={state[key]!r}") for key in different]
        raise ValueError(
            f"the loader can't go on where the stored one was: {found}. The order would not be the same: "
            f"{' and '.join(advice)}, or start anew without the loader's state"
        )
    return _checked(state["cursor"], state["epochs"], now["epochs"], batches_per_epoch)


def _checked(cursor: object, epochs_then: object, epochs: int, batches_per_epoch: int) -> int:
    if not isinstance(cursor, int) or isinstance(cursor, bool) or cursor < 0:
        raise ValueError(f"the loader's stored cursor must be a whole number from 0, not {cursor!r}")
    if cursor > epochs * batches_per_epoch:
        needed = -(-cursor // batches_per_epoch)
        raise ValueError(
            f"the stored loader had handed out {cursor} batches of its {epochs_then} epochs, more than the "
            f"{epochs * batches_per_epoch} that there are with epochs={epochs}: pass epochs={needed} or more"
        )
    return cursor
