"""What follows from one look: a card, the CPU, or an error. Pure, so that every case can be tried on recorded looks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ridgepole.permanences.device import ranks
from ridgepole.permanences.device.leases import Holder
from ridgepole.permanences.device.observe import Scene
from ridgepole.permanences.device.rule import GIB, Verdict, judge, pick
from ridgepole.permanences.device.visible import Visible
from ridgepole.permanences.device.wish import Wish, check_entries

Kind = Literal["card", "cpu", "busy", "unavailable"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from one look.

    Attributes:
        kind: `"card"`: take `best`. `"cpu"`: take the CPU. `"busy"`: nothing is free now, waiting may help.
            `"unavailable"`: nothing can be used, and waiting will not help.
        why: The reason, in a sentence without a full stop.
        verdicts: What the rule says of each card.
        best: The card to take.
        level: How loudly `why` is to be logged.
    """

    kind: Kind
    why: str
    verdicts: tuple[Verdict, ...] = ()
    best: Verdict | None = None
    level: int = logging.INFO


def decide(
    wish: Wish,
    scene: Scene,
    holders: Mapping[str, tuple[Holder, ...]],
    *,
    own_pid: int,
    place: ranks.Local | None = None,
) -> Outcome:
    """Decides on one look at the machine.

    Args:
        wish: What the user asks for.
        scene: The look.
        holders: The leases on each card, by its key.
        own_pid: This process.
        place: This process's place among the ranks of the machine, or None.

    Returns:
        What follows.

    Raises:
        ValueError: If an entry of `exclude` or `only` matches nothing.
    """
    if not scene.cards:
        return _without_cards(wish, scene)
    rank, why = _rank_index(wish, scene, place)
    verdicts = judge(scene.cards, wish, holders, own_pid=own_pid, rank=rank)
    if scene.wrong_build:
        return _unusable(wish, scene.wrong_build, verdicts, refuse=_must_have_card(wish))
    if scene.seen.hidden_by is not None:
        return _hidden(wish, scene.seen, verdicts)
    check_entries(wish, scene.cards)
    if why:
        return Outcome("unavailable", why, verdicts)
    best = pick(verdicts)
    if best is not None:
        return Outcome("card", _praise(best, verdicts, rank), verdicts, best)
    hopeless = _hopeless(verdicts, wish)
    if hopeless:
        return _unusable(wish, hopeless, verdicts, refuse=wish.cpu != "allow")
    return Outcome("busy", headline(verdicts, wish), verdicts)


def headline(verdicts: tuple[Verdict, ...], wish: Wish) -> str:
    """The first line of the error where no card can be taken: the common reason, or a count of each."""
    asked = [verdict for verdict in verdicts if verdict.candidate]
    first = [verdict.reasons[0].code for verdict in asked]
    lines = {
        "usage": f"All devices are using more than {wish.percent} of VRAM",
        "min_free": "No device has as much VRAM free as min_free asks for",
        "processes": f"All devices run more than max_processes={wish.max_processes} processes",
        "lease": "All devices are leased",
    }
    if len(set(first)) == 1:
        return lines[first[0]]
    phrases = {
        "usage": f"use more than {wish.percent} of VRAM",
        "min_free": "lack free VRAM",
        "processes": "run too many processes",
        "lease": "leased",
        "excluded": "left out by exclude or only",
        "trouble": "out of order",
        "hidden": "hidden",
        "rank": "for other ranks",
    }
    codes = first or [verdict.reasons[0].code for verdict in verdicts]
    parts = [f"{codes.count(code)} {phrase}" for code, phrase in phrases.items() if code in codes]
    return f"No device can be taken: {', '.join(parts)}"


def _hopeless(verdicts: tuple[Verdict, ...], wish: Wish) -> str:
    """Why waiting could not help: nothing is in question, or nothing is large enough; empty where it could."""
    asked = [verdict.card for verdict in verdicts if verdict.candidate]
    if not asked:
        left_out = any(reason.code == "excluded" for verdict in verdicts for reason in verdict.reasons)
        return headline(verdicts, wish) + ("; leave something out of exclude, or add to only" if left_out else "")
    totals = [card.total for card in asked if card.total is not None]
    if wish.min_free is None or len(totals) < len(asked) or max(totals) >= wish.min_free:
        return ""
    return (
        f"min_free asks for {wish.min_free / GIB:.1f} GiB, and the largest device that may be taken has "
        f"{max(totals) / GIB:.1f} GiB in all"
    )


def _without_cards(wish: Wish, scene: Scene) -> Outcome:
    if scene.trouble:
        return _unusable(wish, scene.trouble, (), refuse=wish.cpu != "allow")
    why = f"no accelerator ({scene.absent})" if scene.absent else "no accelerator"
    if wish.cpu == "never":
        return Outcome("unavailable", f"{why}, and cpu='never' forbids the CPU")
    if wish.cpu == "auto":
        # A CPU instead of a card that was asked for by name would be a silent one; nothing needs excluding.
        check_entries(Wish(only=wish.only), ())
    return Outcome("cpu", why)


def _unusable(wish: Wish, why: str, verdicts: tuple[Verdict, ...], *, refuse: bool) -> Outcome:
    if refuse:
        hint = "" if wish.cpu == "never" else "; cpu='allow' goes on without it"
        return Outcome("unavailable", f"{why}{hint}", verdicts)
    return Outcome("cpu", why, verdicts, level=logging.WARNING)


def _hidden(wish: Wish, seen: Visible, verdicts: tuple[Verdict, ...]) -> Outcome:
    value = f"{seen.variable}={seen.hidden_by!r}"
    count = f"{len(verdicts)} device{'s' if len(verdicts) > 1 else ''}"
    if seen.malformed:
        why = f"{value} names no device of this machine first, or one of them twice, and so hides all: {count} hidden"
        return _unusable(wish, why, verdicts, refuse=wish.cpu != "allow")
    why = f"{value} hides every device: {count} hidden"
    return _unusable(wish, why, verdicts, refuse=_must_have_card(wish))


def _must_have_card(wish: Wish) -> bool:
    """Whether the CPU, even with a warning, would not be what was asked for."""
    return wish.cpu == "never" or (wish.cpu == "auto" and wish.only is not None)


def _rank_index(wish: Wish, scene: Scene, place: ranks.Local | None) -> tuple[int | None, str]:
    """The one index that this rank may take, and what is wrong where there is none."""
    rank = wish.rank if isinstance(wish.rank, int) else place.rank if place and wish.rank == "auto" else None
    if rank is None:
        return None, ""
    indices = [card.index for card in scene.cards if card.index is not None]
    if len(indices) == 1:
        return indices[0], ""  # the launcher shows each rank one card
    if indices and rank not in indices:
        return rank, f"this process is local rank {rank}, but it sees only {len(indices)} devices; start fewer ranks"
    return rank, ""


def _praise(best: Verdict, verdicts: tuple[Verdict, ...], rank: int | None) -> str:
    if rank is not None:
        return f"it is the device of local rank {rank}"
    card, free = best.card, [verdict for verdict in verdicts if not verdict.reasons]
    used = f"{100 * card.used / card.total:.0f} % used" if card.total and card.used is not None else "memory unknown"
    leases = f"{len(best.holders)} lease{'' if len(best.holders) == 1 else 's'}"
    among = "the only one that can be taken" if len(free) == 1 else f"the best of {len(free)}"
    return f"{among}: {used}, {leases}"
