"""What to store instead of a value that a checkpoint can't hold."""

from __future__ import annotations

from collections import defaultdict
from enum import Enum
from random import Random
from types import FunctionType, MethodType
from typing import Any

_BASES: tuple[tuple[type, str], ...] = (
    (Enum, "store its .value and look the member up when loading"),
    (defaultdict, "store dict(x) and make the defaultdict anew when loading"),
    (Random, "store its .getstate()"),
    (FunctionType, "code is not stored; store the numbers or names that it works with"),
    (MethodType, "code is not stored; store the numbers or names that it works with"),
    (type, "code is not stored; store a name and look it up when loading"),
    (dict, "it is a subclass, which only its own code could make again; store dict(x)"),
    (list, "it is a subclass, which only its own code could make again; store list(x)"),
    (tuple, "it is a subclass, which only its own code could make again; store tuple(x)"),
    (set, "it is a subclass, which only its own code could make again; store set(x)"),
    (str, "it is a subclass, which only its own code could make again; store str(x)"),
    (bytes, "it is a subclass, which only its own code could make again; store bytes(x)"),
    (int, "it is a subclass, which only its own code could make again; store int(x)"),
    (float, "it is a subclass, which only its own code could make again; store float(x)"),
)

_ATTRIBUTES = {
    "state_dict": "store its .state_dict()",
    "bit_generator": "store its .bit_generator.state",
    "get_state": "store its .get_state()",
    "isoformat": "store its .isoformat()",
}


def advice_for(value: Any) -> str:
    """One sentence; nothing of the value's own code is run for it."""
    kind = type(value)  # isinstance() would ask the value for its __class__
    if hasattr(kind, "__dataclass_fields__"):
        return "store dataclasses.asdict(x)"
    for base, advice in _BASES:
        if issubclass(kind, base):
            return advice
    for name, advice in _ATTRIBUTES.items():
        if any(name in vars(base) for base in kind.__mro__):
            return advice
    return "store what it is made of: numbers, text, lists, dicts, arrays, tensors"
