"""From a card to the number that CUDA gives it: always by UUID.

`CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` are read as CUDA reads them (CUDA C++ Programming Guide, "CUDA
Environment Variables"): integers or UUID prefixes, a stop at the first invalid entry, nothing at all where an entry is
repeated. The integers count in CUDA's order: fastest first unless `PCI_BUS_ID` is asked for. With equal cards the two
orders agree; with unequal ones only CUDA itself knows.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ridgepole.permanences.device.cards import Card

VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
T = TypeVar("T")

_LEADING_INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Visible:
    """Which cards this process can see, and in what order.

    Attributes:
        uuids: Their keys (UUIDs, where they have one); the position is torch's index.
        environ: Variables to set before CUDA starts, so that its order is the one given here.
        pin: Whether the chosen card has to be made the only visible one: CUDA shows a process one MIG instance.
        hidden_by: The variable's value where it hides every card, else None.
        malformed: Whether it hides them by an entry that names nothing, rather than on purpose.
        notes: What a person should know.
        variable: The variable that decides, where one is set.
    """

    uuids: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    pin: bool = False
    hidden_by: str | None = None
    malformed: bool = False
    notes: tuple[str, ...] = ()
    variable: str = VARIABLE


def parse(value: str | None) -> tuple[int, ...] | tuple[str, ...] | None:
    """The entries of `CUDA_VISIBLE_DEVICES`: all integers, or all UUID prefixes.

    Args:
        value: The variable's text, or None where it is not set.

    Returns:
        The entries up to the first invalid one; None where the variable is not set and so hides nothing.
    """
    if value is None:
        return None
    for prefix in ("GPU-", "MIG-"):
        if value.startswith(prefix):
            return _until_invalid(value.split(","), lambda text: text if text.startswith(prefix) else None)  # noqa: B023
    return _until_invalid(value.split(","), _leading_integer)


def _leading_integer(text: str) -> int | None:
    """The number that a text begins with, as C's strtoul reads it; None where it is negative or there is none."""
    match = _LEADING_INTEGER.match(text.strip())
    if match is None or len(match[0]) > 9:  # more cards than any machine has: invalid, and no text too long for int()
        return None
    return int(match[0]) if int(match[0]) >= 0 else None


def _until_invalid(texts: Iterable[str], read: Callable[[str], T | None]) -> tuple[T, ...]:
    entries: list[T] = []
    for text in texts:
        entry = read(text)
        if entry is None:
            break
        if entry in entries:
            return ()
        entries.append(entry)
    return tuple(entries)


def select(entries: Sequence[int] | Sequence[str] | None, uuids: Sequence[str]) -> tuple[str, ...]:
    """Applies parsed entries to the devices of the machine.

    Args:
        entries: As `parse` returned them.
        uuids: Every device, in the order that integers count in.

    Returns:
        The visible ones in CUDA's order.
    """
    if entries is None:
        return tuple(uuids)
    chosen: list[str] = []
    for entry in entries:
        if isinstance(entry, int):
            found = [uuids[entry]] if entry < len(uuids) else []
        else:
            found = [uuid for uuid in uuids if uuid.startswith(entry)]
        if len(found) != 1:
            break  # names nothing, or is ambiguous
        if found[0] in chosen:
            return ()
        chosen.extend(found)
    return tuple(chosen)


def resolve(
    cards: Sequence[Card], environ: Mapping[str, str], *, started: bool, ask: Callable[[], Sequence[str] | None]
) -> Visible:
    """Finds out what CUDA will show this process.

    Args:
        cards: Every card of the machine in PCI order, MIG instances in the place of their card.
        environ: The environment of this process.
        started: Whether CUDA may have read that environment already.
        ask: Asks CUDA itself, in a child process, for the UUIDs in its order; None where that fails.

    Returns:
        The order, and what must be done to make it true.
    """
    value = environ.get(VARIABLE)
    entries = parse(value)
    usable = [card for card in cards if card.uuid and not card.trouble]
    parts: dict[str, list[str]] = {}
    for card in usable:
        parts.setdefault(card.parent or card.uuid, []).append(card.uuid)
    mig = any(card.parent for card in usable)
    by_uuid = bool(entries) and isinstance((entries or ("",))[0], str)
    in_pci_order = environ.get(ORDER) == "PCI_BUS_ID" or len({card.name for card in usable if not card.parent}) <= 1
    notes: list[str] = []
    patch: dict[str, str] = {}
    told: Sequence[str] | None = None
    if mig and started:
        told = ask()
    elif not (by_uuid or in_pci_order or entries == ()):
        if started or entries is not None or ORDER in environ:
            told = ask()
            if told is None:
                notes.append(
                    "the cards differ and CUDA's order could not be asked: PCI order is assumed; "
                    f"set {ORDER}=PCI_BUS_ID to make it so"
                )
        else:
            patch = {ORDER: "PCI_BUS_ID"}
    if told is not None:
        uuids = _known(told, [card.uuid for card in usable])
    elif entries and str(entries[0]).startswith("MIG-"):
        uuids = select(entries, [card.uuid for card in usable])
    else:
        uuids = tuple(part for uuid in select(entries, list(parts)) for part in parts[uuid])
    hidden_by = value if usable and not uuids else None
    malformed = hidden_by is not None and hidden_by.strip() not in ("", "-1")
    if value is not None and uuids and told is None and not mig and len(uuids) < len(value.split(",")):
        notes.append(
            f"{VARIABLE}={value!r} is read only up to its first invalid entry: {len(uuids)} of its devices count"
        )
    pin = mig and not started and uuids != tuple(entries or ())
    return Visible(uuids, patch, pin, hidden_by, malformed, tuple(notes))


def _known(told: Iterable[str], uuids: Iterable[str]) -> tuple[str, ...]:
    """CUDA tells 16 bytes, without the prefix by which NVML sets a card apart from a MIG instance."""
    by_body = {uuid.split("-", 1)[-1].lower(): uuid for uuid in uuids}
    # One that NVML doesn't list keeps its place, so that the numbers of the others stay right.
    return tuple(by_body.get(body.lower(), f"unlisted-{body}") for body in told)


def number(cards: Sequence[Card], visible: Visible) -> tuple[Card, ...]:
    """The same cards, each with torch's index, or with what hides it from this process."""
    index = {key: position for position, key in enumerate(visible.uuids)}
    return tuple(
        dataclasses.replace(card, index=index[card.key])
        if card.key in index and not card.trouble
        else dataclasses.replace(card, index=None, hidden=visible.variable)
        for card in cards
    )
