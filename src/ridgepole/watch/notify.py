"""Send notifications through apprise, in a process of their own that a deadline ends.

apprise takes more than a second to import, and a service may never answer.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from ridgepole.children import our_python
from ridgepole.watch.alerts import Alert

DEADLINE_SECONDS = 30.0
"""Seconds for one notification to all addresses."""

_MOST_IN_AN_HOUR = 30
_SAME_SECONDS = 60.0

_KINDS: Final = {
    "finished": ("finished",),
    "failed": ("failed",),
    "stalled": ("stall",),
    "best": ("best",),
    "guard": ("nan", "spike", "slow", "memory", "disk"),
}
"""The alerts that belong to each word of `on`."""


def kinds_of(on: Sequence[str]) -> list[str]:
    """Return the kinds of alerts to send; the user's own are always among them."""
    return ["alert", *(kind for word in on for kind in _KINDS[word])]


def main() -> None:
    """Send the message on stdin, and print one line for each address that did not take it."""
    message = json.load(sys.stdin)
    try:
        from apprise import Apprise, AppriseAsset
    except ImportError:
        print("apprise is not installed")  # noqa: T201 - the answer
        return
    # By default a redirect to another host is followed, and called success
    asset = AppriseAsset(app_id="Ridgepole", app_desc="Ridgepole", http_redirects=False)
    for url in message["urls"]:
        server = Apprise(asset=asset)
        try:
            taken = server.add(url) and server.notify(
                title=message["title"], body=message["text"], notify_type=_TYPES[message["level"]]
            )
        except Exception as error:  # noqa: BLE001 - a plug-in of apprise may raise anything
            taken = False
            sys.stderr.write(f"{type(error).__name__}\n")
        if not taken:
            print(f"{without_secrets(url)} did not take it")  # noqa: T201


_TYPES = {"info": "info", "warning": "warning", "error": "failure"}


def without_secrets(url: str) -> str:
    """Return the part of an address that can be shown: its service, and a host with a port."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    shown = host if ":" in host or "." in host else "…"
    return f"{parts.scheme}://{shown}"


class Notifier:
    """Sends alerts one after another, and never keeps its caller waiting.

    Args:
        urls: The addresses, as apprise takes them.
        kinds: The kinds of alerts to send.
        run: The name of the run, for the title.
        complain: Called with one line where something was not sent.
        deadline: Seconds for one notification.
    """

    def __init__(
        self,
        urls: Sequence[str],
        kinds: Sequence[str],
        run: str,
        complain: Callable[[str], object],
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        self._urls, self._kinds, self._run = list(urls), frozenset(kinds), run
        self._complain, self._deadline = complain, deadline
        self._waiting: deque[Alert] = deque()
        self._sent: deque[float] = deque(maxlen=_MOST_IN_AN_HOUR)
        self._latest: dict[tuple[str, str], float] = {}
        self._dropped = 0
        self._process: subprocess.Popen[str] | None = None
        self._until = 0.0

    def add(self, alert: Alert) -> None:
        """Send an alert soon, unless it says the same as one of the last minute."""
        if not self._urls or alert.kind not in self._kinds:
            return
        now, key = time.monotonic(), (alert.kind, alert.title)
        if now - self._latest.get(key, -_SAME_SECONDS) < _SAME_SECONDS:
            self._dropped += 1
            return
        self._latest[key] = now
        self._waiting.append(alert)
        self.advance()

    def advance(self) -> bool:
        """End a notification that is over, begin the next; return whether one is being sent."""
        if self._process is not None and not self._is_over(self._process):
            return True
        self._process = None
        if self._waiting:
            self._begin()
        return self._process is not None

    def drain(self) -> None:
        """Send what is left, as one more message; the deadline holds for each."""
        while self.advance():
            time.sleep(0.02)

    def _begin(self) -> None:
        now = time.monotonic()
        if len(self._sent) == _MOST_IN_AN_HOUR and now - self._sent[0] < 3600:
            self._dropped += len(self._waiting)
            self._waiting.clear()
            return
        self._sent.append(now)
        self._until = now + self._deadline
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                our_python("ridgepole.watch.notify"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(self._message()))
            self._process.stdin.close()
        except OSError as error:
            self._complain(f"a notification was not sent: {error}")

    def _message(self) -> dict[str, Any]:
        """Return one message about all alerts that wait."""
        first = self._waiting[0]
        lines = [line for alert in self._waiting for line in _lines(alert)]
        if self._dropped:
            lines.append(f"({self._dropped} more were not sent)")
        worst = max(self._waiting, key=lambda alert: ("info", "warning", "error").index(alert.level))
        self._dropped = 0
        self._waiting.clear()
        lines.append(f"run {self._run} on {socket.gethostname()}")
        title = f"{self._run}: {first.title}"
        return {"urls": self._urls, "title": title, "text": "\n".join(lines), "level": worst.level}

    def _is_over(self, process: subprocess.Popen[str]) -> bool:
        if process.poll() is None:
            if time.monotonic() < self._until:
                return False
            process.kill()
            process.wait()
            self._complain(f"a notification was not sent within {self._deadline:g} s")
        assert process.stdout is not None
        with process.stdout as answers:
            for line in answers.read().splitlines():
                self._complain(f"a notification was not sent: {line}")
        if process.returncode not in (0, -9):
            self._complain("a notification was not sent: apprise ended with an error")
        return True


def _lines(alert: Alert) -> list[str]:
    where = f" (step {alert.step}, rank {alert.rank})" if alert.step is not None else ""
    return [f"{alert.title}{where}", *([alert.text] if alert.text else [])]
