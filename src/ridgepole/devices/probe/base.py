"""The interface of a device probe: packages add theirs by entry point, `ridgepole.device_probes`.

An entry point names a callable, such as the class, that takes the `Build` of the installed torch
(None without torch) and returns an open probe, or raises one of the errors below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ridgepole.devices.gpus import Card, Sensors
from ridgepole.devices.visibility import Visible


class DeviceAbsentError(Exception):
    """The machine has no device of this kind; the text, if any, says how that was seen."""


class DeviceTroubleError(Exception):
    """A device of this kind seems to be there and can't be read; the text says what to do."""


class DeviceProbe(Protocol):
    """An open driver. To open one creates no context on any device."""

    def read(self, *, util: bool = False, processes: bool = True) -> tuple[Card, ...]:
        """Read every device now.

        Args:
            util: Whether to ask for the utilisation too.
            processes: Whether to ask for the processes.
        """
        ...

    def sense(self, card: Card) -> Sensors:
        """Read the sensors of a card that `read` returned."""
        ...

    def see(self, cards: Sequence[Card]) -> Visible:
        """Find out which of the cards that `read` returned this process sees, and in what order."""
        ...

    def close(self) -> None:
        """Release the driver."""
        ...
