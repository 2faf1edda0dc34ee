"""Tell that the kernel killed a run for lack of memory, also when all of its processes are gone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ridgepole import rundir
from ridgepole.rundir import RunInfo
from ridgepole.watch.alerts import new_alert, read_alerts
from ridgepole.watch.cgroup import MemoryGroup, memory_group
from ridgepole.watch.units import in_bytes

TITLE: Final = "the kernel killed the run: out of memory"
TITLE_OTHERWISE: Final = "the run was killed"
_GROUP = "memory_group"
_TOLD = "killed_processes"
_ALERTS = "alerts_before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """The end of an attempt for lack of memory.

    Attributes:
        text: The details.
        told: Whether an alert tells of it.
    """

    text: str
    told: bool


def baseline(run: Path) -> dict[str, Any]:
    """Return what the record of an attempt says, so that its end can be told later.

    Args:
        run: The run directory.
    """
    group, told = memory_group(), read_alerts(run)[1]
    return ({} if group is None else {_GROUP: asdict(group)}) | ({_ALERTS: told} if told else {})


def note_told(run: Path, attempt: int, count: int) -> None:
    """Record that processes were killed which did not end the run.

    Raises:
        OSError: If it can't be written.
    """
    rundir.note_attempt(run, attempt, **{_TOLD: count})


def described(group: MemoryGroup | None, killed: int) -> str:
    """Say how many processes were killed, and how much memory they used."""
    full = None if group is None else group.fullest()
    if full is None:
        return f"{killed} in the control group of this run; the host had no memory left, or a group inside of it"
    peak, limit = full
    used = f"{in_bytes(peak)} of {in_bytes(limit)}" if peak is not None else f"the limit is {in_bytes(limit)}"
    return f"{used}; {killed} in the control group of this run"


def find_kill(run: Path) -> Kill | None:
    """Return that the last attempt of a run that ended without a word was killed for memory.

    An alert of the run's helper tells it. Without one, the control group has counted more kills
    since the attempt began than were told.
    """
    lines = list(rundir.read_lines(run / rundir.ATTEMPTS))
    number = max((line["attempt"] for line in lines if isinstance(line.get("attempt"), int)), default=0)
    lines = [line for line in lines if line.get("attempt") == number]
    # By their number: a clock that was set back would put them before the attempt
    before = next((line[_ALERTS] for line in lines if isinstance(line.get(_ALERTS), int)), 0)
    for alert in read_alerts(run, before)[0]:
        if alert.get("title") == TITLE:
            return Kill(text=str(alert.get("text", "")), told=True)
        if alert.get("title") == TITLE_OTHERWISE:
            return None
    group = next((found for line in lines if (found := _group(line.get(_GROUP))) is not None), None)
    since = None if group is None else group.kills_since()
    if since is None:
        return None
    killed = since - sum(count for line in lines if isinstance(count := line.get(_TOLD), int))
    return Kill(text=described(group, killed), told=False) if killed > 0 else None


def alerts_of(run: RunInfo, since: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Read the alerts of a run as `read_alerts`; a kill that no alert tells comes last."""
    alerts, _ = read_alerts(run.path)
    kill = find_kill(run.path) if run.status == "crashed" else None
    if kill is not None and not kill.told:
        alerts.append(asdict(new_alert("memory", "error", TITLE, kill.text)))
    return alerts[since:], len(alerts)


def _group(fields: Any) -> MemoryGroup | None:
    try:
        return MemoryGroup(**fields)
    except TypeError:
        return None
