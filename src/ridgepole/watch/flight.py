"""Read torch's flight recorder: the collective operations that each rank has entered."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole.files import write_atomically
from ridgepole.threads import start_thread

_DUMPS = ("_dump_fr_trace_json", "_dump_nccl_trace_json")
_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """The last collective operation that a rank has entered in a process group.

    Attributes:
        group: The process group.
        number: The number of the operation in its group, from 1.
        name: The operation, such as `all_reduce`.
        sizes: The shapes of its input.
        done: Whether it has ended.
    """

    group: str
    number: int
    name: str
    sizes: str
    done: bool

    def __str__(self) -> str:
        """Return it as people call it."""
        return f"{self.name} {self.sizes}".strip()


class FlightAnswers:
    """Answers the helper's questions for the record, in a thread of the run.

    The thread runs while the main thread waits for other ranks, as that releases the
    interpreter's lock.

    Attributes:
        asks: The end of the pipe into which the helper writes the paths of the files that it wants.
    """

    def __init__(self) -> None:
        self._reading, self.asks = os.pipe()
        self._thread = threading.Thread(target=self._work, name="ridgepole-flight", daemon=True)

    def start(self) -> None:
        """Begin to wait for questions; called when the helper has its end."""
        os.close(self.asks)
        start_thread(self._thread)

    def close(self) -> None:
        """Wait for the end; called when the helper has ended."""
        self._thread.join(1.0)

    def _work(self) -> None:
        with os.fdopen(self._reading, "rb") as questions:
            for line in questions:
                try:
                    write_atomically(Path(os.fsdecode(line.rstrip(b"\n"))), record())
                except OSError:
                    continue  # the helper waits no longer than it must


def record() -> bytes:
    """Return the record of this process as JSON; an empty object where there is none."""
    module: Any = sys.modules.get("torch._C._distributed_c10d")
    for name in _DUMPS:
        dump = getattr(module, name, None)
        if dump is None:
            continue
        try:
            found = bytes(dump())
            if json.loads(found).get("entries"):
                return found
        except Exception:  # noqa: BLE001, S112 - a private function of torch, which may change
            continue
    return b"{}"


def ask(asks: int, path: Path) -> list[Collective]:
    """Ask the run for its record, from the helper; empty where there is none, or no answer."""
    try:
        path.parent.mkdir(exist_ok=True)
        os.write(asks, os.fsencode(path) + b"\n")
        until = time.monotonic() + _WAIT_SECONDS
        while not path.exists():
            if time.monotonic() > until:
                return []
            time.sleep(0.02)
        found = list(last_collectives(path.read_bytes()))
        if not found:
            path.unlink()
    except OSError:
        return []
    return found


def last_collectives(data: bytes) -> Iterator[Collective]:
    """Yield the last operation of each process group in a record; nothing of what is damaged."""
    last: dict[str, tuple[int, Mapping[str, Any]]] = {}
    try:
        for entry in json.loads(data).get("entries") or ():
            if entry.get("is_p2p"):
                continue
            group, number = entry["process_group"], int(entry["collective_seq_id"])
            name = str(group[1] if group[1] not in ("", "undefined") else group[0])
            if number >= last.get(name, (0, {}))[0]:
                last[name] = (number, entry)
        for group, (number, entry) in last.items():
            yield Collective(
                group=group,
                number=number,
                name=str(entry["profiling_name"]).rpartition(":")[2],
                sizes=" ".join(map(str, entry.get("input_sizes") or ())),
                done=bool(entry.get("retired")) or entry.get("state") == "completed",
            )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return


def who_is_missing(ranks: Mapping[int, Sequence[Collective]]) -> str:
    """Say in which operation ranks wait, and which ones have not entered it; empty if unknown.

    Args:
        ranks: The last operations of each rank that has reported.
    """
    groups = dict.fromkeys(each.group for found in ranks.values() for each in found)
    for group in groups:
        last = {rank: each for rank, found in ranks.items() for each in found if each.group == group}
        newest = max(each.number for each in last.values())
        inside = {rank: each for rank, each in last.items() if each.number == newest and not each.done}
        if not inside:
            continue
        # Only the default group surely has all ranks
        members = set(ranks) if group == "default_pg" else set(last)
        late = sorted(rank for rank in members if rank not in last or last[rank].number < newest)
        kinds = dict.fromkeys(map(str, inside.values()))
        where = f"operation {newest} of the process group {group}"
        if len(kinds) > 1:
            each = ", ".join(f"{named([rank])}: {inside[rank]}" for rank in sorted(inside))
            return f"the ranks call different operations as {where}: {each}"
        if late:
            have = "have" if len(late) > 1 else "has"
            wait = f"{named(sorted(inside))} wait{'s' * (len(inside) == 1)} in {next(iter(kinds))}"
            return f"{wait}, {where}, which {named(late)} {have} not entered"
    return ""


def named(ranks: Sequence[int]) -> str:
    """Return ranks for people."""
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
