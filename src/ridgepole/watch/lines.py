"""Turn what a program writes to a terminal into the lines that stay there."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Collection

from ridgepole.errors import redact

_TOKEN = re.compile(
    r"(?P<csi>\x1b\[(?P<args>[0-9;:?<=>]*)[ -/]*(?P<final>[@-~]))"
    r"|(?P<osc>\x1b[\]PX^_].*?(?:\x07|\x1b\\))"
    r"|(?P<escape>\x1b[ -/]*[0-~])"
    r"|(?P<control>[\x00-\x1f\x7f])"
    r"|(?P<text>[^\x00-\x1f\x7f]+)",
    re.DOTALL,
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;:?<=>]*[ -/]*|[\]PX^_][^\x07\x1b]{0,4096}|[ -/]*)?$")
_MOST_ROWS = 300
_MOST_LETTERS = 1 << 16
_FORGET_LINES = 500


class LineRecorder:
    """Follows the cursor as far as bars move it, and passes lines on once they can't change.

    A row that was rewritten counts as it was last, so frames of bars leave nothing behind. Where
    another program writes over a frame of Ridgepole's bars, which are drawn without wrapping, the
    rest of that row goes too. Colours are dropped.

    Args:
        take: Called with whole lines, as UTF-8.
        secrets: Texts that are replaced by `***`.
    """

    def __init__(self, take: Callable[[bytes], object], secrets: Collection[str] = ()) -> None:
        self._take, self._secrets = take, [secret for secret in secrets if secret]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""  # an escape sequence that is not complete
        self._rows, self._row, self._column = [""], 0, 0
        self._saved = (0, 0)
        self._wraps, self._frame = True, set[str]()  # the rows of the newest frame
        self._reach = 0  # rows that the cursor was moved up lately
        self._since = 0

    def feed(self, data: bytes) -> None:
        """Take output of a program."""
        text = self._rest + self._decoder.decode(data)
        unfinished = _UNFINISHED.search(text[-8192:])
        self._rest = unfinished[0] if unfinished else ""
        text = text[: len(text) - len(self._rest)].replace("\r\n", "\n")
        if text.isprintable() or not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text):
            self._plain(text)
        else:
            for match in _TOKEN.finditer(text):
                self._token(match)
        self._pass_on(max(0, self._row - self._reach))

    def close(self) -> None:
        """Pass on what is left."""
        while len(self._rows) > 1 and not self._rows[-1]:
            self._rows.pop()
        if self._rows == [""]:
            return
        self._pass_on(len(self._rows))

    def _plain(self, text: str) -> None:
        for number, line in enumerate(text.split("\n")):
            if number:
                self._line_feed()
            self._write(line)

    def _token(self, match: re.Match[str]) -> None:
        if match["text"]:
            self._write(match["text"])
        elif match["csi"]:
            self._move(match["final"], match["args"])
        elif match["control"] == "\n":
            self._line_feed()
        elif match["control"] == "\r":
            self._column = 0
        elif match["control"] == "\b":
            self._column = max(0, self._column - 1)
        elif match["control"] == "\t":
            self._write("\t")
        elif match["escape"] == "\x1b7":
            self._saved = self._row, self._column
        elif match["escape"] == "\x1b8":
            self._row, self._column = min(self._saved[0], len(self._rows) - 1), self._saved[1]

    def _write(self, text: str) -> None:
        if not text:
            return
        row, column = self._rows[self._row], self._column
        if self._wraps and row in self._frame:
            row = row[:column]
        if column == len(row):
            self._rows[self._row] = row + text
        else:
            self._rows[self._row] = row[:column].ljust(column) + text + row[column + len(text) :]
        self._column += len(text)
        if not self._wraps:
            self._frame.add(self._rows[self._row])
        if self._column > _MOST_LETTERS:  # a line without an end must not fill the memory
            self._line_feed()

    def _line_feed(self) -> None:
        self._since += 1
        if self._since > _FORGET_LINES:
            self._reach = 0
        self._down(1)
        self._column = 0

    def _down(self, count: int) -> None:
        self._row += min(count, _MOST_ROWS)
        while self._row >= len(self._rows):
            self._rows.append("")
        if len(self._rows) > 2 * _MOST_ROWS:
            self._pass_on(len(self._rows) - _MOST_ROWS)

    def _move(self, final: str, args: str) -> None:
        first = args.split(";", maxsplit=1)[0]
        count = int(first) if first.isdecimal() and len(first) < 6 else 0
        row = self._rows[self._row]
        if final == "A":
            count = max(1, count)
            self._reach, self._since = max(min(count, _MOST_ROWS), self._reach), 0
            self._row = max(0, self._row - count)
        elif final == "B":
            self._down(max(1, count))
        elif final == "C":
            self._column = min(self._column + max(1, count), _MOST_LETTERS)
        elif final == "D":
            self._column = max(0, self._column - max(1, count))
        elif final == "G":
            self._column = min(max(1, count), _MOST_LETTERS) - 1
        elif final == "K":
            kept = {0: row[: self._column], 1: row[self._column :].rjust(len(row)), 2: ""}
            self._rows[self._row] = kept.get(count, row)
        elif args == "?7" and final in "hl":
            self._wraps = final == "h"
            self._frame = self._frame if self._wraps else set()
        elif final == "J" and count == 0:
            self._rows[self._row] = row[: self._column]
            del self._rows[self._row + 1 :]

    def _pass_on(self, count: int) -> None:
        """Pass the first rows on."""
        if not count:
            return
        lines = "".join(f"{row.rstrip()}\n" for row in self._rows[:count])
        del self._rows[:count]
        self._rows = self._rows or [""]
        self._row, self._saved = max(0, self._row - count), (max(0, self._saved[0] - count), self._saved[1])
        self._take(redact(lines, self._secrets).encode("utf-8", "replace"))
