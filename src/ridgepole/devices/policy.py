"""The policy: take a card, take the CPU, or raise an error. Pure, and decided in integers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ridgepole.devices.gpus import Card
from ridgepole.devices.leases import LeaseHolder
from ridgepole.devices.probe.snapshot import DeviceSnapshot
from ridgepole.devices.request import DeviceRequest, check_entries, selects
from ridgepole.devices.visibility import Visible

_MILLION = 1_000_000
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason why a card is not taken.

    Attributes:
        code: `"trouble"`, `"hidden"`, `"rank"`, `"excluded"`, `"usage"`, `"min_free"`,
            `"processes"` or `"lease"`.
        text: The same for people.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One card under the policy.

    Attributes:
        card: The card, as it was read.
        holders: The leases on it.
        reasons: Why it is not taken; empty where it could be.
        order: The smallest is taken first.
    """

    card: Card
    holders: tuple[LeaseHolder, ...] = ()
    reasons: tuple[Reason, ...] = ()
    order: tuple[int, ...] = ()

    @property
    def eligible(self) -> bool:
        """Return whether the card can be used, is visible, and is not left out by the user."""
        return not any(reason.code in ("trouble", "hidden", "rank", "excluded") for reason in self.reasons)

    def as_row(self, *, chosen: bool = False) -> dict[str, Any]:
        """Return plain JSON values: memory in bytes, `usage` a share of 1, `util` in percent."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The result of one look at the machine.

    Attributes:
        kind: `"card"`: take `best`. `"cpu"`: take the CPU. `"busy"`: no card is free now, waiting
            may help. `"unavailable"`: no card can be used, and waiting will not help.
        why: The reason, in a sentence without a full stop.
        candidates: Every card under the policy.
        best: The card to take.
        level: The level at which `why` is logged.
    """

    kind: Literal["card", "cpu", "busy", "unavailable"]
    why: str
    candidates: tuple[Candidate, ...] = ()
    best: Candidate | None = None
    level: int = logging.INFO

    def rows(self, chosen: Card | None = None) -> tuple[dict[str, Any], ...]:
        """Return every device as a row, with one marked as chosen: by default the best."""
        marked = chosen or (self.best.card if self.best else None)
        key = None if marked is None else marked.key
        return tuple(candidate.as_row(chosen=candidate.card.key == key) for candidate in self.candidates)


def decide(
    request: DeviceRequest,
    snapshot: DeviceSnapshot,
    holders: Mapping[str, tuple[LeaseHolder, ...]],
    *,
    own_pid: int,
    local_rank: int | None = None,
) -> Decision:
    """Decide on one look at the machine.

    Args:
        request: The arguments of `Device`.
        snapshot: The look.
        holders: The leases on each card, by its key.
        own_pid: This process.
        local_rank: This process's rank on its machine; None where it is alone.

    Raises:
        ValueError: An entry of `exclude` or `only` matches nothing.
    """
    if not snapshot.cards:
        return _without_cards(request, snapshot)
    rank, why = _rank_index(request, snapshot, local_rank)
    candidates = evaluate(snapshot.cards, request, holders, own_pid=own_pid, rank=rank)
    if snapshot.wrong_build:
        return _unusable(request, snapshot.wrong_build, candidates, refuse=_must_have_card(request))
    if snapshot.seen.hidden_by is not None:
        return _hidden(request, snapshot.seen, candidates)
    check_entries(request, snapshot.cards)
    if why:
        return Decision(kind="unavailable", why=why, candidates=candidates)
    best = pick(candidates)
    if best is not None:
        return Decision(kind="card", why=_why_best(best, candidates, rank), candidates=candidates, best=best)
    hopeless = _hopeless(candidates, request)
    if hopeless:
        return _unusable(request, hopeless, candidates, refuse=request.cpu != "allow")
    return Decision(kind="busy", why=_headline(candidates, request), candidates=candidates)


# --- one card


def exceeds(used: int, total: int, limit: int) -> bool:
    """Return whether a share of memory is above a limit in parts per million, not just at it."""
    return used * _MILLION > limit * total


def evaluate(
    cards: Sequence[Card],
    request: DeviceRequest,
    holders: Mapping[str, tuple[LeaseHolder, ...]],
    *,
    own_pid: int,
    rank: int | None = None,
) -> tuple[Candidate, ...]:
    """Apply the policy to every card.

    Args:
        cards: All cards, with their indices.
        request: The arguments of `Device`.
        holders: The leases on each card, by its key.
        own_pid: This process, whose own use of a card counts as memory but not as another's
            process.
        rank: The one index that may be taken, or None for any.
    """
    found = []
    for card in cards:
        leases = holders.get(card.key, ())
        ineligible = _ineligible(card, request, rank)
        reasons = (ineligible,) if ineligible else tuple(_busy(card, request, leases, own_pid))
        order = _order(card, request, len(leases), own_pid)
        found.append(Candidate(card=card, holders=leases, reasons=reasons, order=order))
    return tuple(found)


def pick(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the best of the cards that may be taken, or None."""
    return min((one for one in candidates if not one.reasons), key=lambda one: one.order, default=None)


def _ineligible(card: Card, request: DeviceRequest, rank: int | None) -> Reason | None:
    if card.trouble:
        return Reason("trouble", card.trouble)
    if card.index is None:
        return Reason("hidden", f"hidden by {card.hidden or 'the environment'}")
    if rank is not None and card.index != rank:
        return Reason("rank", f"this process is local rank {rank}")
    if any(selects(entry, card) for entry in request.exclude):
        return Reason("excluded", "excluded")
    if request.only is not None and not any(selects(entry, card) for entry in request.only):
        return Reason("excluded", "not in only")
    return None


def _busy(card: Card, request: DeviceRequest, holders: tuple[LeaseHolder, ...], own_pid: int) -> list[Reason]:
    reasons: list[Reason] = []
    if card.used is not None and card.total and exceeds(card.used, card.total, request.limit):
        reasons.append(Reason("usage", f"above {request.percent}"))
    if request.min_free is not None and (card.free is None or card.free < request.min_free):
        free = "an unknown amount" if card.free is None else f"{card.free / _GIB:.1f} GiB"
        reasons.append(Reason("min_free", f"{free} free of the {request.min_free / _GIB:.1f} GiB asked for"))
    computing = card.computing(own_pid)
    if request.max_processes is not None and (computing is None or computing > request.max_processes):
        count = "an unknown number of" if computing is None else str(computing)
        reasons.append(Reason("processes", f"{count} processes, at most {request.max_processes} allowed"))
    exclusive = [holder for holder in holders if holder.exclusive or request.lease == "exclusive"]
    if exclusive and request.lease != "off":
        reasons.append(Reason("lease", f"leased by {exclusive[0].describe(own_pid)}"))
    return reasons


def _order(card: Card, request: DeviceRequest, leases: int, own_pid: int) -> tuple[int, ...]:
    """Return the key by which cards are compared; a card of unknown memory comes last."""
    used, free, total = card.used, card.free, card.total
    unknown = used is None or free is None or not total
    # In buckets of 1 %, so that a few megabytes of a driver don't outweigh what comes after.
    bucket = 101 if unknown or used is None or not total else used * 100 // total
    second = {
        "usage": bucket,
        "free": -(free or 0),
        "util": 101 if card.util is None else card.util,
    }[request.prefer]
    computing = card.computing(own_pid)
    processes = 2**31 if computing is None else computing
    index = card.place if card.index is None else card.index
    return (int(unknown), leases, second, processes, -(free or 0), index)


# --- all cards


def _headline(candidates: tuple[Candidate, ...], request: DeviceRequest) -> str:
    """Return the first line of the error of no free card: the common reason, or counts."""
    first = [candidate.reasons[0].code for candidate in candidates if candidate.eligible]
    common = {
        "usage": f"All devices are using more than {request.percent} of VRAM",
        "min_free": "No device has as much VRAM free as min_free asks for",
        "processes": f"All devices run more than max_processes={request.max_processes} processes",
        "lease": "All devices are leased",
    }
    if len(set(first)) == 1:
        return common[first[0]]
    phrases = {
        "usage": f"use more than {request.percent} of VRAM",
        "min_free": "lack free VRAM",
        "processes": "run too many processes",
        "lease": "leased",
        "excluded": "left out by exclude or only",
        "trouble": "out of order",
        "hidden": "hidden",
        "rank": "for other ranks",
    }
    codes = first or [candidate.reasons[0].code for candidate in candidates]
    parts = [f"{codes.count(code)} {phrase}" for code, phrase in phrases.items() if code in codes]
    return f"No device can be taken: {', '.join(parts)}"


def _hopeless(candidates: tuple[Candidate, ...], request: DeviceRequest) -> str:
    """Return why waiting can't help: no card is eligible or large enough. Empty where it can."""
    eligible = [candidate.card for candidate in candidates if candidate.eligible]
    if not eligible:
        left_out = any(reason.code == "excluded" for candidate in candidates for reason in candidate.reasons)
        hint = "; leave something out of exclude, or add to only" if left_out else ""
        return _headline(candidates, request) + hint
    totals = [card.total for card in eligible if card.total is not None]
    if request.min_free is None or len(totals) < len(eligible) or max(totals) >= request.min_free:
        return ""
    return (
        f"min_free asks for {request.min_free / _GIB:.1f} GiB, and the largest device that may be taken has "
        f"{max(totals) / _GIB:.1f} GiB in all"
    )


def _without_cards(request: DeviceRequest, snapshot: DeviceSnapshot) -> Decision:
    if snapshot.trouble:
        return _unusable(request, snapshot.trouble, (), refuse=request.cpu != "allow")
    why = f"no accelerator ({snapshot.absent})" if snapshot.absent else "no accelerator"
    if request.cpu == "never":
        return Decision(kind="unavailable", why=f"{why}, and cpu='never' forbids the CPU")
    if request.cpu == "auto":
        # The CPU must not silently replace a card that was asked for by name.
        check_entries(DeviceRequest(only=request.only), ())
    return Decision(kind="cpu", why=why)


def _unusable(request: DeviceRequest, why: str, candidates: tuple[Candidate, ...], *, refuse: bool) -> Decision:
    if refuse:
        hint = "" if request.cpu == "never" else "; cpu='allow' continues without it"
        return Decision(kind="unavailable", why=f"{why}{hint}", candidates=candidates)
    return Decision(kind="cpu", why=why, candidates=candidates, level=logging.WARNING)


def _hidden(request: DeviceRequest, seen: Visible, candidates: tuple[Candidate, ...]) -> Decision:
    value = f"{seen.variable}={seen.hidden_by!r}"
    count = f"{len(candidates)} device{'s' if len(candidates) > 1 else ''}"
    if seen.malformed:
        why = f"{value} names no device of this machine first, or one of them twice, and so hides all: {count} hidden"
        return _unusable(request, why, candidates, refuse=request.cpu != "allow")
    why = f"{value} hides every device: {count} hidden"
    return _unusable(request, why, candidates, refuse=_must_have_card(request))


def _must_have_card(request: DeviceRequest) -> bool:
    """Return whether the CPU, even with a warning, would not be what was asked for."""
    return request.cpu == "never" or (request.cpu == "auto" and request.only is not None)


def _rank_index(request: DeviceRequest, snapshot: DeviceSnapshot, local_rank: int | None) -> tuple[int | None, str]:
    """Return the one index that this rank may take, and the problem where it can't take one."""
    rank = request.rank if isinstance(request.rank, int) else local_rank if request.rank == "auto" else None
    if rank is None:
        return None, ""
    indices = [card.index for card in snapshot.cards if card.index is not None]
    if len(indices) == 1:
        return indices[0], ""  # the launcher shows each rank one card
    if indices and rank not in indices:
        return rank, f"this process is local rank {rank}, but it sees only {len(indices)} devices; start fewer ranks"
    return rank, ""


def _why_best(best: Candidate, candidates: tuple[Candidate, ...], rank: int | None) -> str:
    if rank is not None:
        return f"it is the device of local rank {rank}"
    card, free = best.card, [candidate for candidate in candidates if not candidate.reasons]
    used = f"{100 * card.used / card.total:.0f} % used" if card.total and card.used is not None else "memory unknown"
    leases = f"{len(best.holders)} lease{'' if len(best.holders) == 1 else 's'}"
    among = "the only one that can be taken" if len(free) == 1 else f"the best of {len(free)}"
    return f"{among}: {used}, {leases}"
