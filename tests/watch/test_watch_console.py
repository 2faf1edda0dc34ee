"""What a run prints, and what of it is kept: from Python, C, workers, on a terminal and off it."""

import io
import os
import signal
import sys
import time
from pathlib import Path

import pexpect
import pytest
from rich.console import Console as RichConsole
from rich.live import Live
from tqdm import tqdm

from isolation import send
from ridgepole.watch import console as kept_console
from ridgepole.watch.capture import Recording
from ridgepole.watch.lines import LineRecorder
from ridgepole.watch.terminal import write_all

TOML = """
[pipeline]
name = "talks"
package = "talks"

[processes.train]
type = "train"
"""

TALKS = """
import ctypes, os, subprocess, sys
from ridgepole import process, track


def wait_for_the_test():
    with open("pipe", "rb") as pipe:
        pipe.read(1)


@process
def train():
    print("from python", os.environ["SOME_TOKEN"])
    print("an error", file=sys.stderr)
    sys.stdout.flush()
    ctypes.CDLL(None).puts(b"from C")
    ctypes.CDLL(None).fflush(None)
    subprocess.run(["echo", "from a child"], check=True)
    for item in track(range(5), "bars", tick=True):
        print("item", item)
    print("a terminal:", sys.stdout.isatty(), flush=True)
    if os.environ.get("WAITS"):
        wait_for_the_test()
    subprocess.run(["echo", "from a child at the end"], check=True)
    print("the end")
"""


def test_a_flood_fills_no_disk_and_its_end_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_console, "_FILE_BYTES", 100_000)
    reading, writing = os.pipe()
    real = os.open(os.devnull, os.O_WRONLY)
    path = tmp_path / "console" / "rank-0.log"
    recording = Recording(path, [(reading, real)], [], os.getpid())
    line = b"x" * 99 + b"\n"
    for _ in range(20):
        write_all(writing, line * 1000)
    write_all(writing, b"the end\n")
    os.close(writing)
    recording.close()
    kept = sorted(path.parent.iterdir())
    assert [each.name for each in kept] == ["rank-0.1.log", "rank-0.log"]
    assert sum(each.stat().st_size for each in kept) < 600_000, "two files, and what is read at once"
    assert path.read_bytes().endswith(b"the end\n")
    os.close(real)


@pytest.fixture
def talks(tmp_path):
    (tmp_path / "talks.toml").write_text(TOML)
    (tmp_path / "talks.py").write_text(TALKS)
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDWR)
    yield tmp_path
    os.close(pipe)


def console(path) -> Path:
    (found,) = path.glob("runs/2*/console/rank-0.log")
    return found


def until(condition, timeout=60):
    limit = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < limit, "it does not come"
        time.sleep(0.005)


def let_go(path):
    with (path / "pipe").open("wb", buffering=0) as pipe:
        pipe.write(b"x")


def test_off_a_terminal_everything_is_shown_and_kept_without_secrets(talks, command_server):
    done = command_server.call("run", "talks.toml", cwd=talks, SOME_TOKEN="swordfish")
    items = [f"item {number}" for number in range(5)]
    shown = done.stdout.splitlines()
    assert shown[:-1] == [
        "from python swordfish",
        "from C",
        "from a child",
        *items,
        "a terminal: False",
        "from a child at the end",
        "the end",
    ]
    assert shown[-1].startswith("finished in")
    assert done.stderr.startswith("an error\nbars: 0/5 started\nbars: 5/5 done")
    kept = console(talks).read_text("utf-8").splitlines()
    lines = [line for line in kept if not line.startswith(("bars:", "an error"))]
    assert lines == ["from python ***", *shown[1:-1]]
    assert kept.count("an error") == 1


def test_off_is_off(talks, command_server):
    (talks / "talks.toml").write_text(TOML.replace('package = "talks"', 'package = "talks"\nconsole = false'))
    done = command_server.call("run", "talks.toml", cwd=talks, SOME_TOKEN="swordfish")
    assert "from C" in done.stdout
    assert not list(talks.glob("runs/2*/console"))


def test_a_terminal_stays_one_and_frames_of_bars_are_not_kept(talks):
    child = pexpect.spawn(
        sys.executable,
        ["-m", "ridgepole", "run", "talks.toml"],
        cwd=str(talks),
        env=os.environ | {"SOME_TOKEN": "swordfish", "TERM": "xterm"},
        dimensions=(24, 77),
        encoding="utf-8",
        timeout=60,
    )
    child.expect("finished in")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    kept = console(talks).read_text("utf-8").splitlines()
    (bar,) = [line for line in kept if line.startswith("bars")]
    assert "(5/5)" in bar
    items = [f"item {number}" for number in range(5)]
    assert [line for line in kept if line.startswith("item")] == items
    assert "a terminal: True" in kept
    assert "\x1b" not in "".join(kept)


def helper_of(pid):
    (found,) = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found


def test_a_helper_that_dies_leaves_the_run_its_streams(talks, command_server):
    child = command_server.start("run", "talks.toml", cwd=talks, SOME_TOKEN="swordfish", WAITS="1")
    until(lambda: "a terminal" in child.stdout)
    send(helper_of(child.pid), signal.SIGKILL)
    until(lambda: "is not kept any more" in child.stderr)
    let_go(talks)
    assert child.wait() == 0
    assert "from a child at the end\nthe end\n" in child.stdout
    assert "the end" not in console(talks).read_text("utf-8")


def test_the_last_words_of_a_killed_run_are_kept(talks, command_server):
    child = command_server.start("run", "talks.toml", cwd=talks, SOME_TOKEN="swordfish", WAITS="1")
    until(lambda: "a terminal" in child.stdout)
    child.send(signal.SIGKILL)
    child.wait()
    alerts = console(talks).parent.parent / "alerts.jsonl"
    until(lambda: alerts.exists() and "was killed" in alerts.read_text("utf-8"))
    assert "a terminal: False\n" in console(talks).read_text("utf-8")


# --- lines


def kept(*pieces, secrets=()):
    found = []
    recorder = LineRecorder(found.append, secrets)
    for piece in pieces:
        recorder.feed(piece if isinstance(piece, bytes) else piece.encode())
    recorder.close()
    return b"".join(found).decode()


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_bars_of_others_leave_their_last_state():
    out = Terminal()
    with tqdm(total=3, file=out, mininterval=0, desc="outer", position=0, ncols=60) as outer:
        for number in range(3):
            for _ in tqdm(range(20), file=out, mininterval=0, desc="inner", position=1, leave=False, ncols=60):
                pass
            tqdm.write(f"line {number}", file=out)
            outer.update()
    lines = kept(*(out.getvalue()[at : at + 7] for at in range(0, len(out.getvalue()), 7))).splitlines()
    assert [line for line in lines if line.startswith("line")] == ["line 0", "line 1", "line 2"]
    assert [line for line in lines if "100%" in line and "outer" in line]
    assert len(lines) < 12, lines


def test_a_live_display_of_rich_leaves_few_frames():
    out = Terminal()
    rich = RichConsole(file=out, force_terminal=True, width=60, height=20)
    with Live("first\nsecond\n0", console=rich, auto_refresh=False) as live:
        for number in range(100):
            live.update(f"first\nsecond\n{number}", refresh=True)
    lines = kept(out.getvalue()).splitlines()
    assert lines[-3:] == ["first", "second", "99"]
    assert len(lines) < 10


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        (["one\ntwo"], "one\ntwo\n"),
        (["one\r\ntwo\r\n"], "one\ntwo\n"),
        (["10 %\r", "20 %\r", "done\n"], "done\n"),
        (["abc\b\bX\n"], "aXc\n"),
        (["\x1b[31mred\x1b[0m text\n"], "red text\n"),
        (["\x1b[3", "1mred\x1b", "[0m\n"], "red\n"),
        (["\x1b]0;a title\x07text\n"], "text\n"),
        ([b"\xc3", b"\xa4\n", b"\xff\n"], "ä\n�\n"),
        (["long line\r\x1b[Kshort\n"], "short\n"),
        (["a\nb\nc\x1b[2A\rA\n"], "A\nb\nc\n"),
        (["\r\x1b[J\x1b[?7l\na bar\nanother\x1b[2A\r\x1b[?7h", "err\nof C\n\x1b[J"], "err\nof C\n"),
        (["   \n\n"], "\n\n"),
        ([""], ""),
    ],
)
def test_lines_are_what_stays_on_the_terminal(pieces, lines):
    assert kept(*pieces) == lines


def test_secrets_are_replaced_also_where_they_come_in_pieces():
    assert kept("my sword", "fish is sharp\n", secrets=["swordfish"]) == "my *** is sharp\n"


def test_a_line_without_an_end_is_cut():
    text = kept(*["x" * 50_000] * 10)
    assert text.count("x") == 500_000
    assert max(map(len, text.splitlines())) <= 120_000
