"""The device that a run computes on: `Device` chooses it, `survey` lists what there is."""

from __future__ import annotations

from ridgepole.devices.device import Device
from ridgepole.devices.inventory import DeviceReport, survey

__all__ = ["Device", "DeviceReport", "survey"]
