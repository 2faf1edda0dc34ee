"""The arguments of `Device`, checked once and frozen."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ridgepole.devices.gpus import Card
from ridgepole.errors import did_you_mean

Prefer = Literal["usage", "free", "util"]
Cpu = Literal["auto", "allow", "never", "force"]
LeaseMode = Literal["shared", "exclusive", "off"]
Entry = int | str

LEASE_VARIABLE = "RIDGEPOLE_DEVICE_LEASE"
WAIT_VARIABLE = "RIDGEPOLE_DEVICE_WAIT"
"""Environment variables for `lease` and `wait` where a pipeline doesn't set them."""

_UNITS = {"B": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for suffix, base in (("iB", 1024), ("B", 1000))
}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([KMGT]?i?B)\s*", re.IGNORECASE)
_MILLION = 1_000_000
_INDEX = re.compile(r"(?:([a-z]{2,5}):)?([0-9]{1,4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """The arguments of `Device`, checked.

    `limit` is `max_usage` in parts per million, for decisions in integers; `min_free` is in bytes.
    """

    limit: int = 800_000
    min_free: int | None = None
    prefer: Prefer = "usage"
    exclude: tuple[Entry, ...] = ()
    only: tuple[Entry, ...] | None = None
    max_processes: int | None = None
    cpu: Cpu = "auto"
    wait: float | None = None
    lease: LeaseMode = "shared"
    rank: int | Literal["auto", "off"] = "auto"

    @property
    def percent(self) -> str:
        """`max_usage` as people write it: `"80%"`."""
        return f"{self.limit / 10_000:.4f}".rstrip("0").rstrip(".") + "%"


def make_request(
    *,
    max_usage: float = 0.80,
    min_free: float | str | None = None,
    prefer: str = "usage",
    exclude: Entry | Sequence[Entry] = (),
    only: Entry | Sequence[Entry] | None = None,
    max_processes: int | None = None,
    cpu: str = "auto",
    wait: float | None = None,
    lease: str = "shared",
    rank: int | str | None = "auto",
) -> DeviceRequest:
    """Check the arguments of `Device`.

    Raises:
        ValueError: A value is outside its range, or two contradict each other.
        TypeError: A value is of the wrong type.
    """
    share = _number("max_usage", max_usage)
    if not 0 < share <= 1:
        raise ValueError(f"max_usage must be above 0 and at most 1 (0.8 is 80 %), not {max_usage!r}")
    if wait is not None and _number("wait", wait) < 0:
        raise ValueError(f"wait must be 0 or more seconds, not {wait!r}")
    if max_processes is not None and _whole("max_processes", max_processes) < 0:
        raise ValueError(f"max_processes must be 0 or more, not {max_processes!r}")
    request = DeviceRequest(
        limit=max(1, round(share * _MILLION)),
        min_free=None if min_free is None else parse_size(min_free),
        prefer=_one_of("prefer", prefer, get_args(Prefer)),
        exclude=_entries("exclude", exclude),
        only=None if only is None else _entries("only", only),
        max_processes=max_processes,
        cpu=_one_of("cpu", cpu, get_args(Cpu)),
        wait=None if wait is None else float(wait),
        lease=_one_of("lease", lease, get_args(LeaseMode)),
        rank=_rank(rank),
    )
    if request.only == ():
        raise ValueError("only=() leaves no device; leave it out for all, or use cpu='force' for the CPU")
    if both := [entry for entry in request.only or () if entry in request.exclude]:
        raise ValueError(f"only and exclude both name {both[0]!r}")
    return request


def wait_of(environ: Mapping[str, str]) -> float | None:
    """Return how long to wait for a card by the environment.

    Raises:
        ValueError: The variable is not a number.
    """
    text = environ.get(WAIT_VARIABLE)
    try:
        return float(text) if text else None
    except ValueError:
        raise ValueError(f"{WAIT_VARIABLE} must be a number of seconds, not {text!r}") from None


def parse_size(value: float | str) -> int:
    """Return the bytes of an amount of memory: a number, or a text such as `"20GiB"` or `"500 MB"`.

    Raises:
        ValueError: The text is not an amount, or the number is negative or too small for bytes.
        TypeError: It is neither a number nor a text.
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise ValueError(
                f"min_free={value!r} is not an amount of memory; write '20GiB', '500 MB', or a number of bytes"
            )
        unit = match[2].upper().replace("I", "i")
        return int(float(match[1]) * _UNITS[unit])
    number = _number("min_free", value)
    if number < 0:
        raise ValueError(f"min_free must not be negative, and is {value!r}")
    if 0 < number < 1024**2:
        raise ValueError(f"min_free={value!r} is counted in bytes; did you mean '{value}GiB'?")
    return int(number)


def selects(entry: Entry, card: Card) -> bool:
    """Return whether an entry of `exclude` or `only` names a card.

    Args:
        entry: An index as torch counts (`1`, `"cuda:1"`), the beginning of a UUID (a card's names
            its MIG instances too), or a model's name with `*` and `?`, in any case.
        card: The card.
    """
    text = str(entry)
    if match := _INDEX.fullmatch(text):
        return card.index == int(match[2]) and match[1] in (None, card.kind)
    folded = text.casefold()
    if len(folded) > len("GPU-") and any(uuid.casefold().startswith(folded) for uuid in (card.uuid, card.parent)):
        return True
    return fnmatch.fnmatchcase(card.name.casefold(), folded)


def check_entries(request: DeviceRequest, cards: Sequence[Card]) -> None:
    """Refuse an entry that names none of the machine's cards, hidden ones included.

    Raises:
        ValueError: It names the entry, and the cards that exist.
    """
    for option, entries in (("exclude", request.exclude), ("only", request.only or ())):
        for entry in entries:
            if not any(selects(entry, card) for card in cards):
                known = "; ".join(f"{card.label} {card.name} {card.uuid}".rstrip() for card in cards)
                near = did_you_mean(str(entry), [card.name for card in cards])
                there = f"there is: {known}" if cards else "there is no accelerator"
                raise ValueError(f"{option}: {entry!r} matches no device{'; ' + near if near else ''}; {there}")


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value!r}")
    return value


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    return value


def _one_of(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        near = did_you_mean(str(value), choices)
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}{near and '; ' + near}")
    return value


def _entries(name: str, value: Any) -> tuple[Entry, ...]:
    entries = (value,) if isinstance(value, int | str) else tuple(value)
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, int | str) or entry == "":
            raise TypeError(f"{name} takes indices, UUIDs and names, not {entry!r}")
        if isinstance(entry, int) and entry < 0:
            raise ValueError(f"{name}: an index counts from 0, and is {entry}")
    return entries


def _rank(value: int | str | None) -> int | Literal["auto", "off"]:
    if value is None or value == "off":
        return "off"
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"rank must be 'auto', 'off' or a local rank, not {value!r}")
    if value < 0:
        raise ValueError(f"rank counts from 0, and is {value}")
    return value
