"""The part of foreign output that may still change: the start of a line, or another progress display's rows.

Another display (tqdm with two bars, Rich's `Live`) goes back up with the cursor and writes its rows anew. Its last rows
are kept here, whole lines at a time, and shown between what is printed and our own bars. How many: as many as it has
gone back, for as long as it goes on doing so.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from rich.cells import cell_len, set_cell_size

_ESCAPE = re.compile(r"\x1b(?:\[([0-?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
# Escape codes that only change how text looks may pass: colours (SGR) and links (OSC 8).
LOOKS = re.compile(r"\x1b(?:\[[0-9;:]*m|\]8;[^\x07\x1b]*(?:\x07|\x1b\\))")
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])|[\b\r\n]")
# The start of a code whose end will come with the next text.
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b\r\n]*\x1b?|[ -/]*)\Z")
_LAST = re.compile(rf"[^\x1b]((?:{LOOKS.pattern})*)\Z")
RESET = "\x1b[0m"
LONGEST_LINE = 4000
KEEP_SECONDS = 1.0


class Region:
    """The last lines of a stream, as far as they may still change. There is always one: the line that is begun.

    What moves the cursor to a place of the whole screen, or erases it, is left out: it would tear the bars apart.

    Args:
        take_back: Gives back the last lines that were let go, to change them; at most so many.
    """

    def __init__(self, take_back: Callable[[int], list[str]]) -> None:
        self._take_back = take_back
        self.lines = [""]
        self.row = 0
        self._anew = False  # the next text takes the place of what stands in the line
        self._back = 0  # characters at its end that the next text takes the place of
        self._part = ""  # the start of a code
        self._looks = ""  # colours that were switched on since then
        self._keep = 0
        self._moved_at = 0.0

    def feed(self, text: str) -> list[str]:
        """Takes output in.

        Returns:
            Whole lines that will not change any more, without their ends.
        """
        done: list[str] = []
        at = 0
        if self._part:
            text, self._part = self._part + text, ""
        if "\x1b" in text and (begun := _BEGUN.search(text)) and len(begun[0]) < LONGEST_LINE:
            text, self._part = text[: begun.start()], begun[0]
        for control in _CONTROL.finditer(text):
            self._put(text[at : control.start()])
            at = control.end()
            self._obey(control[0], done)
        self._put(text[at:])
        if len(self.lines[self.row]) > LONGEST_LINE:  # a line without an end must not grow for ever
            self._next(done)
        return done

    def _put(self, text: str) -> None:
        text = text.replace("\x1b", "")  # a code that is not whole
        if text:
            line = self._looks if self._anew else self.lines[self.row]
            for _ in range(self._back):
                line = _LAST.sub(r"\1", line)
            self.lines[self.row] = line + text
            self._anew, self._back, self._looks = False, 0, ""

    def _obey(self, control: str, done: list[str]) -> None:
        if control == "\n":
            self._next(done)
        elif control == "\r":
            self._anew = True
        elif control == "\b":
            self._back += not self._anew
        elif LOOKS.fullmatch(control):
            if self._anew:
                self._looks += control
            else:
                self.lines[self.row] += control
        elif (code := _ESCAPE.fullmatch(control)) and code[2]:
            self._move(code[2], int(code[1]) if code[1].isdecimal() else None, done)

    def _next(self, done: list[str]) -> None:
        self.lines[self.row] += self._looks
        self.row += 1
        self._anew, self._back, self._looks = self.row < len(self.lines), 0, ""
        if self._anew:
            return
        self.lines.append("")
        keep = self._keep if time.monotonic() - self._moved_at < KEEP_SECONDS else 0
        while len(self.lines) - 1 > keep:
            done.append(self.lines.pop(0))
            self.row -= 1

    def _move(self, final: str, number: int | None, done: list[str]) -> None:
        """Obeys what other displays use: up and down, to the line's start, erasing the line and all below it."""
        if final in "AF":
            self._up(number or 1, done)
        elif final in "BE":
            self.row = min(self.row + (number or 1), len(self.lines) - 1)
        elif final == "K" and (number or self._anew):
            self.lines[self.row] = ""
        elif final == "J" and not number:
            del self.lines[self.row + 1 :]
            if self._anew:
                self.lines[self.row] = ""
        if final in "ABEFG":
            self._anew = True

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
        """The lines to show: up to the cursor's, and those below it that hold something."""
        last = max((at for at, line in enumerate(self.lines) if line.strip()), default=0)
        return self.lines[: max(last, self.row) + 1]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return len(self.visible()) == 1 and not self.lines[0]

    def clear(self) -> list[str]:
        """Hands all lines over, the one that is begun last."""
        lines = self.visible()
        if self._anew:  # a carriage return that a terminal would still obey
            lines[-1] = lines[-1].rstrip() and lines[-1] + "\r"
        lines[-1] += "\b" * self._back + self._part
        self.__init__(self._take_back)  # type: ignore[misc]  # as new
        return lines


def cut(line: str, width: int) -> str:
    """A line as one row: cut to the width, with its colours, nothing else that a terminal would obey."""
    shown, room, inked = "", width, False
    at = 0
    for look in [*LOOKS.finditer(line), None]:
        plain = "".join(char if char.isprintable() else " " for char in line[at : look.start() if look else len(line)])
        plain = plain if cell_len(plain) <= room else set_cell_size(plain, room)
        shown, room = shown + plain, room - cell_len(plain)
        if look:
            shown, inked, at = shown + look[0], True, look.end()
    return shown + RESET if inked else shown
