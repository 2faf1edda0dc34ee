"""The `[pipeline.guard]` table: which faults of a run are watched for, and what happens then."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from annotated_types import Ge, Gt


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """`stall = { seconds = 120, action = "stop" }`: no step for a long time."""

    seconds: Annotated[float, Gt(0)] | None = None
    """Seconds without a tick; by default 60, or 20 times the median step if that is longer."""
    action: Literal["warn", "stop"] = "warn"
    """`stop` sends SIGTERM, and SIGKILL after `grace_seconds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricFault:
    """The keys that faults of metrics have in common."""

    metrics: tuple[str, ...] | None = None
    """Patterns such as `train/*`; by default losses and errors, and the metric of `keep_best`."""
    action: Literal["warn", "checkpoint", "stop", "rollback"] = "warn"
    """`rollback` continues from the newest checkpoint before the fault."""
    then: Literal["skip", "reseed"] = "skip"
    """After a rollback: leave out the batches since, or draw other random numbers for them."""
    rollbacks: Annotated[int, Ge(1)] = 3
    """The most rollbacks of a process; the next fault stops the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nan(MetricFault):
    """`nan = { count = 3, action = "rollback" }`: a metric that is not finite."""

    count: Annotated[int, Ge(1)] = 3
    """The number of such values in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike(MetricFault):
    """`spike = { z = 10, window = 101 }`: a metric that jumps up."""

    z: Annotated[float, Gt(0)] = 10.0
    """The jump, in robust standard deviations from the median of the window."""
    window: Annotated[int, Ge(5)] = 101
    """The number of values to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """The key that faults of the machine have in common."""

    action: Literal["warn", "checkpoint"] = "warn"
    """`checkpoint` takes one at the next step, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow(Resource):
    """`slow = { factor = 2, minutes = 10 }`: steps that take longer than at the beginning."""

    factor: Annotated[float, Gt(1)] = 2.0
    """The median time of a step, in times of the median of the beginning."""
    minutes: Annotated[float, Gt(0)] = 10.0
    """The minutes that count as now."""
    first_minutes: Annotated[float, Gt(0)] = 60.0
    """The minutes that count as the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPolicy:
    """The faults that are watched for; None switches one off."""

    stall: Stall | None = Stall()
    nan: Nan | None = Nan()
    spike: Spike | None = Spike()
    slow: Slow | None = Slow()
    memory: Resource | None = Resource()
    disk: Resource | None = Resource()


FAULTS: Final[dict[str, Any]] = {
    "stall": Stall,
    "nan": Nan,
    "spike": Spike,
    "slow": Slow,
    "memory": Resource,
    "disk": Resource,
}
"""The table of each fault."""

NO_GUARD = GuardPolicy(stall=None, nan=None, spike=None, slow=None, memory=None, disk=None)
"""The policy of `guard = false`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyPolicy:
    """The `[notify]` table: where a run sends its alerts, and which."""

    urls: tuple[str, ...]
    """Addresses as apprise takes them, such as `"${env:NOTIFY_URL}"`."""
    on: tuple[Literal["finished", "failed", "stalled", "best", "guard"], ...] = (
        "finished",
        "failed",
        "stalled",
        "guard",
    )
    """The events; alerts of `logger.alert` are always sent."""

    def __post_init__(self) -> None:
        """Check the addresses, without showing one: they hold secrets.

        Raises:
            ValueError: If one is not an address.
        """
        for index, url in enumerate(self.urls):
            if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", url):
                raise ValueError(f"urls[{index}] is not an address such as ntfy://host/topic")
