"""The part of foreign output that may still change: an unfinished line, or another display's rows.

Another display (tqdm with two bars, Rich's `Live`) moves the cursor up and rewrites its rows. Its
last rows are kept here, whole lines at a time, and shown between the printed output and our bars.
As many rows are kept as the other display has moved up, for as long as it keeps doing so.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from rich.cells import cell_len, set_cell_size

_ESCAPE = re.compile(r"\x1b(?:\[([0-?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
# Escape codes that only change the look of text are kept: colours (SGR) and links (OSC 8).
LOOKS = re.compile(r"\x1b(?:\[[0-9;:]*m|\]8;[^\x07\x1b]*(?:\x07|\x1b\\))")
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])|[\b\r\n]")
# The start of a code that the next text completes.
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b\r\n]*\x1b?|[ -/]*)\Z")
_LAST = re.compile(rf"[^\x1b]((?:{LOOKS.pattern})*)\Z")
RESET = "\x1b[0m"
LONGEST_LINE = 4000
KEEP_SECONDS = 1.0


class PendingOutput:
    """The last lines of a stream that may still change. There is always one: the unfinished line.

    Codes that move the cursor on the whole screen, or erase it, are dropped: they would break the
    bars.

    Args:
        take_back: Returns up to that many of the last released lines, to change them.
    """

    def __init__(self, take_back: Callable[[int], list[str]]) -> None:
        self._take_back = take_back
        self.lines = [""]
        self.row = 0
        self._overwrite = False  # the next text replaces the line
        self._back = 0  # characters at the line's end that the next text replaces
        self._part = ""  # the start of a code
        self._looks = ""  # colours that were switched on before the text that replaces the line
        self._keep = 0
        self._moved_at = 0.0

    def feed(self, text: str) -> list[str]:
        """Take output; return the whole lines, without line ends, that can no longer change."""
        done: list[str] = []
        at = 0
        if self._part:
            text, self._part = self._part + text, ""
        if "\x1b" in text and (begun := _BEGUN.search(text)) and len(begun[0]) < LONGEST_LINE:
            text, self._part = text[: begun.start()], begun[0]
        for control in _CONTROL.finditer(text):
            self._put(text[at : control.start()])
            at = control.end()
            self._apply(control[0], done)
        self._put(text[at:])
        if len(self.lines[self.row]) > LONGEST_LINE:  # a line without an end must not grow forever
            self._next(done)
        return done

    def _put(self, text: str) -> None:
        text = text.replace("\x1b", "")  # an incomplete code
        if text:
            line = self._looks if self._overwrite else self.lines[self.row]
            for _ in range(self._back):
                line = _LAST.sub(r"\1", line)
            self.lines[self.row] = line + text
            self._overwrite, self._back, self._looks = False, 0, ""

    def _apply(self, control: str, done: list[str]) -> None:
        if control == "\n":
            self._next(done)
        elif control == "\r":
            self._overwrite = True
        elif control == "\b":
            self._back += not self._overwrite
        elif LOOKS.fullmatch(control):
            if self._overwrite:
                self._looks += control
            else:
                self.lines[self.row] += control
        elif (code := _ESCAPE.fullmatch(control)) and code[2]:
            self._move(code[2], int(code[1]) if code[1].isdecimal() else None, done)

    def _next(self, done: list[str]) -> None:
        self.lines[self.row] += self._looks
        self.row += 1
        self._overwrite, self._back, self._looks = self.row < len(self.lines), 0, ""
        if self._overwrite:
            return
        self.lines.append("")
        keep = self._keep if time.monotonic() - self._moved_at < KEEP_SECONDS else 0
        while len(self.lines) - 1 > keep:
            done.append(self.lines.pop(0))
            self.row -= 1

    def _move(self, final: str, number: int | None, done: list[str]) -> None:
        """Apply cursor codes of other displays: up, down, line start, erase."""
        if final in "AF":
            self._up(number or 1, done)
        elif final in "BE":
            self.row = min(self.row + (number or 1), len(self.lines) - 1)
        elif final == "K" and (number or self._overwrite):
            self.lines[self.row] = ""
        elif final == "J" and not number:
            del self.lines[self.row + 1 :]
            if self._overwrite:
                self.lines[self.row] = ""
        if final in "ABEFG":
            self._overwrite = True

    def _up(self, rows: int, done: list[str]) -> None:
        self._moved_at = time.monotonic()
        if rows > self.row:
            missing = rows - self.row
            back = done[-missing:]  # not shown yet
            del done[-missing:]
            back[:0] = self._take_back(missing - len(back))
            self.lines[:0] = back
            self.row += len(back)
        self._keep = max(self._keep, len(self.lines) - 1)
        self.row = max(0, self.row - rows)

    def visible(self) -> list[str]:
        """Return the lines to show: up to the cursor's line, and non-empty lines below it."""
        last = max((at for at, line in enumerate(self.lines) if line.strip()), default=0)
        return self.lines[: max(last, self.row) + 1]

    @property
    def empty(self) -> bool:
        """Tell whether nothing is to be shown."""
        return len(self.visible()) == 1 and not self.lines[0]

    def clear(self) -> list[str]:
        """Release all lines, the unfinished one last."""
        lines = self.visible()
        if self._overwrite:  # a carriage return that the terminal still has to apply
            lines[-1] = lines[-1].rstrip() and lines[-1] + "\r"
        lines[-1] += "\b" * self._back + self._part
        self.__init__(self._take_back)  # type: ignore[misc]  # as new
        return lines


def cut(line: str, width: int) -> str:
    """Return a line as one row, cut to the width; keep colours and drop all other control codes."""
    shown, room, inked = "", width, False
    at = 0
    for look in [*LOOKS.finditer(line), None]:
        plain = "".join(char if char.isprintable() else " " for char in line[at : look.start() if look else len(line)])
        plain = plain if cell_len(plain) <= room else set_cell_size(plain, room)
        shown, room = shown + plain, room - cell_len(plain)
        if look:
            shown, inked, at = shown + look[0], True, look.end()
    return shown + RESET if inked else shown
