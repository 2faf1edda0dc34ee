"""The reports of a stall, one file a rank, and which rank the others wait for."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ridgepole import rundir
from ridgepole.watch.flight import Collective, named, who_is_missing

_HEAD = re.compile(r"rank (\d+) of \d+, (\d+) steps done(, waits for other ranks)?")
_COLLECTIVES = "collectives: "
_NAME = "%Y%m%d-%H%M%S"
_COLLECTIVE = re.compile(r"torch/distributed|pipeline/distributed|all_?reduce|barrier|gloo|nccl|mpi", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StallReport:
    """The first line of a report.

    Attributes:
        rank: The rank.
        steps: The steps that it had done.
        waits: Whether its main thread was waiting for other ranks.
        collectives: The last collective operation of each process group, where torch records them.
    """

    rank: int
    steps: int
    waits: bool
    collectives: tuple[Collective, ...] = ()

    def head(self, world_size: int) -> str:
        """Return the first line."""
        waits = ", waits for other ranks" if self.waits else ""
        return f"rank {self.rank} of {world_size}, {self.steps} steps done{waits}"

    def details(self) -> str:
        """Return the line about its collective operations; empty without one."""
        return f"{_COLLECTIVES}{json.dumps([asdict(each) for each in self.collectives])}\n" if self.collectives else ""


def waits_for_ranks(stacks: str) -> bool:
    """Tell from the stacks of a process whether its main thread is in a collective operation."""
    return bool(_COLLECTIVE.search(_main_thread(stacks)))


def _main_thread(stacks: str) -> str:
    """Return the part about the main thread: py-spy names it, faulthandler writes it last."""
    blocks = re.split(r"^(?=(?:Current t|T)hread )", stacks, flags=re.MULTILINE)
    return next((block for block in blocks if '"MainThread"' in block.partition("\n")[0]), blocks[-1])


def write_report(run: Path, report: StallReport, world_size: int, text: str) -> str:
    """Write a report, and return its path in the run directory.

    Raises:
        OSError: If it can't be written.
    """
    name = f"{rundir.STALLS}/{time.strftime(_NAME, time.gmtime())}-rank-{report.rank}.txt"
    (run / rundir.STALLS).mkdir(exist_ok=True)
    (run / name).write_text(f"{report.head(world_size)}{text}", encoding="utf-8")
    return name


def recent_reports(run: Path, seconds: float) -> list[StallReport]:
    """Read the newest report of each rank that is not older than so many seconds."""
    found: dict[int, StallReport] = {}
    for path in sorted((run / rundir.STALLS).glob("*-rank-*.txt")):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                match, line = _HEAD.match(file.readline()), file.readline()
            if match and abs(time.time() - path.stat().st_mtime) <= seconds:  # the clock may be set back
                found[int(match[1])] = StallReport(
                    rank=int(match[1]), steps=int(match[2]), waits=bool(match[3]), collectives=_collectives(line)
                )
        except OSError:
            continue
    return [found[rank] for rank in sorted(found)]


def _collectives(line: str) -> tuple[Collective, ...]:
    try:
        return tuple(Collective(**each) for each in json.loads(line.removeprefix(_COLLECTIVES)))
    except (ValueError, TypeError):  # another line, or a damaged one
        return ()


def who_is_behind(reports: Sequence[StallReport], world_size: int) -> str:
    """Say which ranks the others wait for; empty where nothing tells it."""
    missing = who_is_missing({report.rank: report.collectives for report in reports})
    if missing:
        return missing
    silent = sorted({*range(world_size)} - {report.rank for report in reports})
    if reports and silent and all(report.waits for report in reports):
        return f"the others wait for {named(silent)}, which did not report a stall"
    least = min((report.steps for report in reports), default=0)
    behind = [report for report in reports if report.steps == least]
    moving = [report for report in behind if not report.waits]
    chosen = behind if len(behind) < len(reports) else moving
    if not chosen or len(chosen) == world_size:
        return ""
    return f"{named([report.rank for report in chosen])} is behind: the others wait for it"
