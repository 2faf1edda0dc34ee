"""The device that a run computes on: `Device` chooses it, `survey` lists what there is."""

from __future__ import annotations

from ridgepole.permanences.device.device import Device
from ridgepole.permanences.device.inventory import Survey, survey

__all__ = ["Device", "Survey", "survey"]
