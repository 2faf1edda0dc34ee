"""The card of a trial that runs a program, which may not ask for one itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from ridgepole.devices.request import LEASE_VARIABLE, WAIT_VARIABLE, make_request, wait_of

ONE_CARD: Final = "RIDGEPOLE_ONE_CARD"
"""The variable that is set in a worker beside others on the same machine."""


@contextmanager
def program_card(run_id: str) -> Iterator[Mapping[str, str]]:
    """Hold a card for the program of a trial; yield the variables that hide the other ones.

    Several trials share a card only where there are more of them than cards. The lease lasts as
    long as the context. Without workers side by side, or without a card, nothing is hidden.
    """
    if ONE_CARD not in os.environ or sys.platform == "darwin":
        yield {}
        return
    from ridgepole.devices.choose import choose

    wait = wait_of(os.environ)
    request = make_request(max_usage=1.0, cpu="allow", lease="shared", rank="off", wait=wait)
    selection = choose(request, run_id=run_id)
    try:
        # A `Device()` in the program takes the same card, and need not wait for it
        yield {**selection.alone, LEASE_VARIABLE: "shared", WAIT_VARIABLE: ""} if selection.alone else {}
    finally:
        if selection.lease is not None:
            selection.lease.release()
