"""Choose a device: look, decide and take the lease under one short lock; wait if asked to."""

from __future__ import annotations

import datetime as dt
import logging
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ridgepole.devices import host, report, visibility
from ridgepole.devices.gpus import OWN_PROCESS, Card
from ridgepole.devices.leases import LeaseHolder, LeaseRegistry
from ridgepole.devices.policy import Decision, decide
from ridgepole.devices.probe.snapshot import DeviceSnapshot, Prober, probing
from ridgepole.devices.request import DeviceRequest
from ridgepole.devices.visibility import Visible
from ridgepole.errors import DeviceUnavailableError, DeviceWaitTimeout, VRAMUsageError
from ridgepole.files import Flock
from ridgepole.launch import local_place

log = logging.getLogger("ridgepole.device")

_POLL_S = 2.0
_WARN_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The chosen device.

    Attributes:
        name: Torch's name of it: `"cuda:1"`, `"cpu"`.
        index: The number in it, or None for the CPU.
        card: The card as it was read, or None for the CPU.
        why: Why this one.
        rows: Every device with its verdict, as plain JSON values.
        notes: Remarks for the user.
        seen: The cards that CUDA shows this process after the choice.
        lease: The lease on the card, or None.
        environ: Variables that make `name` true, to be set before CUDA starts in this process.
        alone: Variables with which a child process sees this card only.
    """

    name: str
    index: int | None = None
    card: Card | None = None
    why: str = ""
    rows: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    seen: Visible | None = None
    lease: Flock | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    alone: Mapping[str, str] = field(default_factory=dict)


def choose(request: DeviceRequest, *, run_id: str = "") -> Selection:
    """Choose a device and take its lease for a run, or for a plain script.

    Raises:
        VRAMUsageError: No card can be taken now.
        DeviceWaitTimeout: No card could be taken for as long as `wait` allows.
        DeviceUnavailableError: A card is there and can't be used.
        ValueError: An entry of `exclude` or `only` matches nothing.
    """
    if request.cpu == "force":
        return Selection(name="cpu", why="cpu='force'")
    registry = LeaseRegistry()
    deadline = None if request.wait is None else time.monotonic() + request.wait
    warned = -float("inf")
    with probing() as prober:
        while True:
            snapshot, decision, lease = _attempt(prober, request, registry, run_id)
            if decision.kind != "busy":
                return _conclude(snapshot, decision, lease)
            left = 0.0 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return _give_up(request, snapshot, decision)
            if time.monotonic() - warned >= _WARN_AGAIN_S:
                warned = time.monotonic()
                table = report.table(decision.rows())
                log.warning("waiting up to %.0f s for a device: %s\n%s", left, decision.why, table)
            # Jitter: processes that wait for one card must not all look at the same moment.
            pause = min(left, _POLL_S, (request.wait or 0) / 10 + 0.01)
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311


def look_again(request: DeviceRequest, seen: Visible | None) -> tuple[DeviceSnapshot, Decision]:
    """Read every device now for a choice that was already made, without taking a lease.

    `seen` is what CUDA shows this process, so that it need not be found out again.
    """
    with probing(seen) as prober:
        return look(prober, request, LeaseRegistry())


def renew(request: DeviceRequest, card: Card, *, run_id: str = "") -> Flock | None:
    """Take a lost lease again; return None where the directory can't be written.

    Raises:
        DeviceUnavailableError: Another process holds a lease that can't be shared with this one.
    """
    registry = LeaseRegistry()
    with registry.lock():
        for holder in registry.holders([card.key])[card.key]:
            if holder.pid != os.getpid() and (holder.exclusive or request.lease == "exclusive"):
                raise DeviceUnavailableError(
                    f"the lease on {card.label} was lost, and {holder.describe(os.getpid())} has the card now"
                )
        return registry.take(card.key, _holder(request, run_id))


def look(prober: Prober, request: DeviceRequest, registry: LeaseRegistry) -> tuple[DeviceSnapshot, Decision]:
    """Read every device and decide, without taking anything."""
    snapshot = prober.snapshot(util=request.prefer == "util")
    holders = registry.holders(card.key for card in snapshot.cards)
    place = local_place(os.environ)
    local_rank = None if place is None else place[0]
    return snapshot, decide(request, snapshot, holders, own_pid=os.getpid(), local_rank=local_rank)


def torch_name(snapshot: DeviceSnapshot, card: Card) -> tuple[str, dict[str, str]]:
    """Return torch's name of a card, and the variables that make it true once CUDA starts."""
    if snapshot.seen.pin:
        return "cuda:0", {visibility.VARIABLE: card.uuid}
    return f"{card.kind}:{card.index}", dict(snapshot.seen.environ)


def _attempt(
    prober: Prober, request: DeviceRequest, registry: LeaseRegistry, run_id: str
) -> tuple[DeviceSnapshot, Decision, Flock | None]:
    """Look once and take the lease; both under the lock, so that no two starts see the same."""
    if not prober.prepare() or request.lease == "off":
        return *look(prober, request, registry), None
    with registry.lock():
        snapshot, decision = look(prober, request, registry)
        if decision.best is None:
            return snapshot, decision, None
        return snapshot, decision, registry.take(decision.best.card.key, _holder(request, run_id))


def _holder(request: DeviceRequest, run_id: str) -> LeaseHolder:
    return LeaseHolder(
        pid=os.getpid(),
        user=host.user_name(os.getuid()),
        start=dt.datetime.now().astimezone().isoformat(timespec="seconds"),
        min_free=request.min_free,
        exclusive=request.lease == "exclusive",
        run=run_id,
    )


def _conclude(snapshot: DeviceSnapshot, decision: Decision, lease: Flock | None) -> Selection:
    notes, rows = snapshot.seen.notes, decision.rows()
    for note in notes:
        log.warning("%s", note)
    if decision.kind == "unavailable":
        raise DeviceUnavailableError(f"{decision.why}\n{report.table(rows)}" if rows else decision.why)
    if decision.best is None:
        log.log(decision.level, "device: cpu, %s", decision.why)
        return Selection(name="cpu", why=decision.why, rows=rows, notes=notes)
    card = decision.best.card
    name, environ = torch_name(snapshot, card)
    if card.source == OWN_PROCESS:
        log.warning(
            "device %s was chosen by this process's own memory alone: no library of its driver tells what other "
            "processes use, so it may be full",
            name,
        )
    log.info("device: %s %s %s, %s", name, card.name, card.uuid, decision.why)
    return Selection(
        name=name,
        index=int(name.partition(":")[2]),
        card=card,
        why=decision.why,
        rows=rows,
        notes=notes,
        seen=Visible(uuids=(card.uuid,)) if snapshot.seen.pin else snapshot.seen,
        lease=lease,
        environ=environ,
        alone=visibility.alone(card, snapshot.cards, os.environ),
    )


def _give_up(request: DeviceRequest, snapshot: DeviceSnapshot, decision: Decision) -> Selection:
    """Take the CPU, or raise the error, where no card is free and no time is left to wait."""
    rows, notes = decision.rows(), snapshot.seen.notes
    if request.cpu == "allow":
        log.warning("device: cpu, because cpu='allow' and %s\n%s", decision.why, report.table(rows))
        return Selection(name="cpu", why=decision.why, rows=rows, notes=notes)
    codes = [reason.code for candidate in decision.candidates for reason in candidate.reasons]
    waited = [] if request.wait is None else [f"  waited {request.wait:g} s"]
    lines = [decision.why, *waited, report.table(rows), *(f"  {note}" for note in notes)]
    text = "\n".join([*lines, f"  {report.suggestions(codes, request.percent)}"])
    raise (VRAMUsageError if request.wait is None else DeviceWaitTimeout)(text, rows)
