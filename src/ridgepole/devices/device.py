"""The permanence that holds one device for a whole run."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ridgepole.devices import report, torch_calls, usage
from ridgepole.devices.choose import Selection, choose, look_again, renew
from ridgepole.devices.gpus import Card
from ridgepole.devices.inventory import survey
from ridgepole.devices.policy import Decision, exceeds
from ridgepole.devices.request import LEASE_VARIABLE, Cpu, DeviceRequest, LeaseMode, Prefer, make_request, wait_of
from ridgepole.errors import DeviceUnavailableError, VRAMUsageError
from ridgepole.permanence import Permanence, run_of

if TYPE_CHECKING:
    import torch

log = logging.getLogger("ridgepole.device")

_GROWTH_PERCENT = 10


class Device(Permanence):
    """Picks the device that is really free, and holds it for the run.

    Among the cards with the fewest leases it takes the one with the lowest memory usage, every
    process on the machine counted, before any CUDA context exists. The choice is made in the
    constructor; `.device` is a `torch.device`.

    Args:
        max_usage: The share of a card's memory that may be in use already, above 0 and at most 1,
            to the millionth; exactly this share passes.
        min_free: Memory that must be free: bytes, or a text such as `"20GiB"`.
        prefer: What decides between cards with equally many leases: `"usage"` (lowest share in use,
            in steps of 1 %), `"free"` (most bytes free) or `"util"` (least computing).
        exclude: Cards not to take: indices as torch counts them (`1`, `"cuda:1"`), beginnings of
            UUIDs, or names with wildcards (`"*A100*"`).
        only: The cards that may be taken, named likewise.
        max_processes: How many other computing processes a card may have; 0 asks for a card on
            which no other process computes.
        cpu: `"auto"`: the CPU where there is no accelerator, but an error where all are busy.
            `"allow"`: the CPU then too. `"never"`: an error where there is no accelerator.
            `"force"`: the CPU, without looking.
        wait: Seconds to wait for a card to become free; where None, the environment variable
            `RIDGEPOLE_DEVICE_WAIT` decides, if it is set.
        lease: `"shared"`, unless the environment variable `RIDGEPOLE_DEVICE_LEASE` says otherwise,
            as in the worker processes of a sweep: later starts prefer other cards. `"exclusive"`:
            no other run takes the card, and a card with a lease is not taken. `"off"`: leases are
            counted, but none is taken or respected.
        rank: `"auto"`: where a launcher runs several ranks on this machine, the card is the local
            rank's. A number: that local rank. `"off"`: launchers are ignored.
        empty_cache_on_cleanup: Whether `cleanup` returns torch's cached memory to the driver.
        strict: Whether `validate` raises, not warns, where other processes have spread on the card.

    Raises:
        VRAMUsageError: If no card can be taken, such as all above `max_usage`; with a table.
        DeviceWaitTimeout: If that stayed so for `wait` seconds.
        DeviceUnavailableError: If waiting can't help, or `cpu="never"` finds no card.
        ValueError: If an argument is outside its range, or an entry matches no card.

    Example:
        ```python
        device = Device().device
        ```
    """

    def __init__(
        self,
        max_usage: float = 0.80,
        min_free: float | str | None = None,
        prefer: Prefer = "usage",
        exclude: int | str | Sequence[int | str] = (),
        only: int | str | Sequence[int | str] | None = None,
        max_processes: int | None = None,
        cpu: Cpu = "auto",
        wait: float | None = None,
        lease: LeaseMode | None = None,
        rank: int | str | None = "auto",
        empty_cache_on_cleanup: bool = False,
        strict: bool = False,
    ) -> None:
        self._request = make_request(
            max_usage=max_usage,
            min_free=min_free,
            prefer=prefer,
            exclude=exclude,
            only=only,
            max_processes=max_processes,
            cpu=cpu,
            wait=wait_of(os.environ) if wait is None else wait,
            lease=lease or os.environ.get(LEASE_VARIABLE) or "shared",
            rank=rank,
        )
        self._empty_cache = bool(empty_cache_on_cleanup)
        self._strict = bool(strict)
        self._history = usage.History()
        self._selection = Selection(name="cpu")
        self._baseline: int | None = None
        self._calculate_best_device()

    def _calculate_best_device(self) -> str:
        """Choose the device and take its lease; the lease of an earlier choice is released first.

        Returns:
            Its name, such as `"cuda:1"`.

        Raises:
            VRAMUsageError: If the VRAM usage of the best device exceeds the limit, by default 80 %.
        """
        self._release()
        self._selection = choose(self._request, run_id=self._run_id())
        os.environ.update(self._selection.environ)
        # Also where a subclass's constructor raises after this, or its cleanup omits ours.
        self.defer(self._release)
        card = self._selection.card
        self._baseline = None if card is None else usage.sample_card(card).others_bytes
        return self._selection.name

    @property
    def device(self) -> torch.device:
        """The chosen device.

        Raises:
            MissingExtraError: If torch is not installed; the choice itself doesn't need it.
        """
        return torch_calls.device(self._selection.name)

    @property
    def uuid(self) -> str:
        """The driver's own name of the chosen card; empty for the CPU."""
        return self._selection.card.uuid if self._selection.card else ""

    def initialize(self) -> None:
        """Check the choice again and make it torch's current device, which creates a CUDA context.

        Raises:
            VRAMUsageError: If other processes have filled the card since.
            DeviceUnavailableError: If the card is gone, or torch sees another one at its index.
        """
        card = self._selection.card
        if card is None:
            return
        decision, now = self._look()
        sample = usage.sample_card(now)
        self._history.add(sample)
        if self._others_exceed(sample):
            text = f"other processes have filled {self} since it was chosen"
            raise VRAMUsageError(*self._table(text, decision))
        if torch_calls.installed_build() is None or self._selection.index is None:
            return  # without torch there is nothing to prepare
        self._compare_uuid(card, self._selection.index)
        torch_calls.set_device(card.kind, self._selection.index)

    def validate(self) -> None:
        """Check that the card is there, its lease held, and other processes have not spread on it.

        Others have spread where they hold more of it than `max_usage`, or a tenth of the card more
        than when it was chosen. That is a warning with the table of devices, or an error
        where the `Device` is `strict`.

        Raises:
            DeviceUnavailableError: If the card is gone, or another run has its lease.
            VRAMUsageError: If the `Device` is `strict`, and others have spread.
        """
        if self._selection.card is None:
            return
        decision, now = self._look()
        self._keep_lease(now)
        sample = usage.sample_card(now)
        grown = (sample.others_bytes or 0) - (self._baseline or 0)
        much = self._baseline is not None and exceeds(grown, now.total or 1, _GROWTH_PERCENT * 10_000)
        if much or self._others_exceed(sample):
            text = f"other processes have taken {grown / 1024**3:.1f} GiB more of {self} since it was chosen"
            message, rows = self._table(text, decision)
            if self._strict:
                raise VRAMUsageError(message, rows)
            log.warning("%s", message)

    def checkpoint(self) -> None:
        """Add a sample of the device's memory to the history; log a driver that doesn't answer."""
        if self._selection.card is None:
            self._history.add(usage.sample_host())
            return
        try:
            self._history.add(usage.sample_card(self._look()[1]))
        except DeviceUnavailableError as error:
            log.warning("no memory sample: %s", error)

    def explain_oom(self, error: BaseException) -> bool:
        """Attach the table of devices to an out-of-memory error, as a note below its traceback.

        Args:
            error: Any error; those of torch, CUDA and cuBLAS are known, also in a group or as a
                cause.

        Returns:
            Whether it was an out-of-memory error.
        """
        found = usage.out_of_memory(error)
        if found is None:
            return False
        mark = f"{self} ran out of memory"
        if any(note.startswith(mark) for note in getattr(found, "__notes__", ())):
            return True
        try:
            found.add_note(self._oom_note(mark))
        except Exception as second:  # noqa: BLE001 - explaining an error must never replace it
            found.add_note(f"{mark}; the devices can't be listed now: {second}")
        return True

    def cleanup(self) -> None:
        """Release the lease, and torch's cached memory too if `empty_cache_on_cleanup` is set."""
        try:
            if self._empty_cache and self._selection.card is not None:
                torch_calls.empty_cache(self._selection.card.kind)
        finally:
            self._release()

    def get_state(self) -> dict[str, Any]:
        """Return the choice as plain JSON values.

        Returns:
            `device`, `uuid`, `name`, `source`, `why`, `lease`, `notes`, the `options`, every
            candidate
            with its verdict (`candidates`, as in `survey`), and the memory `history`.
        """
        chosen, card = self._selection, self._selection.card
        return {
            "device": chosen.name,
            "uuid": self.uuid,
            "name": card.name if card else "",
            "source": card.source if card else "host",
            "why": chosen.why,
            "lease": {"mode": self._request.lease, "held": chosen.lease is not None and chosen.lease.held},
            "notes": list(chosen.notes),
            "options": _options(self._request) | {"empty_cache_on_cleanup": self._empty_cache, "strict": self._strict},
            "candidates": list(chosen.rows),
            "history": self._history.as_dict(),
        }

    def __str__(self) -> str:
        return self._selection.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}{' ' + self.uuid if self.uuid else ''}>"

    def _run_id(self) -> str:
        run = run_of(self)
        return "" if run is None else run.run_id

    def _release(self) -> None:
        if self._selection.lease is not None:
            self._selection.lease.release()

    def _look(self) -> tuple[Decision, Card]:
        """Read every device now, and find ours among them.

        Raises:
            DeviceUnavailableError: It is no longer there.
        """
        mine = self._selection.card
        assert mine is not None
        # The other arguments were for the choice. What they would say now (an index that a pinned
        # MIG instance has shifted, a lease that is our own) don't matter for our card.
        request = DeviceRequest(limit=self._request.limit, lease="off", rank="off", cpu="allow")
        found, decision = look_again(request, self._selection.seen)
        for card in found.cards:
            if card.key == mine.key and not card.trouble:
                return decision, dataclasses.replace(card, index=self._selection.index)
        why = next((card.trouble for card in found.cards if card.key == mine.key), "") or found.trouble or found.absent
        raise DeviceUnavailableError(f"{self} ({mine.name} {mine.uuid}) is gone{': ' if why else ''}{why}")

    def _oom_note(self, mark: str) -> str:
        if self._selection.card is None:
            return f"{mark}, though the CPU was chosen: something uses a device past it\n{report.table(survey().rows)}"
        decision, now = self._look()
        sample = usage.sample_card(now)
        self._history.add(sample)
        own = "an unknown part" if sample.own_bytes is None else f"{sample.own_bytes / 1024**3:.1f} GiB"
        return self._table(f"{mark}; this process holds {own} of it", decision)[0]

    def _others_exceed(self, sample: usage.Sample) -> bool:
        others, total = sample.others_bytes, sample.total_bytes
        return others is not None and bool(total) and exceeds(others, total or 1, self._request.limit)

    def _table(self, text: str, decision: Decision) -> tuple[str, tuple[dict[str, Any], ...]]:
        rows = decision.rows(self._selection.card)
        return f"{text}\n{report.table(rows)}", rows

    def _compare_uuid(self, card: Card, index: int) -> None:
        """Refuse a torch whose device at our index is not the card that was measured."""
        if not card.uuid:
            return
        seen = torch_calls.uuid_of(card.kind, index)
        # For a MIG instance the runtime gives either its own UUID or its card's.
        expected = {body for uuid in (card.uuid, card.parent) if uuid for body in (_body(uuid), _spelled(_body(uuid)))}
        if seen and _body(seen) not in expected:
            raise DeviceUnavailableError(
                f"{self} was chosen as {card.uuid}, but torch sees {seen} at that index; set "
                "CUDA_DEVICE_ORDER=PCI_BUS_ID before Python starts, and don't change CUDA_VISIBLE_DEVICES (or ROCm's "
                "variables like it) after the Device was made"
            )

    def _keep_lease(self, card: Card) -> None:
        """Take a lease again that was lost, as when its file is removed."""
        lease = self._selection.lease
        if lease is None or lease.held or lease.foreign:
            return
        log.warning("the lease on %s was lost (%s was removed?): taking it again", self, lease.path)
        self._selection = dataclasses.replace(self._selection, lease=renew(self._request, card, run_id=self._run_id()))
        lease.release()


def _options(request: DeviceRequest) -> dict[str, Any]:
    options = dataclasses.asdict(request)
    lists = {name: list(value) for name, value in options.items() if isinstance(value, tuple)}
    return {"max_usage": options.pop("limit") / 1_000_000} | options | lists


def _body(uuid: str) -> str:
    return uuid.casefold().removeprefix("gpu-").removeprefix("mig-")


def _spelled(body: str) -> str:
    """Spell an AMD card's UUID of 16 characters as torch does: each in hexadecimal, grouped."""
    digits = body.encode().hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
