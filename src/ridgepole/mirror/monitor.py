"""The run's side of the process that mirrors it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ridgepole.children import our_python
from ridgepole.errors import RunDirError
from ridgepole.mirror.helper import Orders
from ridgepole.mirror.settings import MirrorPolicy, checked_url

_START_SECONDS = 15.0
"""Seconds that a start waits for the first answer, beside those of another machine's lease."""
_END_SECONDS = 3.0


class Mirror:
    """Starts the process that mirrors a run, and ends it.

    The run does not depend on it, once it has started: where the process dies, the run warns.

    Args:
        run: The run directory.
        policy: Where it is mirrored.
        warn: Warns the user.
    """

    def __init__(self, run: Path, policy: MirrorPolicy, warn: Callable[[str], None]) -> None:
        self._run, self._policy, self._warn = run, policy, warn
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = os.getpid()
        self._control = self._answers = -1

    def start(self) -> None:
        """Start the process and wait, for a bounded time, until the mirror is known to be writable.

        Raises:
            RunDirError: If it can't be: the rights, the bucket, another writer.
        """
        policy = self._policy
        orders = Orders(
            run=str(self._run),
            url=checked_url(policy.url),
            every_seconds=policy.every_seconds,
            drain_seconds=policy.drain_seconds,
            lease_seconds=policy.lease_seconds,
        )
        reading, self._control = os.pipe()
        self._answers, writing = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                our_python("ridgepole.mirror.helper", str(reading), str(writing)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(reading, writing),
            )
        except OSError as error:
            self._warn(f"the run is not mirrored: its process can't be started: {error}")
            os.close(self._control)
            os.close(self._answers)
            return
        finally:
            os.close(reading)
            os.close(writing)
        os.write(self._control, json.dumps(asdict(orders)).encode() + b"\n")
        word, text = self._answer(_START_SECONDS + policy.lease_seconds)
        if word == "refused":
            self._close()
            raise RunDirError(f"the run can't be mirrored: {text}")
        if word != "ok":
            with contextlib.suppress(OSError, ValueError, AttributeError):  # no logger is open yet
                sys.stderr.write(f"ridgepole: the mirror can't be reached yet, the run begins: {text or 'no answer'}\n")

    def end(self, seconds: float) -> None:
        """Wait until all is mirrored, or the time is over.

        Args:
            seconds: The most that is left; the policy's may be less.
        """
        if self._process is None or os.getpid() != self._pid:
            return
        with contextlib.suppress(OSError):
            os.write(self._control, b"end\n")
        os.close(self._control)
        self._control = -1
        seconds = min(seconds, self._policy.drain_seconds + _END_SECONDS)
        until = time.monotonic() + seconds
        word, text = "", ""
        while word not in ("done", "left", "gone"):
            word, text = self._answer(max(0.0, until - time.monotonic()))
            if not word and time.monotonic() > until:
                break
        if word != "done":
            reason = text or ("its process has died" if word == "gone" else f"not all was done in {seconds:.0f} s")
            self._warn(f"the mirror is not complete: {reason}; ridgepole mirror push {self._run} brings the rest")
        self._close()

    def _answer(self, seconds: float) -> tuple[str, str]:
        """Wait for an answer; the word is empty where none came, and `gone` where none can come."""
        until = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._answers], [], [], max(0.0, until - time.monotonic()))[0]:
                return "", ""
            piece = os.read(self._answers, 1)
            if not piece:
                return "gone", ""
            line += piece
        word, text = json.loads(line)
        return str(word), str(text)

    def _close(self) -> None:
        if self._control >= 0:
            os.close(self._control)
        os.close(self._answers)
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
