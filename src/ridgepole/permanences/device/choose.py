"""Choosing: look, decide, take the lease, all under one short lock; wait where that was asked for."""

from __future__ import annotations

import datetime as dt
import logging
import os
import time
from dataclasses import dataclass
from typing import Any

from ridgepole.errors import DeviceUnavailableError, DeviceWaitTimeout, VRAMUsageError
from ridgepole.permanences.device import host, ranks, report, visible
from ridgepole.permanences.device.cards import OWN_PROCESS, Card
from ridgepole.permanences.device.decide import Outcome, decide
from ridgepole.permanences.device.leases import Board, Holder, Lease
from ridgepole.permanences.device.observe import Observer, Scene, observing
from ridgepole.permanences.device.visible import Visible
from ridgepole.permanences.device.wish import Wish

log = logging.getLogger("ridgepole.device")

_POLL_S = 2.0
_SAY_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen.

    Attributes:
        name: What torch calls it: `"cuda:1"`, `"cpu"`.
        index: The number in it, or None for the CPU.
        card: The card as it was read, or None for the CPU.
        why: Why this one.
        rows: Every device with its verdict, as plain JSON values.
        notes: What a person should know.
        seen: Which cards CUDA shows this process after the choice.
        lease: The lease on the card, or None.
    """

    name: str
    index: int | None = None
    card: Card | None = None
    why: str = ""
    rows: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    seen: Visible | None = None
    lease: Lease | None = None


def choose(wish: Wish, *, run_id: str = "") -> Selection:
    """Chooses a device and takes its lease.

    Args:
        wish: What the user asks for.
        run_id: The run that the lease is for; empty in a plain script.

    Returns:
        What was chosen.

    Raises:
        VRAMUsageError: If no card can be taken now.
        DeviceWaitTimeout: If none could for as long as `wait` allows.
        DeviceUnavailableError: If a card is there and can't be used.
        ValueError: If an entry of `exclude` or `only` matches nothing.
    """
    if wish.cpu == "force":
        return Selection("cpu", why="cpu='force'")
    board = Board()
    deadline = None if wish.wait is None else time.monotonic() + wish.wait
    said = -float("inf")
    with observing() as observer:
        while True:
            scene, outcome, lease = _attempt(observer, wish, board, run_id)
            if outcome.kind != "busy":
                return _conclude(scene, outcome, lease)
            left = 0.0 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return _give_up(wish, scene, outcome)
            if time.monotonic() - said >= _SAY_AGAIN_S:
                said = time.monotonic()
                log.warning(
                    "waiting up to %.0f s for a device: %s\n%s", left, outcome.why, report.table(best_rows(outcome))
                )
            import random

            # Jitter: those who wait for one card must not all look at the same moment.
            time.sleep(min(left, _POLL_S, (wish.wait or 0) / 10 + 0.01) * random.uniform(0.5, 1.0))  # noqa: S311


def look_again(wish: Wish, seen: Visible | None) -> tuple[Scene, Outcome]:
    """Reads every device now, for a choice that was made already: takes no lease.

    Args:
        wish: What the user asks for.
        seen: What CUDA shows this process, so that it need not be found out again.
    """
    with observing(seen) as observer:
        return look(observer, wish, Board())


def renew(wish: Wish, card: Card, *, run_id: str = "") -> Lease | None:
    """Takes a lost lease again, such as one whose file was removed.

    Args:
        wish: What the user asked for.
        card: The card.
        run_id: The run that the lease is for.

    Returns:
        The new lease, or None where the directory can't be written.

    Raises:
        DeviceUnavailableError: If another process holds a lease that can't be shared with this one.
    """
    board = Board()
    with board.lock():
        others = [holder for holder in board.holders(card.key) if holder.pid != os.getpid()]
        for holder in others:
            if holder.exclusive or wish.lease == "exclusive":
                raise DeviceUnavailableError(
                    f"the lease on {card.label} was lost, and {holder.describe(os.getpid())} has the card now"
                )
        return board.take(card.key, _holder(wish, run_id))


def rows_of(outcome: Outcome, chosen: Card | None) -> tuple[dict[str, Any], ...]:
    """Every device of a look with its verdict, the one marked that was chosen before."""
    key = None if chosen is None else chosen.key
    return tuple(verdict.as_row(chosen=verdict.card.key == key) for verdict in outcome.verdicts)


def look(observer: Observer, wish: Wish, board: Board) -> tuple[Scene, Outcome]:
    """Reads every device and decides, without taking anything."""
    scene = observer.look(util=wish.prefer == "util")
    holders = board.holders_of(card.key for card in scene.cards)
    place = ranks.local(os.environ)
    return scene, decide(wish, scene, holders, own_pid=os.getpid(), place=place)


def _attempt(observer: Observer, wish: Wish, board: Board, run_id: str) -> tuple[Scene, Outcome, Lease | None]:
    """One look, and the lease where a card was found; both under the lock, so that no two starts see the same."""
    if not observer.prepare() or wish.lease == "off":
        return *look(observer, wish, board), None
    with board.lock():
        scene, outcome = look(observer, wish, board)
        if outcome.kind != "card" or outcome.best is None:
            return scene, outcome, None
        return scene, outcome, board.take(outcome.best.card.key, _holder(wish, run_id))


def _holder(wish: Wish, run_id: str) -> Holder:
    return Holder(
        pid=os.getpid(),
        user=host.user_name(),
        start=dt.datetime.now().astimezone().isoformat(timespec="seconds"),
        min_free=wish.min_free,
        exclusive=wish.lease == "exclusive",
        run=run_id,
    )


def _conclude(scene: Scene, outcome: Outcome, lease: Lease | None) -> Selection:
    for note in scene.notes:
        log.warning("%s", note)
    if outcome.kind == "unavailable":
        text = f"{outcome.why}\n{report.table(best_rows(outcome))}" if outcome.verdicts else outcome.why
        raise DeviceUnavailableError(text)
    if outcome.kind == "cpu" or outcome.best is None:
        log.log(outcome.level, "device: cpu, %s", outcome.why)
        return Selection("cpu", why=outcome.why, rows=best_rows(outcome), notes=scene.notes)
    card = outcome.best.card
    name, environ = torch_name(scene, card)
    os.environ.update(environ)
    if card.source == OWN_PROCESS:
        log.warning(
            "device %s was chosen by this process's own memory alone: no library of its driver tells what other "
            "processes use, so it may be full",
            name,
        )
    log.info("device: %s %s %s, %s", name, card.name, card.uuid, outcome.why)
    index = int(name.partition(":")[2])
    seen = Visible((card.uuid,)) if scene.seen.pin else scene.seen
    return Selection(name, index, card, outcome.why, best_rows(outcome), scene.notes, seen, lease)


def torch_name(scene: Scene, card: Card) -> tuple[str, dict[str, str]]:
    """What torch will call a card, and the variables that must be set before CUDA starts to make that true."""
    if scene.seen.pin:
        return "cuda:0", {visible.VARIABLE: card.uuid}
    return f"{card.kind}:{card.index}", dict(scene.seen.environ)


def _give_up(wish: Wish, scene: Scene, outcome: Outcome) -> Selection:
    """No card is free, and there is no time left to wait for one."""
    rows = best_rows(outcome)
    if wish.cpu == "allow":
        log.warning("device: cpu, because cpu='allow' and %s\n%s", outcome.why, report.table(rows))
        return Selection("cpu", why=outcome.why, rows=rows, notes=scene.notes)
    codes = [reason.code for verdict in outcome.verdicts for reason in verdict.reasons]
    waited = [] if wish.wait is None else [f"  waited {wish.wait:g} s"]
    lines = [outcome.why, *waited, report.table(rows), *(f"  {note}" for note in scene.notes)]
    text = "\n".join([*lines, f"  {report.advice(codes, wish.percent)}"])
    raise (VRAMUsageError if wish.wait is None else DeviceWaitTimeout)(text, rows)


def best_rows(outcome: Outcome) -> tuple[dict[str, Any], ...]:
    """Every device of a look with its verdict, the best one marked."""
    return rows_of(outcome, outcome.best.card if outcome.best else None)
