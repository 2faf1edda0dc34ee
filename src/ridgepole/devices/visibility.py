"""Torch's number of a card, by UUID, under the variables that hide and reorder devices.

CUDA reads `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` (CUDA C++ Programming Guide, "CUDA
Environment Variables"): integers or UUID prefixes, a stop at the first invalid entry, no device at
all where an entry is repeated. The integers count in CUDA's order: fastest first unless
`PCI_BUS_ID` is asked for. With equal cards the two orders agree; with unequal ones only CUDA itself
knows. ROCm reads `ROCR_VISIBLE_DEVICES`, and then `HIP_VISIBLE_DEVICES` or CUDA's.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from ridgepole.devices.gpus import Card

VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
ROCR = "ROCR_VISIBLE_DEVICES"
HIP = "HIP_VISIBLE_DEVICES"
T = TypeVar("T")

_LEADING_INTEGER = re.compile(r"[+-]?[0-9]+")
_STRTOL = re.compile(
    r"\+?(?:0x(?P<hex>[0-9a-f]{1,8})|0(?P<octal>[0-7]{0,8})|(?P<decimal>[1-9][0-9]{0,8}))", re.IGNORECASE
)
_ROCR_UUID_LENGTH = len("GPU-") + 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """The cards that this process can see, and their order.

    Attributes:
        uuids: Their keys (UUIDs, where they have one); the position is torch's index.
        environ: Variables to set before CUDA starts, so that its order is the one given here.
        pin: Whether to make the chosen card the only visible one, as CUDA shows one MIG instance.
        hidden_by: The variable's value where it hides every card, else None.
        malformed: Whether it hides them by an entry that names nothing, rather than on purpose.
        notes: Remarks for the user.
        variable: The variable that decides, where one is set.
    """

    uuids: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    pin: bool = False
    hidden_by: str | None = None
    malformed: bool = False
    notes: tuple[str, ...] = ()
    variable: str = VARIABLE


def number(cards: Sequence[Card], visible: Visible) -> tuple[Card, ...]:
    """Return the same cards, each with torch's index, or with what hides it from this process."""
    index = {key: position for position, key in enumerate(visible.uuids)}
    return tuple(
        dataclasses.replace(card, index=index[card.key])
        if card.key in index and not card.trouble
        else dataclasses.replace(card, index=None, hidden=visible.variable)
        for card in cards
    )


def alone(card: Card, cards: Sequence[Card], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which a child process sees one card only.

    Args:
        card: The card, with its index in this process.
        cards: Every card of the machine, in its order.
        environ: The environment of this process, which the child inherits.
    """
    if card.kind != "cuda":
        return {}
    if card.source.startswith(("amdsmi", "kfd")):
        # HIP counts the cards that ROCr leaves
        left = resolve_rocm(cards, {name: value for name, value in environ.items() if name == ROCR})
        return {HIP: str(left.uuids.index(card.key))}
    if card.uuid.startswith(("GPU-", "MIG-")):
        return {VARIABLE: card.uuid}
    entries = environ.get(VARIABLE, "").split(",")
    index = card.index or 0
    return {VARIABLE: entries[index] if environ.get(VARIABLE) else str(index)}


# --- CUDA


def parse(value: str | None) -> tuple[int, ...] | tuple[str, ...] | None:
    """Read `CUDA_VISIBLE_DEVICES` up to the first invalid entry: integers, or UUID prefixes.

    None stands for a variable that is not set and so hides nothing.
    """
    if value is None:
        return None
    for prefix in ("GPU-", "MIG-"):
        if value.startswith(prefix):
            return _until_invalid(value.split(","), lambda text: text if text.startswith(prefix) else None)  # noqa: B023
    return _until_invalid(value.split(","), _leading_integer)


def _leading_integer(text: str) -> int | None:
    """Read the number that a text begins with, as C's strtoul; None for a negative one or none."""
    match = _LEADING_INTEGER.match(text.strip())
    if match is None or len(match[0]) > 9:  # more than any machine has, and too long for int()
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
    """Apply parsed entries to the devices of the machine, in the order that integers count in."""
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


@dataclass(frozen=True)
class _Machine:
    """The facts that CUDA's order depends on."""

    cards: Sequence[Card]
    environ: Mapping[str, str]
    started: bool
    ask: Callable[[], Sequence[str] | None]

    @cached_property
    def entries(self) -> tuple[int, ...] | tuple[str, ...] | None:
        return parse(self.environ.get(VARIABLE))

    @cached_property
    def usable(self) -> list[Card]:
        return [card for card in self.cards if card.uuid and not card.trouble]

    @property
    def has_mig(self) -> bool:
        return any(card.parent for card in self.usable)

    @property
    def names_uuids(self) -> bool:
        return bool(self.entries) and isinstance((self.entries or ("",))[0], str)

    @property
    def in_pci_order(self) -> bool:
        """Return whether integers count in PCI order: by request, or as all cards are equal."""
        models = {card.name for card in self.usable if not card.parent}
        return self.environ.get(ORDER) == "PCI_BUS_ID" or len(models) <= 1

    def listed(self) -> tuple[str, ...]:
        """Apply the variable to the cards in PCI order; a card stands for all its MIG instances."""
        if self.entries and str(self.entries[0]).startswith("MIG-"):
            return select(self.entries, [card.uuid for card in self.usable])
        instances: dict[str, list[str]] = {}
        for card in self.usable:
            instances.setdefault(card.parent or card.uuid, []).append(card.uuid)
        return tuple(uuid for whole in select(self.entries, list(instances)) for uuid in instances[whole])


@dataclass(frozen=True, slots=True)
class _Order:
    """The visible devices in CUDA's order, and whether CUDA itself was asked."""

    uuids: tuple[str, ...]
    asked: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def _by_variable(machine: _Machine) -> _Order:
    return _Order(machine.listed())


def _by_forcing_pci_order(machine: _Machine) -> _Order:
    return _Order(machine.listed(), environ={ORDER: "PCI_BUS_ID"})


def _by_asking_cuda(machine: _Machine) -> _Order:
    bodies = machine.ask()
    if bodies is not None:
        # CUDA gives 16 bytes, without the prefix by which NVML tells a card from a MIG instance.
        known = {card.uuid.split("-", 1)[-1].lower(): card.uuid for card in machine.usable}
        # A device that NVML doesn't list keeps its place, and so the others their numbers.
        return _Order(tuple(known.get(body.lower(), f"unlisted-{body}") for body in bodies), asked=True)
    if machine.has_mig and machine.started:
        return _Order(machine.listed())
    note = (
        "the cards differ and CUDA's order could not be asked: PCI order is assumed; "
        f"set {ORDER}=PCI_BUS_ID to make it so"
    )
    return _Order(machine.listed(), note=note)


_CASES: tuple[tuple[Callable[[_Machine], bool], Callable[[_Machine], _Order]], ...] = (
    # CUDA shows one MIG instance, and it has chosen which.
    (lambda machine: machine.has_mig and machine.started, _by_asking_cuda),
    # No integer counts in CUDA's order.
    (lambda machine: machine.names_uuids or machine.in_pci_order or machine.entries == (), _by_variable),
    # The order is still ours to set, and no integer of the user's is meant in another.
    (lambda machine: not machine.started and machine.entries is None and ORDER not in machine.environ,
     _by_forcing_pci_order),
    (lambda _machine: True, _by_asking_cuda),
)  # fmt: skip
"""The ways to find CUDA's order; the first case that applies decides."""


def resolve_cuda(
    cards: Sequence[Card], environ: Mapping[str, str], *, started: bool, ask: Callable[[], Sequence[str] | None]
) -> Visible:
    """Find out what CUDA will show this process.

    Args:
        cards: Every card of the machine in PCI order, MIG instances in the place of their card.
        environ: The environment of this process.
        started: Whether CUDA may have read that environment already.
        ask: Asks CUDA itself for the UUIDs in its order; returns None where that fails.
    """
    machine = _Machine(cards, environ, started, ask)
    order = next(find for applies, find in _CASES if applies(machine))(machine)
    value, uuids = environ.get(VARIABLE), order.uuids
    notes = [order.note] if order.note else []
    if value is not None and uuids and not order.asked and not machine.has_mig and len(uuids) < len(value.split(",")):
        notes.append(_cut_short(VARIABLE, value, len(uuids)))
    hides = value is not None and bool(machine.usable) and not uuids
    return Visible(
        uuids=uuids,
        environ=order.environ,
        pin=machine.has_mig and not started and uuids != tuple(machine.entries or ()),
        hidden_by=value if hides else None,
        malformed=hides and not _is_on_purpose(value or ""),
        notes=tuple(notes),
    )


def _is_on_purpose(value: str) -> bool:
    return value.strip() in ("", "-1")


def _cut_short(variable: str, value: str, count: int) -> str:
    return f"{variable}={value!r} is read only up to its first invalid entry: {count} of its devices count"


# --- ROCm


def resolve_rocm(cards: Sequence[Card], environ: Mapping[str, str]) -> Visible:
    """Find out what ROCm shows this process of the cards, which are in the kernel's order."""
    left = [card for card in cards if not card.trouble]
    some = bool(left)
    notes: list[str] = []
    readers = ((ROCR, _rocr_entry), (HIP if HIP in environ else VARIABLE, _hip_entry))
    for variable, read in readers:
        value = environ.get(variable)
        if value is None:
            continue
        left, whole = _apply(value, left, read)
        if some and not left:
            return Visible(uuids=(), hidden_by=value, malformed=not _is_on_purpose(value), variable=variable)
        if not whole:
            notes.append(_cut_short(variable, value, len(left)))
    names = [name for name, _ in readers if name in environ]
    return Visible(uuids=tuple(card.key for card in left), notes=tuple(notes), variable=" and ".join(names) or VARIABLE)


def _apply(
    value: str, cards: list[Card], read: Callable[[str, list[Card], list[Card]], Card | None]
) -> tuple[list[Card], bool]:
    """Return the cards that a variable leaves, and whether all of its entries count."""
    seen: list[Card] = []
    for text in value.removesuffix(",").split(",") if value else ():
        card = read(text, cards, seen)
        if card is None:
            return seen, False
        if card not in seen:
            seen.append(card)
    return seen, True


def _rocr_entry(text: str, cards: list[Card], seen: list[Card]) -> Card | None:
    """Read an entry of ROCr: a number as C's strtol, or the beginning of one UUID; none twice."""
    text = text.strip()
    if text[:1] in ("G", "g"):
        folded = text.lower()
        long_enough = len("GPU-") < len(text) <= _ROCR_UUID_LENGTH
        found = [card for card in cards if long_enough and card.uuid.lower().startswith(folded)]
    elif match := _STRTOL.fullmatch(text):
        base = 16 if match["hex"] else 10 if match["decimal"] else 8
        index = int(match["hex"] or match["decimal"] or match["octal"] or "0", base)
        found = cards[index : index + 1]
    else:
        found = []
    return found[0] if len(found) == 1 and found[0] not in seen else None


def _hip_entry(text: str, cards: list[Card], seen: list[Card]) -> Card | None:  # noqa: ARG001 - HIP skips repeated ones
    """Read an entry of HIP: a number in plain digits, or a part of a UUID (the first card)."""
    if "GPU-" in text:
        return next((card for card in cards if text in card.uuid), None)
    if not re.fullmatch("0|[1-9][0-9]{0,8}", text) or int(text) >= len(cards):
        return None
    return cards[int(text)]
