"""What a person sees: programs on real pseudo-terminals, their screens kept by an emulator."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from programs import needs

Start = Callable[..., Any]


def rows_of(lines: list[str], name: str) -> list[str]:
    return [line for line in lines if re.match(rf"{re.escape(name)}\s.*[━─#-]", line)]


def test_a_loop_in_a_plain_script(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import time
        from ridgepole.progress import track
        print("before")
        bar = track(range(40), "train")
        for i in bar:
            time.sleep(0.02)
            bar.set(loss=0.041)
        for i in track(range(6), "evaluate"):
            time.sleep(0.02)
        print("after")
        """
    )
    live = terminal.until("loss=0.041")
    assert re.search(r"^train  ━+─+ \(\d+/40\) • [\d.]+ it/s • 0:00:0\d   loss=0.041$", terminal.text, re.MULTILINE), (
        live
    )
    assert not terminal.screen.cursor.hidden
    lines = terminal.finish()
    bar = "━" * 40
    assert lines[0] == "before"
    assert re.fullmatch(rf"train     {bar} \(40/40\) • [\d.]+ it/s • 0:00:00   loss=0.041", lines[1]), lines
    assert re.fullmatch(rf"evaluate  {bar}   \(6/6\) • [\d.]+ it/s • 0:00:00", lines[2]), lines
    assert lines[3:] == ["after"]
    assert not terminal.screen.cursor.hidden


def test_epochs_use_one_row_each_time_again(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import time
        from ridgepole.progress import track
        for epoch in range(4):
            for i in track(range(5), "train"):
                time.sleep(0.03)
            for i in track(range(5), "val"):
                time.sleep(0.03)
        """
    )
    lines = terminal.finish()
    assert len(rows_of(lines, "train")) == len(rows_of(lines, "val")) == 1, lines


def test_everything_that_is_printed_stands_above_the_bars_once_and_in_order(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import logging, subprocess, sys, time, warnings
        logging.basicConfig(level="INFO")          # its handler holds the real stream
        from ridgepole.progress import track
        from tqdm import tqdm
        print("half a line", end="")
        for i in track(range(50), "train"):
            time.sleep(0.02)
            if i == 10:
                print("printed", "in", "pieces")
                for n in range(3):
                    logging.info("logged %d", n)
                sys.stderr.write("\\x1b[31mred\\x1b[0m written\\n")
                warnings.warn("warned")
                print("two\\nlines")
                print("\\x1b[2J\\x1b[5;5Hcursor codes")
            if 15 <= i < 20:
                print(".", end="", flush=True)
            if i == 20:
                print("dots done")
                subprocess.run(["echo", "from a subprocess"])
            if i == 25:
                for _ in tqdm(range(5), "inside", ncols=40):
                    time.sleep(0.02)
            if i == 30:
                print("x" * 200 + "y" * 50)
            if i == 35:
                print("colours \\x1b[32m")
                print("stay\\x1b[0m")
        print("the end")
        """,
        columns=200,  # the warning names this file, whose path may be long
    )
    lines = terminal.finish()
    wanted = ["half a line", "printed in pieces", "INFO:root:logged 0", "INFO:root:logged 1", "INFO:root:logged 2"]
    wanted += ["red written", "warned", "two", "lines", "cursor codes", ".....dots done", "from a subprocess"]
    wanted += ["inside: 100%", "x" * 200, "y" * 50, "colours", "stay", "train", "the end"]
    found = []
    for want in wanted:
        beginning = want in ("inside: 100%", "train")
        at = [
            number
            for number, line in enumerate(lines)
            if line == want or line.endswith(f": {want}") or (beginning and line.startswith(want))
        ]
        assert len(at) == 1, (want, lines)
        found += at
    assert found == sorted(found), lines
    assert len(lines) == len(wanted) + 1, lines  # the warning has a second line with its source
    assert b"\x1b[32mstay" in terminal.raw


def test_only_streams_that_are_terminals_are_redirected(on_terminal: Start, tmp_path: Path) -> None:
    target = f"{tmp_path}/out.txt"
    terminal = on_terminal(
        f"""
        import os, sys, time
        os.dup2(os.open({target!r}, os.O_WRONLY | os.O_CREAT), 1)
        sys.stdout = open(1, "w", closefd=False)
        from ridgepole.progress import track
        for i in track(range(10), "train"):
            time.sleep(0.03)
            print("result", i)
        """
    )
    lines = terminal.finish()
    assert len(lines) == len(rows_of(lines, "train")) == 1, lines
    assert Path(target).read_text() == "".join(f"result {i}\n" for i in range(10))


def test_questions_and_the_debugger_have_the_terminal_to_themselves(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import time
        from ridgepole.progress import track
        for i in track(range(30), "train"):
            time.sleep(0.02)
            if i == 10:
                print("hello", input("your name? "))
            if i == 20:
                breakpoint()
        """
    )
    terminal.until("your name?")
    before = terminal.raw
    for _ in range(15):
        terminal.pump(0.03)
    assert terminal.raw == before, "nothing may be drawn while a question is open"
    assert not rows_of(terminal.lines(), "train")
    terminal.child.sendline("Ada")
    terminal.until("hello Ada", "(Pdb)")
    terminal.child.sendline("p 'i is', i")
    terminal.until("('i is', 20)")
    terminal.child.sendline("c")
    lines = terminal.finish()
    assert lines[:2] == ["your name? Ada", "hello Ada"]
    assert lines[-2] == "(Pdb) c", lines
    assert "(30/30)" in lines[-1]


def test_paused_takes_the_bars_off_for_a_while(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import os, time
        from ridgepole.progress import ProgressManager
        manager = ProgressManager()
        for i in manager.track(range(30), "train"):
            time.sleep(0.02)
            if i == 15:
                with manager.paused():
                    os.system("printf 'a\\\\nb\\\\nc\\\\n'")
                    time.sleep(0.2)
        """
    )
    lines = terminal.finish()
    assert lines[:3] == ["a", "b", "c"]
    assert len(lines) == 4, lines
    assert "(30/30)" in lines[3]


@pytest.mark.parametrize(("columns", "rows"), [(100, 30), (40, 10), (20, 5), (3, 2), (1, 1)])
def test_rows_fit_every_terminal(on_terminal: Start, columns: int, rows: int) -> None:
    terminal = on_terminal(
        """
        import time
        from ridgepole.progress import ProgressManager
        with ProgressManager() as manager:
            manager.add_progresses([{"name": "train-val", "with_status": True}])
            overall = manager.add_task_to_progress("overall", 3, visible=True)
            task = manager.add_task_to_progress("val", 100)
            manager.advance("overall", overall)
            for i in manager.track(range(40), "a long description of a loop 训练"):
                manager.advance("train-val", task, status="a status text")
                time.sleep(0.01)
        """,
        columns=columns,
        rows=rows,
    )
    lines = terminal.finish()
    assert terminal.child.exitstatus == 0, lines
    assert not terminal.screen.cursor.hidden
    if columns >= 40:
        assert len(lines) == 3, lines
        starts = {line.index("(") for line in lines if "(" in line}
        assert all("/" in line for line in lines), "the counts come before all else"
        assert starts, lines
    if columns == 100:
        assert "a status text" in terminal.text
        assert len({cell_len(line[: line.rindex(" • ")]) for line in lines}) == 1, "columns line up"


def test_more_rows_than_the_screen_has(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import time
        from ridgepole.progress import ProgressManager
        with ProgressManager() as manager:
            for number in range(40):
                manager.add_progress(f"bar{number:02}")
                task = manager.add_task_to_progress(f"bar{number:02}", 10, visible=True)
                manager.advance(f"bar{number:02}", task, 10 if number < 30 else 5)
            print("drawn")
            time.sleep(0.5)
        print("done")
        """,
        rows=30,
    )
    live = terminal.until("drawn", "bar39", "more")
    assert len(live) <= 30 + 1
    assert all(f"bar{number:02}" in terminal.text for number in range(30, 40)), "those that run come first"
    assert re.search(r"^\+1\d more$", terminal.text, re.MULTILINE), live
    lines = terminal.finish()
    assert [line[:5] for line in lines if line.startswith("bar")] == [f"bar{number:02}" for number in range(40)]
    assert lines[-1] == "done"


def test_descriptions_are_literal_and_harmless(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import time
        from ridgepole.progress import ProgressManager
        with ProgressManager() as manager:
            manager.add_task_to_progress("[red]x[/red] \\x1b[2Jy\\nz", 5, visible=True, progress_name="result")
            for i in manager.track(range(10), "[bold]loop[/bold]"):
                time.sleep(0.03)
        """
    )
    lines = terminal.finish()
    assert lines[0].startswith("[red]x[/red] ?[2Jy z  "), lines
    assert lines[1].startswith("[bold]loop[/bold]  "), lines


COUNT = """
import time
from ridgepole.progress import track
for i in track(range(20), "train"):
    time.sleep(0.02)
    print("line", i) if i == 10 else None
"""


def test_no_color_keeps_the_bars_without_colour(on_terminal: Start) -> None:
    terminal = on_terminal(COUNT, NO_COLOR="1")
    lines = terminal.finish()
    assert re.match(r"train  ━{40} \(20/20\)", lines[1]), lines
    assert not re.search(rb"\x1b\[[0-9;]*m", terminal.raw)
    coloured = on_terminal(COUNT)
    coloured.finish()
    assert re.search(rb"\x1b\[38;2;\d+;\d+;\d+m", coloured.raw), "the test must be able to see colours"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_the_glyphs_gets_plain_ones(on_terminal: Start, encoding: str) -> None:
    terminal = on_terminal(COUNT.replace('"train"', '"训练 é"'), PYTHONIOENCODING=encoding)
    lines = terminal.finish()
    assert terminal.child.exitstatus == 0
    assert re.search(r"#{40} \(20/20\) \| ", lines[1]), lines
    assert lines[0] == "line 10"


def test_a_dumb_terminal_gets_plain_lines(on_terminal: Start) -> None:
    terminal = on_terminal(COUNT, TERM="dumb")
    lines = terminal.finish()
    assert lines[:2] == ["train: 0/20 started", "line 10"]
    assert lines[2].startswith("train: 20/20 done in ")
    assert b"\x1b" not in terminal.raw


ENDLESS = """
import sys, os, time
from ridgepole.progress import ProgressManager
manager = ProgressManager()
manager.initialize()
for i in manager.track(range(10_000), "train"):
    time.sleep(0.01)
    print("line", i) if i % 10 == 0 else None
    {body}
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL", "_exit", "raise"])
def test_no_death_leaves_a_broken_terminal(on_terminal: Start, name: str) -> None:
    body = {"_exit": "os._exit(3) if i == 30 else None", "raise": "1 / (30 - i)"}.get(name, "")
    terminal = on_terminal(ENDLESS.format(body=body))
    if name.startswith("SIG"):
        terminal.until("line 30", "─")
        terminal.child.kill(getattr(signal, name))
    lines = terminal.finish()
    assert not terminal.screen.cursor.hidden
    assert terminal.raw.count(b"\x1b[?25l") == 0, "a cursor that is never hidden can't stay hidden"
    assert terminal.raw.count(b"\x1b[?2026h") == terminal.raw.count(b"\x1b[?2026l")
    assert [line for line in lines if line.startswith("line ")][:4] == ["line 0", "line 10", "line 20", "line 30"]
    assert len(rows_of(lines, "train")) == 1, lines
    if name in ("SIGINT", "raise"):
        assert lines[-1].endswith("stopped"), lines
        assert terminal.screen.cursor.x == 0


def test_two_managers_and_a_thread_share_one_terminal(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import threading, time
        from ridgepole.progress import ProgressManager, track
        from rich.console import Console
        other = ProgressManager()
        def work():
            for i in other.track(range(10), "thread"):
                time.sleep(0.03)
                print(f"thread {i}\\n", end="")  # one write: a thread may be interrupted between two
        thread = threading.Thread(target=work)
        thread.start()
        for i in track(range(30), "train"):
            time.sleep(0.02)
            other.console.print("main", i)
            Console().print("plain", i)
        thread.join()
        """,
        rows=20,
    )
    lines = terminal.finish()
    assert [line for line in lines if line.startswith("main")] == [f"main {i}" for i in range(30)]
    assert [line for line in lines if line.startswith("plain")] == [f"plain {i}" for i in range(30)]
    assert len(rows_of(lines, "train")) == len(rows_of(lines, "thread")) == 1, lines
    assert len(lines) == 30 + 30 + 10 + 2, lines


def test_a_console_that_holds_the_stream_itself_prints_above(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import sys, time
        from rich.console import Console
        from ridgepole.progress import ProgressManager
        console = Console(file=sys.stdout)
        with ProgressManager(console) as manager:
            for i in manager.track(range(10), "train"):
                time.sleep(0.03)
                console.print("[red]first[/red]\\nsecond", i)
        console.print("after")
        """
    )
    lines = terminal.finish()
    assert lines[:20] == [line for i in range(10) for line in ("first", f"second {i}")]
    assert "(10/10)" in lines[20]
    assert lines[21:] == ["after"]


def test_init_live_while_live_keeps_one_display(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import time
        from ridgepole.progress import ProgressManager
        manager = ProgressManager(direct=True)
        with manager.live:
            a = manager.add_task_to_progress("overall", 10, visible=True)
            for i in range(10):
                manager.advance("overall", a)
                time.sleep(0.03)
                if i == 5:
                    manager.add_progresses([{"name": "late"}])
                    manager.init_live()
                    b = manager.add_task_to_progress("late", 5, visible=True)
                if i > 5:
                    manager.advance("late", b)
        print("after")
        """
    )
    lines = terminal.finish()
    assert [line.split()[0] for line in lines] == ["overall", "late", "after"], lines
    assert "(4/5)" in lines[1]


def test_forked_children_draw_nothing_and_cannot_hang(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import os, random, signal, sys, time
        from ridgepole.progress import ProgressManager, track
        random.seed(1)
        hung = 0
        with ProgressManager() as manager:
            task = manager.add_task_to_progress("overall", 10**9)
            for number in range(200):
                end = time.perf_counter() + random.random() * 0.02
                while time.perf_counter() < end:
                    manager.advance("overall", task)
                pid = os.fork()
                if pid == 0:
                    signal.alarm(5)
                    print("child", number, flush=True)
                    for _ in track(range(3), "in the child"):
                        manager.advance("overall", task)
                    os._exit(0)
                hung += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        print("hung:", hung)
        """
    )
    lines = terminal.finish()
    assert "hung: 0" in lines, lines
    assert b"in the child" not in terminal.raw
    assert [line for line in lines if line.startswith("child")] == [f"child {number}" for number in range(200)]


def test_workers_of_a_pool_draw_nothing(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import multiprocessing, time
        from ridgepole.progress import track
        def work(number):
            for i in track(range(20), "in the worker"):
                time.sleep(0.005)
            return number
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                print(sum(track(pool.imap(work, range(4)), "jobs", total=4)))
        """
    )
    lines = terminal.finish()
    assert b"in the worker" not in terminal.raw
    assert "(4/4)" in terminal.text
    assert "6" in lines


def test_a_terminal_that_goes_away_does_not_stop_the_loop(on_terminal: Start, tmp_path: Path) -> None:
    terminal = on_terminal(
        f"""
        import signal, time
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        from ridgepole.progress import track
        n = 0
        for i in track(range(60), "train"):
            time.sleep(0.02)
            n += 1
        with open("{tmp_path}/done", "w") as file:
            file.write(str(n))
        """
    )
    terminal.until("━")
    terminal.hang_up()
    done = tmp_path / "done"
    end = time.monotonic() + 20
    while not done.exists() or not done.read_text():
        assert time.monotonic() < end, "the loop did not come to its end"
        time.sleep(0.05)
    assert done.read_text() == "60"


@needs("tmux")
def test_resizing_leaves_no_residue(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(
            """
            import time
            from ridgepole.progress import track
            for i in track(range(100_000), "a loop with a long description"):
                time.sleep(0.01)
                if i % 20 == 0 and i < 100:
                    print("line", i)
            """
        )
    )

    def tmux(*arguments: str) -> str:
        command = ["tmux", "-L", f"ridgepole-{os.getpid()}", "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    def until(done: Callable[[list[str]], bool]) -> list[str]:
        end = time.monotonic() + 20
        while True:
            lines = [line.rstrip() for line in tmux("capture-pane", "-p", "-S", "-").splitlines() if line.strip()]
            if done(lines):
                return lines
            assert time.monotonic() < end, lines
            time.sleep(0.05)

    tmux("new-session", "-d", "-x", "100", "-y", "30", f"exec {shlex.quote(sys.executable)} {script}")
    try:
        until(lambda lines: "line 80" in lines)
        for columns, rows in ((60, 20), (30, 8), (100, 30), (45, 12), (100, 30)):
            tmux("resize-window", "-x", str(columns), "-y", str(rows))
            drawn = until(lambda lines: bool(lines) and "/100000" in lines[-1])[-1]
            until(lambda lines, drawn=drawn: bool(lines) and "/100000" in lines[-1] and lines[-1] != drawn)
        lines = until(lambda lines: "0:" in lines[-1])
        assert lines[:-1] == [f"line {number}" for number in range(0, 100, 20)], "\n" + "\n".join(lines)
    finally:
        tmux("kill-server")


def test_at_a_prompt_the_row_is_left_behind_before_the_next_question(on_terminal: Start, tmp_path: Path) -> None:
    terminal = on_terminal("import code, sys; sys.ps1 = '>>> '; code.interact(banner='')")
    terminal.until(">>>")
    for line, answer in (
        ("from ridgepole.progress import track; 'ready'", "\n'ready'\n>>>"),
        ("sum(track(range(5), 'loop'))", "\n10\n>>>"),
        ("6 * 7", "\n42\n>>>"),
        ("raise SystemExit", "raise SystemExit"),
    ):
        terminal.child.sendline(line)
        terminal.until(answer)
    lines = [line for line in terminal.finish() if line and not line.startswith(">>>")]
    assert len(rows_of(lines, "loop")) == 1, lines
    assert [line for line in lines if not line.startswith("loop")] == ["'ready'", "10", "42"], lines


INSIDE = {
    "two rows of tqdm": """
        for _ in tqdm(range(4), "middle", leave=False):
            for _ in tqdm(range(8), "inner", leave=False):
                time.sleep(0.02)
        """,
    "three rows of rich": """
        with Progress(transient=True) as progress:
            tasks = [progress.add_task(name, total=30) for name in ("one", "two", "three")]
            for _ in range(30):
                for task in tasks:
                    progress.advance(task)
                time.sleep(0.02)
        """,
    "a spinner of rich": """
        with Console().status("working"):
            time.sleep(0.4)
        """,
}


@pytest.mark.parametrize("inside", INSIDE)
def test_rows_of_other_displays_inside_are_written_anew_in_place(on_terminal: Start, inside: str) -> None:
    body = textwrap.indent(textwrap.dedent(INSIDE[inside]), "    ")
    terminal = on_terminal(
        "import time\n"
        "from rich.console import Console\n"
        "from rich.progress import Progress\n"
        "from tqdm import tqdm\n"
        "from ridgepole import track\n"
        "for i in track(range(3), 'outer'):\n"
        "    time.sleep(0.3)\n"  # until the display is there
        f"{body}"
        "    print('printed', i)\n"
        "    time.sleep(0.1)\n"
        "print('after')\n",
        rows=12,
    )
    most = 0
    while terminal.pump(0.01):
        foreign = [line for line in terminal.lines() if re.match(r"(middle|inner|one|two|three|.? ?working)", line)]
        most = max(most, len(foreign))
    lines = terminal.finish()
    assert 1 <= most <= 3, f"{most} rows at once: frames were printed below each other"
    assert lines[:3] == ["printed 0", "printed 1", "printed 2"], lines
    assert len(rows_of(lines, "outer")) == 1, lines
    assert lines[-1] == "after"
    assert len(lines) == 5, lines


def test_bars_inside_another_display_leave_its_rows_whole(on_terminal: Start) -> None:
    terminal = on_terminal(
        """
        import time
        import rich.progress
        from ridgepole import track
        for _ in rich.progress.track(range(3), "outer"):
            for i in track(range(10), "inner"):
                time.sleep(0.03)
        print("after")
        """
    )
    lines = terminal.finish()
    assert lines[-1] == "after", lines
    assert "100%" in lines[-2], lines
    assert [line for line in lines if "inner" in line and "(10/10)" in line] == rows_of(lines, "inner") != [], lines
    outer = [line for line in lines if line.startswith("outer")]
    assert len([line for line in outer if "100%" in line]) == 1, lines
    assert len(outer) <= 1 + 3, "at most one more for each time that ours began below it"
    assert not [line for line in lines if "outer" in line and "inner" in line], lines


@needs("bash")
def test_ctrl_z_gives_the_shell_a_clean_screen_and_fg_draws_again(on_terminal: Start, tmp_path: Path) -> None:
    terminal = on_terminal(
        "import os; os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])",
        PS1="$ ",
        BASH_SILENCE_DEPRECATION_WARNING="1",
    )
    script = tmp_path / "loop.py"
    script.write_text(
        "import time\nfrom ridgepole import track\nfor i in track(range(150), 'train'):\n    time.sleep(0.02)\n"
    )
    terminal.until("$")
    terminal.child.sendline(f"{shlex.quote(sys.executable)} {script}")
    terminal.until("train  ━")
    terminal.child.send("\x1a")
    stopped = terminal.until("Stopped")
    assert not terminal.screen.cursor.hidden
    terminal.child.sendline("echo in the shell")
    terminal.until("\nin the shell")
    terminal.child.sendline("fg")
    terminal.until("(150/150)")
    terminal.child.sendline("exit")
    lines = terminal.finish()
    assert len([line for line in lines if "(150/150)" in line]) == 1, lines
    assert "in the shell" in lines, (stopped, lines)


def test_a_pipeline_shows_its_processes_and_a_clean_up_that_takes_its_time(on_terminal: Start, tmp_path: Path) -> None:
    terminal = on_terminal(
        f"""
        import time
        from ridgepole import Permanence, Pipeline, process, track
        from ridgepole.permanences import BaseLoggerManager
        class Slow(Permanence):
            def __init__(self, seconds: float):
                self.seconds = seconds
            def cleanup(self):
                time.sleep(self.seconds)
        @process
        def train(logger: BaseLoggerManager):
            for i in track(range(40), "train", tick=True):
                time.sleep(0.02)
                logger.warning("half way") if i == 20 else None
        pipeline = Pipeline("bars", seed=1).process("train", train).process("again", train)
        pipeline.permanence("quick", Slow, seconds=0.0)
        for number in range(4):
            pipeline.permanence(f"slow{{number}}", Slow, seconds=0.6)
        pipeline.run({str(tmp_path)!r})
        print("after")
        """
    )
    terminal.until("overall  ━", "(1/2)", "train  ")
    terminal.until("cleanup  ━")
    lines = terminal.finish()
    assert len([line for line in lines if line.endswith("half way")]) == 2, lines
    assert len(rows_of(lines, "train")) == 1, lines
    assert not rows_of(lines, "overall"), "its end is the run's own"
    assert lines[-1] == "after"
