"""Plain lines where the output is not a terminal: a file, a pipe, a batch system's log."""

from __future__ import annotations

from typing import IO

from rich.console import Console

from ridgepole.permanences.progress import text
from ridgepole.permanences.progress.display import Display, Source
from ridgepole.permanences.progress.task import LazyTask

LINE_SECONDS = 30.0


class Lines(Display):
    """One line at the start of a task, one every 30 s while it moves, one at its end; each is flushed.

    A task that is run again and again (a bar of every epoch) writes at most one line in 30 s, and the last one when
    the display is closed.

    Args:
        console: Where to write.
    """

    shows = True
    period = 1.0

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def paint(self, *, force: bool = False) -> None:  # noqa: ARG002 - nothing is drawn anew in a file
        """Writes what is due."""
        for source in self._sources:
            self._tell(source, closing=False)
        self._forget_done(lambda task: task.told_end)

    def notice(self) -> None:
        """Writes at once that a task has begun or ended."""
        self.paint()

    def finish(self, source: Source | None) -> None:
        """Writes the ends that have not been told."""
        for one in self._sources if source is None else [source]:
            self._tell(one, closing=True)

    def _tell(self, source: Source, *, closing: bool) -> None:
        now = source.now()
        for task in source.tasks():
            task.look(now)
            task.note_wanted = True
            line = _due(task, now, closing=closing)
            if line:
                task.told, task.told_count, task.told_end = now, task.completed, task.ended or closing
                self._write(f"{task.description}: {line}\n")

    def _write(self, line: str) -> None:
        stream: IO[str] = self._console.file
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(line.encode(encoding, "replace").decode(encoding))
        stream.flush()


def _due(task: LazyTask, now: float, *, closing: bool) -> str:
    """The line that is due about a task, or an empty text."""
    if not task.moved or task.told_end or task.hidden:
        return ""
    rested = task.told is None or now - task.told >= LINE_SECONDS
    if task.ended or closing:
        return _end(task, now) if rested or closing or task.passes == 1 else ""
    if task.told is None and task.active:
        return f"{_count(task)} started"
    # One that is moved by hand is first heard of when it has moved.
    return _middle(task, now) if rested and task.completed != task.told_count else ""


def _count(task: LazyTask) -> str:
    return f"{text.amount(task.completed)}/{'?' if task.total is None else text.amount(task.total)}"


def _middle(task: LazyTask, now: float) -> str:
    left = task.seconds_left(now)
    parts = [
        f"{_count(task)} ({100 * task.completed / task.total:.0f}%)" if task.total else _count(task),
        text.pace(task.rate, task.unit),
        f"{text.duration(left)} left" if left is not None else f"{text.spent(task.seconds_spent(now))} so far",
        *_notes(task),
    ]
    return ", ".join(part for part in parts if part)


def _end(task: LazyTask, now: float) -> str:
    took = text.spent(task.seconds_spent(now))
    head = f"{_count(task)} done in {took}" if task.finished else f"stopped at {_count(task)} after {took}"
    return ", ".join(part for part in (head, text.pace(task.rate, task.unit), *_notes(task)) if part)


def _notes(task: LazyTask) -> list[str]:
    return [text.clean(task.status) if task.bar.with_status else "", task.note_text]
