"""What others write to the stream that bars are drawn on, as an emulator of a terminal shows it."""

from __future__ import annotations

import io
import itertools
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyte
import pytest
from rich.console import Console

from ridgepole.progress import ProgressManager

COLUMNS, ROWS = 60, 12
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"


class Shown:
    """A manager that draws one running bar on a stream, and the screen that it makes."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        console = Console(file=stream, force_terminal=True, width=COLUMNS, height=ROWS)
        self.manager = ProgressManager(console)
        self.manager.initialize()
        self.bar = iter(self.manager.track(range(10), "train"))
        next(self.bar)
        self.manager.live.refresh()

    def screen(self) -> list[str]:
        """All lines that are or were on the screen."""
        screen = pyte.HistoryScreen(COLUMNS, ROWS, history=1000, ratio=0.5)
        screen.set_mode(pyte.modes.LNM)
        assert isinstance(self.stream, io.StringIO)
        # The emulator takes a synchronised update's marks for something else.
        pyte.Stream(screen).feed(self.stream.getvalue().replace(BEGIN, "").replace(END, ""))
        past = ["".join(line[at].data for at in range(COLUMNS)) for line in screen.history.top]
        return [line.rstrip() for line in [*past, *screen.display] if line.strip()]

    def others(self) -> list[str]:
        """Those of them that are not the bar's."""
        return [line for line in self.screen() if not line.startswith("train  ")]


@pytest.fixture
def shown() -> Iterator[Shown]:
    made = Shown(io.StringIO())
    yield made
    made.manager.cleanup()


def test_codes_that_come_in_pieces_stay_whole(shown: Shown) -> None:
    for char in "\x1b[31mred\x1b[0m, \x1b]8;;http://a.b\x1b\\a link\x1b]8;;\x1b\\\r\n":
        shown.stream.write(char)
    shown.stream.write("dangling \x1b")
    shown.stream.write("\nnext\n")
    assert shown.others() == ["red, a link", "dangling", "next"]
    assert "\x1b[31mred\x1b[0m" in shown.stream.getvalue()  # type: ignore[attr-defined]


def test_the_start_of_a_code_is_handed_over_when_the_bars_go(shown: Shown) -> None:
    shown.stream.write("text \x1b[3")
    shown.manager.cleanup()
    shown.stream.write("1mred")
    assert shown.stream.getvalue().endswith("text \x1b[31mred")  # type: ignore[attr-defined]


def test_a_spinner_of_backspaces_turns_in_place(shown: Shown) -> None:
    for number in range(20):
        shown.stream.write("|/-."[number % 4] + "\b")
    shown.manager.live.refresh()
    assert shown.others() == ["."]
    shown.stream.write("\x1b[32mgone\x1b[0m\b\b\b\b")
    shown.stream.write("done\n")
    assert shown.others() == ["done"]


def test_rows_of_another_display_that_are_more_than_there_is_room_for(shown: Shown) -> None:
    frame = "\n".join(f"row {number}" for number in range(ROWS))
    shown.stream.write(frame)
    for _ in range(5):
        shown.stream.write(f"\r\x1b[{ROWS - 1}A{frame}")
        shown.manager.live.refresh()
    lines = shown.others()
    assert len(lines) <= 2 * ROWS, f"every frame leaves rows behind: {lines}"
    assert lines[-3:] == [f"row {number}" for number in range(ROWS - 3, ROWS)]
    assert any(line.startswith("train  ") for line in shown.screen()[-1:]), "ours stay below"
    shown.stream.write("\n")
    shown.manager.cleanup()
    assert shown.others()[-ROWS:] == [f"row {number}" for number in range(ROWS)], "in the end all are whole"


def test_the_other_screen_belongs_to_who_has_switched_to_it(shown: Shown) -> None:
    shown.stream.write("before\n\x1b[?1049hfull screen")
    start = len(shown.stream.getvalue())  # type: ignore[attr-defined]
    shown.manager.live.refresh()
    shown.stream.write("more\x1b[5;5Hthere")
    assert shown.stream.getvalue()[start:] == "more\x1b[5;5Hthere", "nothing of ours, all of theirs"  # type: ignore[attr-defined]
    shown.stream.write("\x1b[?1049lback\n")
    back = shown.stream.getvalue()[start:]  # type: ignore[attr-defined]
    assert re.search(r"\x1b\[\?1049l[\s\S]*back\n[\s\S]*train", back), "the bars are there again at once"


def test_who_keeps_the_other_screen_until_after_our_end_does_not_keep_later_bars_away(on_terminal: Any) -> None:
    terminal = on_terminal(
        """
        import sys, time
        from ridgepole.progress import ProgressManager, track
        with ProgressManager() as manager:
            for i in manager.track(range(3), "first"):
                time.sleep(0.05)
                sys.stdout.write("\\x1b[?1049h") if i == 2 else None
        sys.stdout.write("\\x1b[?1049l")
        for i in track(range(10), "second"):
            time.sleep(0.05)
        """
    )
    assert any("(10/10)" in line for line in terminal.finish())


def test_what_comes_in_the_middle_of_a_frame_is_shown_behind_it() -> None:
    """As from a signal's handler, which may come between any two instructions."""

    class Interrupted(io.StringIO):
        wanted = 0

        def write(self, text: str) -> int:
            written = super().write(text[: len(text) // 2])
            if self.wanted:
                self.wanted -= 1
                print("from a handler", self.wanted, file=self)
            return written + super().write(text[len(text) // 2 :])

    stream = Interrupted()
    shown = Shown(stream)
    for number in range(3):
        stream.wanted = 1
        print("main", number, file=stream)
        stream.wanted = 2
        shown.manager.live.refresh()
    lines = shown.others()
    shown.manager.cleanup()
    assert [line for line in lines if line.startswith("main")] == ["main 0", "main 1", "main 2"]
    assert len([line for line in lines if line.startswith("from a handler")]) == 3 * 3, lines


def test_a_text_that_cannot_be_encoded_is_the_printing_code_s_error_and_nobody_else_s() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", write_through=True)
    shown = Shown(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for end in ("\n", ""):
            with pytest.raises(UnicodeEncodeError):
                print("训练", end=end, file=stream)
        print("é fine", file=stream)
        shown.manager.live.refresh()
    shown.manager.cleanup()
    assert stream.buffer.getvalue().count(b"\xe9 fine\n") == 1  # type: ignore[attr-defined]
    assert not shown.manager.live.display.off


def test_bars_that_begin_in_a_pause_wait_for_its_end() -> None:
    stream = io.StringIO()
    manager = ProgressManager(Console(file=stream, force_terminal=True, width=COLUMNS, height=ROWS))
    with manager.paused():
        for _ in manager.track(range(3), "train"):
            manager.live.refresh()
        stream.write("mine\n")
        assert stream.getvalue() == "mine\n"
    assert "(3/3)" in stream.getvalue(), "what has ended in the pause is shown behind it"
    manager.cleanup()


def test_hundreds_of_bars_do_not_draw_a_frame_each() -> None:
    stream = io.StringIO()
    with ProgressManager(Console(file=stream, force_terminal=True, width=COLUMNS, height=ROWS)) as manager:
        for number in range(300):
            list(manager.track(range(3), f"epoch {number}"))
        assert stream.getvalue().count(BEGIN) < 100
    assert "epoch 299" in stream.getvalue()


def frames_in(shown: Shown, seconds: float, *, moving: bool) -> int:
    before = shown.stream.getvalue().count(BEGIN)  # type: ignore[attr-defined]
    end = time.monotonic() + seconds
    for _ in shown.manager.track(itertools.count(), "moving") if moving else itertools.count():
        time.sleep(0.001)
        if time.monotonic() > end:
            break
    return shown.stream.getvalue().count(BEGIN) - before  # type: ignore[attr-defined, no-any-return]


def test_it_draws_ten_times_a_second_at_most_and_only_what_has_changed(shown: Shown) -> None:
    assert 1 <= frames_in(shown, 0.6, moving=True) <= 9
    assert frames_in(shown, 0.5, moving=False) <= 2, "what a second changes: the time"


def test_where_drawing_is_slow_it_draws_less_often() -> None:
    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            end = time.thread_time() + 0.01
            while time.thread_time() < end:
                pass
            return super().write(text)

    shown = Shown(Slow())
    assert frames_in(shown, 1.5, moving=True) <= 5, "a frame of 10 ms may come once a second"
    shown.manager.cleanup()


@pytest.mark.parametrize("order", ["ours first", "theirs first", "theirs inside"])
def test_the_stream_is_given_back_as_it_was(order: str) -> None:
    stream, log = io.StringIO(), []

    def put() -> Callable[[str], int]:
        """As W&B does with what a program prints."""
        before = stream.write

        def write(text: str) -> int:
            log.append(text)
            return before(text)

        stream.write = write  # type: ignore[method-assign]
        return before

    before = put() if order == "theirs first" else None
    shown = Shown(stream)
    if order != "theirs first":
        before = put()
    stream.write("logged\n")
    if order == "theirs inside":
        stream.write = before  # type: ignore[method-assign,assignment]
    shown.manager.live.refresh()
    shown.manager.cleanup()
    if order != "theirs inside":
        stream.write("after\n")
        stream.write = before  # type: ignore[method-assign,assignment]
    assert shown.others()[0] == "logged"
    assert any("logged" in text for text in log)
    assert ("after\n" in log) == (order != "theirs inside")
    with ProgressManager(Console(file=stream, force_terminal=True, width=COLUMNS, height=ROWS)) as again:
        list(again.track(range(3), "again"))
    stream.write("the end\n")
    assert stream.getvalue().endswith("the end\n")
    assert "flush" not in vars(stream)


def test_whoever_holds_a_stream_is_heard_and_a_tee_gets_its_share(on_terminal: Any, tmp_path: Path) -> None:
    terminal = on_terminal(
        f"""
        import sys, time
        from ridgepole import track
        held, real = sys.stderr, sys.stdout
        class Tee:
            def __init__(self):
                self.file = open("{tmp_path}/log", "w")
            def write(self, text):
                real.write(text)
                return self.file.write(text)
            def __getattr__(self, name):
                return getattr(real, name)
        sys.stdout = Tee()
        for i in track(range(9), "train"):
            if i % 2 == 0:
                print("printed", i)
                for name in ("first", "second", "third"):
                    held.write(f"{{name}} {{i}}\\n")    # as Loguru, which keeps the stream that it was given
            time.sleep(0.06)
        sys.stdout.file.close()
        """
    )
    lines = terminal.finish()
    wanted = [f"{name} {i}" for i in range(0, 9, 2) for name in ("printed", "first", "second", "third")]
    assert lines[:-1] == wanted, lines
    assert (tmp_path / "log").read_text() == "".join(f"printed {i}\n" for i in range(0, 9, 2))
    assert "(9/9)" in lines[-1]


def test_a_stream_that_was_opened_meanwhile_is_taken_over_too(on_terminal: Any) -> None:
    terminal = on_terminal(
        """
        import io, sys, time
        from ridgepole import track
        for i in track(range(20), "train"):
            time.sleep(0.03)
            if i == 5:
                sys.stdout = io.TextIOWrapper(sys.stdout.buffer, "utf-8", line_buffering=True)
                while "write" not in vars(sys.stdout):    # until the display looks the next time
                    time.sleep(0.01)
            if i >= 10:
                print("one", i)
                print("two", i)
        """
    )
    lines = terminal.finish()
    assert lines[:-1] == [f"{name} {i}" for i in range(10, 20) for name in ("one", "two")], lines


def test_only_the_streams_of_the_terminal_are_touched() -> None:
    before = vars(sys.stdout).copy(), vars(sys.stderr).copy()
    shown = Shown(io.StringIO())
    assert (vars(sys.stdout), vars(sys.stderr)) == before
    assert "write" in vars(shown.stream)
    shown.manager.cleanup()
    assert not {"write", "flush"} & set(vars(shown.stream))


def test_a_line_that_begins_before_the_first_frame_stays_one_line(on_terminal: Any) -> None:
    terminal = on_terminal(
        """
        import os
        from ridgepole.progress import ProgressManager

        with ProgressManager() as manager:
            manager.add_task_to_progress("shown at once", 3, visible=True, progress_name="overall")
            print("flushed", end=" ", flush=True)
            manager.live.refresh()
            print("and ended")

        with ProgressManager() as manager:
            bar = iter(manager.track(range(3), "shown later"))
            manager.live.start()
            print("begun", end=" ")
            next(bar)
            print("in", "pieces", end=" ")
            manager.live.refresh()
            print("and ended too")

        with ProgressManager() as manager:
            manager.live.start()
            print("whole", "\\nand begun", end=" ", flush=True)
            print("before", "the end", end=" ")
        print("and after it")

        with ProgressManager() as manager:
            manager.live.start()
            print("a question", end=" ")
            print("answered", input("asked? "))

        with ProgressManager() as manager:
            manager.live.start()
            print("once,", end=" ")
            child = os.fork()
            if not child:
                print("by the child")
                os._exit(0)
            os.waitpid(child, 0)
        print("by the parent")
        """
    )
    terminal.until("asked?")
    terminal.child.sendline("yes")
    lines = [line for line in terminal.finish() if line and not line.startswith("shown")]
    assert lines == [
        "flushed and ended",
        "begun in pieces and ended too",
        "whole",
        "and begun before the end and after it",
        "a question asked? yes",
        "answered yes",
        "by the child",
        "once, by the parent",
    ]


def test_before_the_first_frame_output_is_shown_when_a_line_buffered_stream_shows_it() -> None:
    """Held back is only what such a stream keeps in its buffer too."""
    stream = io.StringIO()
    manager = ProgressManager(Console(file=stream, force_terminal=True, width=COLUMNS, height=ROWS))
    manager.initialize()
    manager.live.start()
    for text, shown in [
        ("begun", ""),
        (" more", ""),
        ("\nnext", "begun more\nnext"),
        ("\n", "begun more\nnext\n"),
        ("bar 1%", "begun more\nnext\n"),
        ("\rbar 2%", "begun more\nnext\nbar 1%\rbar 2%"),
    ]:
        stream.write(text)
        assert stream.getvalue() == shown
    stream.write("x" * 5000)
    assert stream.getvalue().endswith("x" * 5000), "a line without an end is not kept in memory"
    stream.write("?")
    stream.flush()
    assert stream.getvalue().endswith("x?")
    stream.write("at the end")
    manager.cleanup()
    stream.write(".")
    assert stream.getvalue().endswith("x?at the end.")
