"""Which AMD cards this process sees, and in what order: the variables as ROCm reads them.

`ROCR_VISIBLE_DEVICES` is applied first, by the lower layer (ROCr, `amd_filter_device.cpp`). `HIP_VISIBLE_DEVICES`, or
where it is not set `CUDA_VISIBLE_DEVICES`, then counts in what is left (HIP, `rocdevice.cpp`; ROCm documentation, "GPU
isolation techniques"). Each stops at its first invalid entry. One that is set and empty hides everything: HIP alone
would ignore it, but torch doesn't, nor did whoever wrote it mean "all".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ridgepole.permanences.device.cards import Card
from ridgepole.permanences.device.visible import VARIABLE as CUDA
from ridgepole.permanences.device.visible import Visible

ROCR = "ROCR_VISIBLE_DEVICES"
HIP = "HIP_VISIBLE_DEVICES"
_STRTOL = re.compile(
    r"\+?(?:0x(?P<hex>[0-9a-f]{1,8})|0(?P<octal>[0-7]{0,8})|(?P<decimal>[1-9][0-9]{0,8}))", re.IGNORECASE
)
_UUID_LENGTH = len("GPU-") + 16


def resolve(cards: Sequence[Card], environ: Mapping[str, str]) -> Visible:
    """Finds out what ROCm shows this process.

    Args:
        cards: Every card in the kernel's order.
        environ: The environment of this process.

    Returns:
        The cards' keys in HIP's order.
    """
    left = [card for card in cards if not card.trouble]
    some = bool(left)
    notes: list[str] = []
    readers = ((ROCR, _rocr_reads), (HIP if HIP in environ else CUDA, _hip_reads))
    for variable, read in readers:
        value = environ.get(variable)
        if value is None:
            continue
        left, whole = _apply(value, left, read)
        if some and not left:
            malformed = value.strip() not in ("", "-1")
            return Visible((), hidden_by=value, malformed=malformed, variable=variable)
        if not whole:
            notes.append(
                f"{variable}={value!r} is read only up to its first invalid entry: {len(left)} of its devices count"
            )
    names = [name for name, _ in readers if name in environ]
    return Visible(tuple(card.key for card in left), notes=tuple(notes), variable=" and ".join(names) or CUDA)


def _apply(
    value: str, cards: list[Card], read: Callable[[str, list[Card], list[Card]], Card | None]
) -> tuple[list[Card], bool]:
    """The cards that a variable leaves, and whether all of its entries count."""
    seen: list[Card] = []
    for text in value.removesuffix(",").split(",") if value else ():
        card = read(text, cards, seen)
        if card is None:
            return seen, False
        if card not in seen:
            seen.append(card)
    return seen, True


def _rocr_reads(text: str, cards: list[Card], seen: list[Card]) -> Card | None:
    """An entry of ROCr: a number as C's strtol reads it, or the beginning of one UUID; a repeated one ends the list."""
    text = text.strip()
    if text[:1] in ("G", "g"):
        folded = text.lower()
        long_enough = len("GPU-") < len(text) <= _UUID_LENGTH
        found = [card for card in cards if long_enough and card.uuid.lower().startswith(folded)]
    elif match := _STRTOL.fullmatch(text):
        base = 16 if match["hex"] else 10 if match["decimal"] else 8
        index = int(match["hex"] or match["decimal"] or match["octal"] or "0", base)
        found = cards[index : index + 1]
    else:
        found = []
    return found[0] if len(found) == 1 and found[0] not in seen else None


def _hip_reads(text: str, cards: list[Card], seen: list[Card]) -> Card | None:  # noqa: ARG001 - HIP passes over repeated ones
    """An entry of HIP: a number in plain digits, or a part of a UUID, the first that has it."""
    if "GPU-" in text:
        return next((card for card in cards if text in card.uuid), None)
    if not re.fullmatch("0|[1-9][0-9]{0,8}", text) or int(text) >= len(cards):
        return None
    return cards[int(text)]
