"""Record a run's system metrics and step times, from a thread of its own."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ridgepole import rundir
from ridgepole.errors import text_of
from ridgepole.files import append_lines
from ridgepole.steptimes import Snapshot
from ridgepole.threads import start_thread
from ridgepole.ticks import Ticks
from ridgepole.watch import steptime

_WARM_UP_SECONDS = 1.0
"""Rates need two samples; the first two of a run are this far apart."""
_JOIN_SECONDS = 2.0
_RENEW = 6
"""The step times on the disk are renewed at every so many samples."""
_SAY_SECONDS = 10.0
"""The verdict on step times is worth a line where they are longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedRun:
    """The run that is recorded.

    Attributes:
        directory: Its directory.
        ticks: Counts its steps; None for the run of another process.
        rank: The rank of this process.
        attempt: The number of the attempt.
        pid: Its process.
        host: Whether to sample the host too; one rank of a machine does.
        steps_alone: Whether to record the rates of its steps alone, as another process samples
            the rest.
        chosen: Returns the UUIDs of the cards that it has chosen.
    """

    directory: Path
    ticks: Ticks | None = None
    rank: int = 0
    attempt: int = 1
    pid: int = field(default_factory=os.getpid)
    host: bool = True
    steps_alone: bool = False
    chosen: Callable[[], set[str]] = set

    @property
    def step(self) -> int | None:
        """The step of the run; None where it is not known."""
        return None if self.ticks is None else self.ticks.step

    def spent(self) -> Snapshot:
        """Return where the time of its steps went."""
        return Snapshot() if self.ticks is None else self.ticks.spent()


class Recorder:
    """Samples a run every few seconds, until it is closed. A shorter run leaves no file.

    A forked child has no part in it.

    Args:
        run: The run.
        every_seconds: Seconds between two samples; None samples nothing and keeps step times alone.
        log: Called with each sample and the step, to give it to loggers.
        say: Called with a line for the run's log.
    """

    def __init__(
        self,
        run: WatchedRun,
        every_seconds: float | None,
        *,
        log: Callable[[Mapping[str, float], int], object] = lambda _values, _step: None,
        say: Callable[[str], object] = lambda _line: None,
    ) -> None:
        self._run, self._every, self._log, self._say = run, every_seconds, log, say
        self._owner = os.getpid()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._card = ""

    def start(self) -> None:
        """Begin to wait for the first sample. Without more threads there is none."""
        if self._every is None:
            return
        thread = threading.Thread(target=self._work, args=(self._every,), name="ridgepole-system", daemon=True)
        with contextlib.suppress(RuntimeError):
            start_thread(thread)
            self._thread = thread

    def close(self) -> None:
        """End the samples, record the step times, and say the verdict on them."""
        if os.getpid() != self._owner:
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)  # a driver that hangs is left alone
        times = self._write_step_times()
        if times is not None and not self._run.rank and times.seconds >= _SAY_SECONDS:
            self._say(steptime.verdict(steptime.read(self._run.directory)))

    def _write_step_times(self) -> steptime.StepTime | None:
        """Write the step times, unless there are hardly any, and return them."""
        run, spent = self._run, self._run.spent()
        if run.ticks is None or spent.seconds < steptime.LEAST_SECONDS:
            return None
        source = run.ticks.times.source
        times = steptime.measured(spent, source, rank=run.rank, attempt=run.attempt, card=self._card)
        with contextlib.suppress(OSError):  # a full disk must not end the run
            steptime.write(run.directory, times)
        return times

    # --- the thread

    def _work(self, every: float) -> None:
        if self._stop.wait(every):
            return
        try:
            with contextlib.closing(_Samples(self._run)) as samples:
                self._sample(samples, every)
        except Exception as error:  # noqa: BLE001 - drivers and other packages: metrics never stop a run
            self._say(f"no more system metrics: {type(error).__name__}: {text_of(error)}")

    def _sample(self, samples: _Samples, every: float) -> None:
        wait, number = min(_WARM_UP_SECONDS, every / 2), 0
        while not self._stop.wait(wait):
            with contextlib.suppress(OSError):  # the disk is full
                values = samples.take()
                self._card = samples.card
                self._log(values, self._run.step or 0)
            if number % _RENEW == 0:
                self._write_step_times()
            wait, number = every, number + 1


class _Samples:
    """The samples of a run, and their file.

    Attributes:
        card: The model of its first card; empty without one.
    """

    def __init__(self, run: WatchedRun) -> None:
        from ridgepole.watch.system import SystemSampler

        self._run, self.card = run, ""
        self._sampler = SystemSampler(run.directory, run.pid, run.chosen, host=run.host)
        self._path = run.directory / rundir.system_file(run.rank)
        self._cards: list[dict[str, Any]] | None = None
        self._sample()
        self._spent = run.spent()

    def take(self) -> dict[str, float]:
        """Take a sample, append it to the file, and return its numbers.

        Raises:
            OSError: If it can't be written.
        """
        run, sampler = self._run, self._sampler
        values = self._sample()
        cards = sampler.described_cards()
        self.card = str(cards[0]["name"]) if cards else ""
        values |= self._step_rates()
        lines: list[dict[str, Any]] = []
        if cards != self._cards and not run.steps_alone:
            lines.append({"header": sampler.header() | {"rank": run.rank, "cards": cards}})
        place = {"time": round(time.time(), 3), "step": run.step, "rank": run.rank, "attempt": run.attempt}
        if values:
            lines.append(place | {"values": values} | ({"throttled": sampler.throttled} if sampler.throttled else {}))
        append_lines(self._path, b"".join(orjson.dumps(line) + b"\n" for line in lines))
        self._cards = cards
        return values

    def close(self) -> None:
        """Release the drivers."""
        self._sampler.close()

    def _sample(self) -> dict[str, float]:
        if not self._run.steps_alone:
            return self._sampler.sample()
        self._sampler.find_cards()
        return {}

    def _step_rates(self) -> dict[str, float]:
        """Return the rates and shares of the steps since the last sample."""
        before, self._spent = self._spent, self._run.spent()
        spent, ticks = self._spent.since(before), self._run.ticks
        if ticks is None or spent.seconds <= 0 or not spent.steps:
            return {}
        times = steptime.measured(spent, ticks.times.source, card=self.card)
        found = {name: value for name, value in times.rates().items() if name != "mfu"}
        if times.mfu is not None:
            found["mfu_percent"] = 100 * times.mfu
        found |= {f"{part}_percent": 100 * times.share(part) for part in ("code", *spent.parts)}
        return {name: round(value, 3) for name, value in found.items()}
