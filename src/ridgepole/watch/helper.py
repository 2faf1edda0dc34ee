"""The helper process of a run: it sees what the run can't see by itself, and tells it.

A thread of the run could not: code in C that holds the interpreter's lock stops every thread.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole import rundir
from ridgepole.ticks import ASKS, COUNT, STEP
from ridgepole.watch.alerts import Alert, Level, append_alert, new_alert
from ridgepole.watch.capture import Recording
from ridgepole.watch.cgroup import memory_group
from ridgepole.watch.heartbeat import SharedBeat
from ridgepole.watch.killed import TITLE, TITLE_OTHERWISE, described, note_told
from ridgepole.watch.notify import Notifier
from ridgepole.watch.policy import Slow
from ridgepole.watch.resources import disk_shortage
from ridgepole.watch.slow import SampleReader, SlowWatch
from ridgepole.watch.stall import StallWatch

if TYPE_CHECKING:
    from ridgepole.watch.flight import Collective

_INTERVAL = 1.0
_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGTTOU", "SIGPIPE")
_CHUNK = 1 << 16
_RESOURCE_SECONDS = 10.0
_RANKS_SECONDS = 5.0
"""Seconds to wait for the reports of the other ranks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """The things that a helper is told at its start.

    Attributes:
        run: The run directory.
        parent: The number of the run's process.
        rank: Its rank.
        world_size: The number of ranks.
        attempt: The number of the attempt.
        secrets: Texts that must not be written.
        grace_seconds: Seconds between SIGTERM and SIGKILL.
        dump_signal: The signal by which a process of the run writes its stacks.
        stall_seconds: Seconds without a step that are a stall; None for the default.
        slow: The table of slow steps; None where they are not watched for.
        memory: The same for processes that the kernel kills.
        disk: The same for a full disk.
        urls: The addresses to which alerts are sent.
        kinds: The kinds of alerts that are sent.
        console: The streams to keep: the end to read from, and the real stream.
        asks: The pipe by which the run is asked for its collective operations; -1 without one.
        stall_action: `warn`, `stop`, or empty where stalls are not watched for.
    """

    run: str
    parent: int
    rank: int = 0
    world_size: int = 1
    attempt: int = 1
    secrets: list[str] = field(default_factory=list)
    grace_seconds: float = 25.0
    dump_signal: int = 0
    stall_seconds: float | None = None
    stall_action: str = ""
    asks: int = -1
    slow: dict[str, Any] | None = None
    memory: dict[str, Any] | None = None
    disk: dict[str, Any] | None = None
    urls: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    console: list[tuple[int, int]] = field(default_factory=list)


def main(control: str, beat: str, answers: str) -> None:
    """Run the helper of the process that started this interpreter.

    Args:
        control: The descriptor of the pipe by which the run speaks.
        beat: The descriptor of the shared numbers.
        answers: The descriptor of the file into which processes write their stacks.
    """
    ignore_signals()
    words = Words(int(control))
    while not (lines := words.read(None)):
        if words.ended:
            return
    Helper(Orders(**lines[0]), words, SharedBeat(int(beat)), int(answers)).run(lines[1:])


def run_forked(orders: Orders, control: int, beat: SharedBeat, answers: int) -> None:
    """Run the helper in a forked child of the run, and end the child."""
    code = 1
    with contextlib.suppress(BaseException):
        ignore_signals()
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
        Helper(orders, Words(control), beat, answers).run([])
        code = 0
    os._exit(code)


def dump_signal() -> int:
    """Return the signal that asks a process of ours for its stacks: one that is hardly used."""
    return int(signal.SIGRTMAX) - 3 if hasattr(signal, "SIGRTMAX") else int(signal.SIGUSR2)


def ignore_signals() -> None:
    """Leave the signals of a terminal and of a scheduler to the run; this process outlives it."""
    for name in _IGNORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


class Words:
    """Lines of JSON from the run.

    Attributes:
        ended: Whether the run has closed its end.
    """

    def __init__(self, fd: int) -> None:
        self.ended = False
        self._fd = fd
        self._rest = b""

    def read(self, seconds: float | None, *others: int) -> list[dict[str, Any]]:
        """Wait for words, or until another descriptor is ready; return the words."""
        poll = select.poll()
        for fd in (*others, *(() if self.ended else (self._fd,))):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)}
        if self._fd not in ready:
            return []
        data = os.read(self._fd, _CHUNK)
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]


class Helper:
    """Watches over one process of a run, as long as it lives."""

    def __init__(self, orders: Orders, words: Words, beat: SharedBeat, answers: int) -> None:
        self.orders = orders
        self._run = Path(orders.run)
        self._words, self._beat, self._answers = words, beat.numbers, answers
        self._stalls = StallWatch(orders.stall_seconds)
        samples = SampleReader(self._run / rundir.system_file(orders.rank))
        self._slow = None if orders.slow is None else SlowWatch(Slow(**orders.slow), samples)
        self._group = memory_group() if orders.memory is not None else None
        self._resources_at, self._short_of_disk = 0.0, False
        self._life = _pidfd(orders.parent)
        self._interval = min(_INTERVAL, max(0.05, (orders.stall_seconds or _INTERVAL) / 5))
        self._kill_at: float | None = None
        self._killed = False
        complain = lambda line: self._show(f"warning: {line}")  # noqa: E731 - one line
        self._recording: Recording | None = None
        if orders.console:
            path = self._run / rundir.CONSOLES / f"rank-{orders.rank}.log"
            self._recording = Recording(path, orders.console, orders.secrets, orders.parent)
        self._notifier = Notifier(orders.urls, orders.kinds, self._run.name, complain)

    def run(self, words: list[dict[str, Any]]) -> None:
        """Watch until the run has ended."""
        before = time.monotonic()
        while not any(word["op"] == "end" for word in words):
            if os.getppid() != self.orders.parent:
                if not self._killed and not self._tell_kills(of_run=True):
                    self.tell("failed", "error", TITLE_OTHERWISE, "its process ended without a word")
                break
            self._hear(words)
            self._notifier.advance()
            now = time.monotonic()
            # This process may have been stopped together with the run
            self._look(min(now - before, 3 * self._interval))
            before = now
            words = self._words.read(self._interval, *self._life)
        else:
            self._look(0.0)  # a run that stalled may have moved since, and ended
        if self._recording is not None:
            self._recording.close()
        self._hear(words)
        self._notifier.drain()

    def _hear(self, words: list[dict[str, Any]]) -> None:
        for word in words:
            if word["op"] == "alert":
                self._notifier.add(Alert(**word["alert"]))

    def tell(self, kind: str, level: Level, title: str, text: str = "", *, step: int | None = None) -> Alert:
        """Keep an alert, and show it on the terminal."""
        step = self._beat[STEP] if step is None else step
        alert = new_alert(kind, level, title, text, step=step, rank=self.orders.rank)
        with contextlib.suppress(OSError):
            alert = append_alert(self._run, alert, self.orders.secrets)
        self._notifier.add(alert)
        self._show(f"{level}: {alert.title}{': ' if alert.text else ''}{alert.text}")
        return alert

    def _show(self, line: str) -> None:
        """Write a line to the terminal, and erase the run's bars below it."""
        with contextlib.suppress(OSError):
            erase = "\x1b[J" if os.isatty(2) else ""
            os.write(2, f"{erase}{line.rstrip()}\n".encode("utf-8", "replace"))

    def _look(self, elapsed: float) -> None:
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._kill_at = None
            self.tell("stall", "error", "the stalled run did not stop, and was killed")
            self._killed = True
            self._send(signal.SIGKILL)
        elapsed = 0.0 if self._is_stopped() else elapsed
        event = self._stalls.look(self._beat, elapsed)
        if self._slow is not None and (text := self._slow.look(elapsed, self._stalls.latest)):
            self._act(self.orders.slow, "slow", "the run became slow", text)
        self._look_at_resources()
        if not self.orders.stall_action:
            return
        if event == "stalls":
            self._report_stall(self._stalls)
        elif event == "moves":
            self._kill_at = None
            self.tell("stall", "info", "the run moves again")

    def _look_at_resources(self) -> None:
        if time.monotonic() < self._resources_at:
            return
        self._resources_at = time.monotonic() + _RESOURCE_SECONDS
        self._tell_kills(of_run=False)
        if self.orders.disk is not None and not self.orders.rank:
            shortage = disk_shortage(self._run)
            if shortage and not self._short_of_disk:
                self._act(self.orders.disk, "disk", "the disk is nearly full", shortage)
            self._short_of_disk = bool(shortage)

    def _tell_kills(self, *, of_run: bool) -> bool:
        """Tell of processes that the kernel has killed since the last look."""
        killed = None if self._group is None else self._group.kills_since()
        if not killed or killed < 0:
            return False
        self._group = memory_group()
        title = TITLE if of_run else "the kernel killed a process: out of memory"
        self._act(self.orders.memory, "memory", title, described(self._group, killed))
        if not of_run and not self.orders.rank:
            with contextlib.suppress(OSError):
                note_told(self._run, self.orders.attempt, killed)
        return True

    def _act(self, table: dict[str, Any] | None, kind: str, title: str, text: str) -> None:
        self.tell(kind, "error" if kind == "memory" else "warning", title, text)
        if table is not None and table.get("action") == "checkpoint":
            self._beat[ASKS] += 1

    def _is_stopped(self) -> bool:
        """Return whether the run was stopped, as by Ctrl-Z: that is not a stall."""
        if self._stalls.waited < self._stalls.limit / 2:
            return False
        from ridgepole.watch.stacks import is_stopped

        return is_stopped(self.orders.parent)

    def _report_stall(self, stalls: StallWatch) -> None:
        """Write the stacks; the first of the ranks that stall tells of it."""
        from ridgepole.watch.reports import StallReport, recent_reports, waits_for_ranks, who_is_behind, write_report
        from ridgepole.watch.stacks import collect

        orders, title = self.orders, f"no step for {stalls.waited:.0f} s"
        usual = "" if math.isnan(stalls.median) else f"; a step takes {stalls.median:.3g} s"
        stacks = collect(orders.parent, self._answers, orders.dump_signal)
        waits = orders.world_size > 1 and waits_for_ranks(stacks[0])
        entered = self._ask_for_collectives()
        report = StallReport(rank=orders.rank, steps=abs(self._beat[COUNT]), waits=waits, collectives=entered)
        try:
            text = f", {title}{usual}\n{report.details()}\n" + "\n".join(stacks)
            where = f"; stacks: {write_report(self._run, report, orders.world_size, text)}"
        except OSError as error:
            where = f"; the stacks could not be written: {error}"
        behind = ""
        if orders.world_size > 1:
            self._wait_for_reports()
            reports = recent_reports(self._run, 2 * _RANKS_SECONDS)
            behind = who_is_behind(reports, orders.world_size)
            if reports and reports[0].rank != orders.rank:
                title = ""
        stops = f"; it is stopped by SIGTERM, and killed after {orders.grace_seconds:g} s"
        stops *= orders.stall_action == "stop"
        if title:
            behind = f"; {behind}" if behind else ""
            self.tell("stall", "error", title, f"step {self._beat[STEP]}{usual}{behind}{where}{stops}")
        if orders.stall_action == "stop":
            self._kill_at = time.monotonic() + orders.grace_seconds
            self._send(signal.SIGTERM)

    def _ask_for_collectives(self) -> tuple[Collective, ...]:
        """Return the last collective operations of the run, by torch's flight recorder."""
        from ridgepole.watch.flight import ask

        if self.orders.asks < 0:
            return ()
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-flight-rank-{self.orders.rank}.json"
        return tuple(ask(self.orders.asks, self._run / rundir.STALLS / name))

    def _wait_for_reports(self) -> None:
        """Wait until all ranks that stall at the same time have written their reports."""
        from ridgepole.watch.reports import recent_reports

        until = time.monotonic() + _RANKS_SECONDS
        while time.monotonic() < until and len(recent_reports(self._run, 2 * _RANKS_SECONDS)) < self.orders.world_size:
            time.sleep(0.1)

    def _send(self, number: int) -> None:
        if os.getppid() == self.orders.parent:
            os.kill(self.orders.parent, number)


def _pidfd(pid: int) -> list[int]:
    """Return a descriptor that becomes ready when a process ends, where the system has one."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return [os.pidfd_open(pid)]
    return []


def as_line(orders: Orders) -> bytes:
    """Return orders as the first line for a helper."""
    return json.dumps(asdict(orders)).encode() + b"\n"
