"""Which card is taken: a pure decision on frozen readings, in integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ridgepole.permanences.device.cards import Card
from ridgepole.permanences.device.leases import Holder
from ridgepole.permanences.device.wish import Wish, selects

_MILLION = 1_000_000
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a card is not taken.

    Attributes:
        code: `"trouble"`, `"hidden"`, `"rank"`, `"excluded"`, `"usage"`, `"min_free"`, `"processes"` or `"lease"`.
        text: The same for people.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rule says of one card.

    Attributes:
        card: The card, as it was read.
        holders: The leases on it.
        reasons: Why it is not taken; empty where it could be.
        order: The smallest is taken first.
    """

    card: Card
    holders: tuple[Holder, ...] = ()
    reasons: tuple[Reason, ...] = ()
    order: tuple[int, ...] = ()

    @property
    def candidate(self) -> bool:
        """Whether the card was in question at all: usable, visible, and not left out by the user."""
        return not any(reason.code in ("trouble", "hidden", "rank", "excluded") for reason in self.reasons)

    def as_row(self, *, chosen: bool = False) -> dict[str, Any]:
        """The verdict as plain JSON values; memory in bytes, `usage` a share of 1, `util` in percent."""
        card = self.card
        return {
            "device": card.label,
            "index": card.index,
            "place": card.place,
            "uuid": card.uuid,
            "name": card.name,
            "total_bytes": card.total,
            "used_bytes": card.used,
            "free_bytes": card.free,
            "usage": round(card.used / card.total, 6) if card.total and card.used is not None else None,
            "util": card.util,
            "processes": None
            if card.processes is None
            else [{"pid": one.pid, "used_bytes": one.used, "graphics": one.graphics} for one in card.processes],
            "leases": [holder.as_dict() for holder in self.holders],
            "verdict": "chosen" if chosen else "rejected" if self.reasons else "free",
            "reason": "; ".join(reason.text for reason in self.reasons) or card.doubt,
            "source": card.source,
        }


def exceeds(used: int, total: int, limit: int) -> bool:
    """Whether a share of memory is above a limit; exactly at it is not.

    Args:
        used: Bytes that are not free.
        total: Bytes in all.
        limit: The limit in parts per million.
    """
    return used * _MILLION > limit * total


def judge(
    cards: Sequence[Card],
    wish: Wish,
    holders: Mapping[str, tuple[Holder, ...]],
    *,
    own_pid: int,
    rank: int | None = None,
) -> tuple[Verdict, ...]:
    """Applies the rule to every card.

    Args:
        cards: All cards, with their indices.
        wish: What the user asks for.
        holders: The leases on each card, by its key.
        own_pid: This process, whose own use of a card counts as memory but not as another's process.
        rank: The one index that may be taken, or None for any.

    Returns:
        One verdict a card, in the order of the cards.
    """
    return tuple(_judge_one(card, wish, holders.get(card.key, ()), own_pid, rank) for card in cards)


def pick(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The best of the cards that may be taken, or None."""
    return min((verdict for verdict in verdicts if not verdict.reasons), key=lambda one: one.order, default=None)


def _judge_one(card: Card, wish: Wish, holders: tuple[Holder, ...], own_pid: int, rank: int | None) -> Verdict:
    barred = _barred(card, wish, rank)
    reasons = (barred,) if barred else tuple(_busy(card, wish, holders, own_pid))
    return Verdict(card, holders, reasons, _order(card, wish, len(holders), own_pid))


def _barred(card: Card, wish: Wish, rank: int | None) -> Reason | None:
    if card.trouble:
        return Reason("trouble", card.trouble)
    if card.index is None:
        return Reason("hidden", f"hidden by {card.hidden or 'the environment'}")
    if rank is not None and card.index != rank:
        return Reason("rank", f"this process is local rank {rank}")
    if any(selects(entry, card) for entry in wish.exclude):
        return Reason("excluded", "excluded")
    if wish.only is not None and not any(selects(entry, card) for entry in wish.only):
        return Reason("excluded", "not in only")
    return None


def _busy(card: Card, wish: Wish, holders: tuple[Holder, ...], own_pid: int) -> list[Reason]:
    reasons: list[Reason] = []
    if card.used is not None and card.total and exceeds(card.used, card.total, wish.limit):
        reasons.append(Reason("usage", f"above {wish.percent}"))
    if wish.min_free is not None and (card.free is None or card.free < wish.min_free):
        free = "an unknown amount" if card.free is None else f"{card.free / GIB:.1f} GiB"
        reasons.append(Reason("min_free", f"{free} free of the {wish.min_free / GIB:.1f} GiB asked for"))
    computing = card.computing(own_pid)
    if wish.max_processes is not None and (computing is None or computing > wish.max_processes):
        count = "an unknown number of" if computing is None else str(computing)
        reasons.append(Reason("processes", f"{count} processes, at most {wish.max_processes} allowed"))
    exclusive = [holder for holder in holders if holder.exclusive or wish.lease == "exclusive"]
    if exclusive and wish.lease != "off":
        reasons.append(Reason("lease", f"leased by {exclusive[0].describe(own_pid)}"))
    return reasons


def _order(card: Card, wish: Wish, leases: int, own_pid: int) -> tuple[int, ...]:
    """The key by which cards are compared; a card of which nothing is known comes after all others."""
    used, free, total = card.used, card.free, card.total
    unknown = used is None or free is None or not total
    # In buckets of 1 %, so that a few megabytes of a driver don't outweigh what comes after.
    bucket = 101 if unknown or used is None or not total else used * 100 // total
    second = {
        "usage": bucket,
        "free": -(free or 0),
        "util": 101 if card.util is None else card.util,
    }[wish.prefer]
    computing = card.computing(own_pid)
    processes = 2**31 if computing is None else computing
    index = card.place if card.index is None else card.index
    return (int(unknown), leases, second, processes, -(free or 0), index)
