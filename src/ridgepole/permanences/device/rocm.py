"""AMD cards: memory and model from AMD's library, order, UUIDs and processes from the kernel."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ridgepole.permanences.device import host, kfd, rocm_visible
from ridgepole.permanences.device.amdsmi import AmdSmi
from ridgepole.permanences.device.cards import Card, SourceAbsentError
from ridgepole.permanences.device.visible import Visible


class Rocm:
    """The AMD cards of this machine. Opening it makes no context on any of them.

    Where the library is missing or doesn't answer, its numbers are read where it reads them itself: in the files of the
    kernel.

    Args:
        wanted: Whether torch is built for ROCm. Else a card counts only where ROCm's library is installed: most
            desktops have a graphics chip that nobody means to compute on.

    Raises:
        SourceAbsentError: If there is no card, or none that counts.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._nodes = kfd.nodes()
        if not self._nodes:
            raise SourceAbsentError("no AMD GPU in /sys/class/kfd" if wanted else "")
        self._library: AmdSmi | None = None
        try:
            self._library = AmdSmi()
        except OSError:
            if not wanted:
                raise SourceAbsentError("the AMD GPU has neither libamd_smi.so nor a torch for ROCm") from None
        self._names = [self._name(node) for node in self._nodes]

    def read(self, *, util: bool = False, processes: bool = True) -> tuple[Card, ...]:
        """Reads memory and processes of every card; see `Source.read`."""
        nodes = enumerate(self._nodes)
        return tuple(self._card(place, node, util=util, processes=processes) for place, node in nodes)

    def see(self, cards: Sequence[Card]) -> Visible:
        """What ROCm shows this process; see `Source.see`."""
        return rocm_visible.resolve(cards, os.environ)

    def close(self) -> None:
        """Gives the library back."""
        if self._library is not None:
            self._library.close()

    def _card(self, place: int, node: kfd.Node, *, util: bool, processes: bool) -> Card:
        told = None if self._library is None else self._library.memory(node.address)
        source = "kfd" if told is None else "amdsmi"
        told = told or kfd.memory(node)
        shared = [other for other in self._nodes if other.address == node.address]
        doubt = "" if len(shared) == 1 else "one of several parts: the memory is that of the whole card"
        if told is None:
            doubt = "its memory can't be read"
        elif told[0] == 0:
            # A processor with graphics and no memory of its own: what the host has free is free to it.
            total, free = host.memory()
            told, source = (total, total - free), f"{source}+host"
        total_bytes, used = told or (None, None)
        # Parts of a card can bear the card's own id, which then tells none of them.
        alone = sum(other.uuid == node.uuid for other in self._nodes) == 1
        return Card(
            "cuda",  # torch's name for it
            node.uuid if alone else "",
            self._names[place],
            place,
            total_bytes,
            None if total_bytes is None or used is None else max(0, total_bytes - used),
            processes=kfd.processes(node) if processes else None,
            util=self._busy(node) if util else None,
            source=source,
            trouble=node.trouble,
            doubt=doubt,
        )

    def _name(self, node: kfd.Node) -> str:
        told = "" if self._library is None else self._library.name(node.address)
        return host.printable(told or kfd.name(node)) or "AMD GPU"

    def _busy(self, node: kfd.Node) -> int | None:
        told = None if self._library is None else self._library.busy(node.address)
        return kfd.busy(node) if told is None else told
