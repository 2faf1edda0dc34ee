"""The connection to the writer's process: a bounded queue, a thread that empties it, deadlines."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ridgepole.children import in_forked_children, our_python
from ridgepole.errors import TrackerError
from ridgepole.loggers.slot import LoggerSlot
from ridgepole.loggers.wandb.account import client_environment
from ridgepole.loggers.wandb.frames import encode, read_frames, write_all
from ridgepole.loggers.wandb.mailbox import Outbox, Replies
from ridgepole.threads import start_thread

QUEUE_BYTES = 16 << 20
PATIENCE = 30.0  # seconds without a sign of the client after which it counts as hanging
FLUSH_SECONDS = 1.0  # how often the client writes its file; with its default a `kill -9` loses 15 s

_CHUNK = 256 << 10  # bytes; room is freed after each
_LOOK_SECONDS = 0.25
_SILENT_SECONDS = 3.0  # a longer wait at the end is announced
_WRITER = "ridgepole.loggers.wandb.writer"


class RunIdError(TrackerError):
    """W&B has no run of the id that must be resumed, or has one that must not be."""


class WriterLink:
    """The connection to a running writer.

    Records that the client's file can take are never dropped. If they are logged faster than the
    client takes them, `put` waits for room, and `finish` waits for all of them. Deadlines are for
    a network, and for a client that hangs: that is, one that takes nothing for a while.

    Args:
        log: For warnings.
        slot: Counts dropped records.
        stop: Called, on a thread of the link, when the run's page asks the run to stop.
        limit: Bytes that may wait.
    """

    def __init__(
        self,
        log: logging.Logger,
        slot: LoggerSlot,
        stop: Callable[[], None] = lambda: None,
        limit: int = QUEUE_BYTES,
    ) -> None:
        self._log = log
        self._slot = slot
        self._stop = stop
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._outbox = Outbox(limit)
        self._replies = Replies()
        self._foreign = False
        self._stalled_at = -1  # the answers heard when the client was found hanging
        self._tokens = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []

    @property
    def info(self) -> dict[str, Any]:
        """Return the writer's facts about the run: `directory`, `url`, `resumed`."""
        return self._replies.info

    @property
    def gone(self) -> str:
        """Return why the writer has ended; empty while it runs."""
        return self._replies.gone

    @property
    def sent(self) -> int:
        """Return how many records were accepted."""
        return self._outbox.sent

    @property
    def handled(self) -> int:
        """Return how many records the client is known to have."""
        return self._replies.handled

    # -- starting ----------------------------------------------------------------------------------

    def start(self, options: Mapping[str, Any], deadline: float, output: Path) -> None:
        """Start the writer and wait until it has started the run.

        Args:
            options: The options of the run, as `logger` and `writer` agree on them.
            deadline: When to give up, by the monotonic clock.
            output: The file that receives the client's output.

        Raises:
            TrackerError: If the run did not start in time; the writer is ended then.
        """
        with output.open("ab") as sink:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                our_python(_WRITER),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=client_environment(Path(options["root"]) / "wandb"),
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for this process, not for the client
            )
        in_forked_children(self.after_fork_in_child)
        self.put(("start", dict(options)), count=False)
        for target in (self._pump, self._listen):
            thread = threading.Thread(target=target, name="ridgepole-wandb", daemon=True)
            start_thread(thread)
            self._threads.append(thread)
        self._replies.wait_for(lambda: bool(self.info or self.gone), deadline)
        if not self.info:
            reason = self.gone or "no answer in time"
            self.kill()
            raise (RunIdError if self._replies.refused_id else TrackerError)(reason)

    # -- sending -----------------------------------------------------------------------------------

    def put(self, frame: tuple[Any, ...], *, count: bool = True, patience: float = PATIENCE) -> bool:
        """Queue a frame; return whether it was accepted. Wait only if the queue is full.

        Args:
            frame: The frame.
            count: Whether it is a record. Records are counted, and dropped if the client hangs.
            patience: Seconds without a sign of the client after which it hangs. Later calls don't
                wait until there is one.
        """
        data = encode(frame)
        if self._foreign:
            return True  # the run belongs to the parent of this forked child
        if not self.gone and (self._outbox.put(data, count=count) or (count and self._put_late(data, patience))):
            return True
        if count:
            with self._lock:
                self._slot.dropped += 1
            if not self.gone and not self._outbox.closed:
                self._warn("full", "W&B's client does not take records any more; they are dropped there until it does")
        return False

    def _put_late(self, data: bytes, patience: float) -> bool:
        """Wait for room as long as the client takes records."""
        heard, since = self._replies.heard, time.monotonic()
        while not (self.gone or self._outbox.closed or self._stalled_at == self._replies.heard):
            self._outbox.wait_for_room(len(data), min(patience, _LOOK_SECONDS))
            if self._outbox.put(data, count=True):
                return True
            if self._replies.heard != heard:
                heard, since = self._replies.heard, time.monotonic()
            elif time.monotonic() - since >= patience:
                self._stalled_at = heard
        return False

    def sync(self, timeout: float) -> bool:
        """Wait until the client has everything that was accepted so far; return whether it has.

        Args:
            timeout: Seconds. After a timeout without any sign of the client, later calls don't
                wait until there is one.
        """
        with self._lock:
            if self._foreign or self.gone or self._outbox.closed:
                return not self.gone
            self._tokens += 1
            token = self._tokens
        heard = self._replies.heard
        self.put(("sync", token), count=False)
        self._outbox.hurry()
        deadline = time.monotonic() + (0 if self._stalled_at == heard else timeout)
        answered = self._replies.wait_for(lambda: self._replies.synced >= token or bool(self.gone), deadline)
        reached = answered and not self.gone
        if not answered and self._replies.heard == heard:
            self._stalled_at = heard
            self._warn("stalled", "W&B does not answer; the run continues without waiting for it")
        elif not answered:
            self._warn("behind", "W&B's client takes records more slowly than they are logged; the end waits for them")
        return reached

    # -- ending ------------------------------------------------------------------------------------

    def finish(self, timeout: float, exit_code: int = 0) -> bool:
        """End the run and all processes of the writer; return whether everything arrived.

        The client gets all records first, however long that takes, unless it hangs. What it did
        not get is counted as dropped.

        Args:
            timeout: Seconds for the network, after the client has everything; and seconds without a
                sign of the client after which it hangs. The writer is killed then.
            exit_code: 0 for a run that finished; W&B marks any other as failed.
        """
        process, replies = self._process, self._replies
        if process is None or self._foreign:
            return True
        self.put(("finish", exit_code), count=False)
        self._outbox.close()
        self._outbox.hurry()
        try:
            has_all = lambda: replies.finishing or bool(self.gone)  # noqa: E731 - asked twice
            if not replies.wait_for(has_all, time.monotonic() + min(timeout, _SILENT_SECONDS)):
                left = self.sent - self.handled
                self._log.info("W&B: %d records are still being written to the client's file", left)
                replies.wait_while_moving(has_all, timeout)
            deadline = time.monotonic() + (timeout * 0.9 if replies.finishing else 0)  # the rest is for killing
            replies.wait_for(lambda: replies.complete is not None or bool(self.gone), deadline)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            self.kill()
            self._slot.dropped += self.sent - self.handled
        return bool(replies.complete) and self.sent == self.handled

    def kill(self) -> None:
        """End the writer and the client's own processes."""
        process = self._process
        if process is None or self._foreign:
            return
        import psutil

        self._outbox.close()
        started = list(self._replies.services)
        with contextlib.suppress(psutil.Error):
            started += psutil.Process(process.pid).children(recursive=True)
        # The client's service writes its file once a second; give a remaining one the time to do
        # it.
        _wait(started, FLUSH_SECONDS * 1.5)
        for service in [*started, process]:
            with contextlib.suppress(psutil.Error, OSError):
                service.kill()
        process.wait()
        self._outbox.hurry()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(1.0)  # both have nothing left to wait for
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not any(thread.is_alive() for thread in self._threads):
                pipe.close()

    # -- threads -----------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send waiting frames, several at a time."""
        assert self._process is not None
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        last = False
        while not last:
            batch, last = self._outbox.take()
            for at in range(0, len(batch), _CHUNK):
                chunk = batch[at : at + _CHUNK]
                try:
                    write_all(pipe, chunk)
                except OSError:
                    return  # the listener notices it too
                self._outbox.delivered(len(chunk))

    def _listen(self) -> None:
        """Handle the writer's answers until it ends."""
        assert self._process is not None
        assert self._process.stdout is not None
        reason = ""
        for frame in read_frames(self._process.stdout.fileno()):
            self._replies.take(frame)
            match frame:
                case ("refused", text, _):
                    reason = text
                case ("stop",):
                    self._stop()
                case ("problem", text):
                    self._slot.dropped += 1
                    self._warn("problem", f"W&B did not take a record: {text}")
        self._replies.end(reason or "its client's process has ended")
        if self.info and not self._outbox.closed:
            self._warn("gone", f"W&B is switched off for the rest of this run: {self.gone}")

    def _warn(self, kind: str, message: str) -> None:
        with self._lock:
            if kind in self._warned:
                return
            self._warned.add(kind)
        self._log.warning("%s", message)

    # -- forks -------------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Release the parent's writer."""
        self._lock = threading.Lock()
        self._outbox.forked()
        self._replies.forked()
        self._foreign = True
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.returncode = 0  # not a child of this process: no wait, no warning


def _wait(processes: list[Any], seconds: float) -> None:
    """Wait until processes (not only our children) have ended, or the time is over."""
    import psutil

    def alive(process: Any) -> bool:
        try:
            return bool(process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False

    deadline = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
