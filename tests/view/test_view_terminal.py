"""`ridgepole watch`: curves in characters, at any size, whatever is in the run."""

import fcntl
import io
import os

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from ridgepole.metrics.codec import encode_line
from ridgepole.rundir import read_run
from ridgepole.view.columns import RunColumns
from ridgepole.view.terminal import braille, chosen_metrics, render


def dots(lines):
    """The dots of a drawing as (column, row) from the bottom left."""
    order = ((0, 3), (1, 4), (2, 5), (6, 7))
    found = set()
    for y, line in enumerate(lines):
        for x, char in enumerate(line):
            for row, bits in enumerate(order):
                height = 4 * (len(lines) - y) - 1 - row
                found |= {(2 * x + side, height) for side, bit in enumerate(bits) if ord(char) - 0x2800 >> bit & 1}
    return found


def test_a_line_rises_from_corner_to_corner():
    drawn = dots(braille(np.arange(10.0), np.arange(10.0), 5, 2))
    assert {(0, 0), (9, 7)} <= drawn
    assert len({column for column, _ in drawn}) == 10


def test_a_spike_among_many_points_is_drawn():
    y = np.zeros(10_000)
    y[4321] = 1.0
    assert any(row == 11 for _, row in dots(braille(np.arange(10_000.0), y, 20, 3)))


@pytest.mark.parametrize(
    "y", [[], [1.0], [2.0, 2.0], [np.nan, np.inf], [1.0, np.nan, 3.0], [1e308, -1e308], [5e-324, 0.0]]
)
def test_any_values_can_be_drawn(y):
    lines = braille(np.arange(float(len(y))), np.array(y), 12, 3)
    assert [len(line) for line in lines] == [12] * 3


@pytest.fixture
def running(tmp_path):
    """A run that this process owns, as far as others can see."""
    run = tmp_path / "runs" / "20260101-000000-00000000"
    run.mkdir(parents=True)
    owner = os.open(run / "owner.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(owner, fcntl.LOCK_EX)
    (run / "run.json").write_text('{"status": "running", "pipeline": "p", "started": 1767225600.0}')
    (run / "run.log").write_text("first\n\x1b[31mred\n")
    text = [encode_line(seq, 1.0, seq, {"other": 1.0, "loss": 1.0 / (seq + 1), "val/acc": 0.5}) for seq in range(50)]
    (run / "metrics.jsonl").write_bytes(b"".join(text))
    yield run, owner
    os.close(owner)


@pytest.mark.parametrize(("width", "height"), [(40, 10), (80, 24), (160, 50), (20, 3)])
def test_a_picture_fits_the_terminal(width, height, running):
    run, _ = running
    columns = RunColumns(run)
    columns.update()
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, color_system=None)
    picture = render(read_run(run), columns, patterns=(), width=width, height=height, now=1767225600.0 + 3661)
    console.print(picture)
    lines = stream.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    assert lines[0].startswith("running · 2026010")
    assert "\x1b" not in stream.getvalue()
    if height >= 24:
        assert len(lines) <= height
        assert "1:01:01" in lines[0]
        assert lines[-1] == "·[31mred"
        assert any(line.startswith("loss  0.02") for line in lines), "those with a goal come first"


def test_metrics_are_chosen_by_pattern(running):
    columns = RunColumns(running[0])
    columns.update()
    assert chosen_metrics(columns, (), 9) == ["loss", "val/acc", "other"]
    assert chosen_metrics(columns, ("o*", "val/*"), 9) == ["other", "val/acc"]
    assert chosen_metrics(columns, (), 1) == ["loss"]


def test_a_finished_run_is_shown_once(running, ridgepole):
    run, _ = running
    (run / "run.json").write_text('{"status": "finished", "pipeline": "p"}')
    done = ridgepole("watch", "--name", "loss")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("finished · 20260101")
    assert "val/acc" not in done.stdout


def test_a_running_run_is_followed_to_its_end(running, command_server, tmp_path):
    run, _ = running
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "80", "LINES": "30"}
    watching = command_server.start("watch", "--interval", "0.1", cwd=tmp_path, **terminal)
    watching.until("step 49")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(encode_line(50, 1.0, 77, {"loss": 0.5}))
    watching.until("step 77")
    (run / "run.json").write_text('{"status": "failed", "pipeline": "p"}')
    assert watching.wait() == 0
    assert "failed" in watching.stdout


def test_a_name_that_no_metric_has_is_said(running):
    directory, _ = running
    columns = RunColumns(directory)
    columns.update()
    console = Console(file=io.StringIO(), width=80, height=24)
    run = read_run(directory)
    console.print(render(run, columns, patterns=["los"], width=80, height=24, now=1767225600.0))
    assert "no metric fits 'los'; logged is: other, loss, val/acc" in console.file.getvalue()
