"""Output that is no terminal: files, pipes, streams that are gone; ranks; a clock that the test moves."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from ridgepole.progress import ProgressManager
from ridgepole.progress.live import _middle


@pytest.mark.parametrize(
    ("completed", "total", "percent"),
    [(0, 5080, 0), (5070, 5080, 99), (5079.9, 5080, 99), (5080, 5080, 100), (6000, 5080, 100), (299, 1000, 30)],
)
def test_a_hundred_per_cent_is_the_end(completed: float, total: float, percent: int) -> None:
    task = SimpleNamespace(
        completed=completed,
        total=total,
        rate=None,
        unit="it",
        fields={},
        note_text="",
        count_text=lambda: "n",
        bar=SimpleNamespace(with_status=False),
    )
    task.seconds_left, task.seconds_spent = (lambda _now: None), (lambda _now: 1.0)
    assert f" ({percent}%), " in _middle(task, 0.0)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_say_nothing_without_a_terminal(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import multiprocessing
        from ridgepole import track

        def work(_):
            return sum(1 for _ in track(range(3), "in the worker"))

        if __name__ == "__main__":
            with multiprocessing.get_context("{method}").Pool(1) as pool:
                print(pool.map(work, track([1], "in the parent")))
        """)
    )
    done = subprocess.run(
        [sys.executable, program], capture_output=True, env=clean_environment(), timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b"[3]\n")
    assert b"in the worker" not in done.stderr + done.stdout
    assert b"in the parent: 1/1 done" in done.stderr + done.stdout


def clean_environment(**extra: str) -> dict[str, str]:
    dropped = (
        "RANK",
        "SLURM_PROCID",
        "OMPI_COMM_WORLD_RANK",
        "PMI_RANK",
        "NO_COLOR",
        "FORCE_COLOR",
        "PYTHONIOENCODING",
    )
    return {key: value for key, value in os.environ.items() if key not in dropped} | extra


def run(source: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        capture_output=True,
        env=clean_environment(**environment),
        timeout=60,
        check=False,
    )


LOOP = """
from ridgepole.progress import track
for i in track(range(5), "train"):
    print(i)
"""


def test_a_file_gets_a_line_at_the_start_and_one_at_the_end() -> None:
    done = run(LOOP)
    assert done.stdout == b"0\n1\n2\n3\n4\n"
    start, end = done.stderr.decode().splitlines()
    assert start == "train: 0/5 started"
    assert re.fullmatch(r"train: 5/5 done in \d+\.\d s, [\d.]+ k?it/s", end)


@pytest.mark.parametrize("force", [{}, {"FORCE_COLOR": "1"}])
def test_a_file_gets_no_escapes(force: dict[str, str]) -> None:
    done = run(LOOP, **force)
    assert b"\x1b" not in done.stderr
    assert b"\r" not in done.stderr
    assert len(done.stderr) < 200


def test_tasks_moved_by_hand_have_their_lines_too() -> None:
    done = run(
        """
        from ridgepole.progress import ProgressManager
        with ProgressManager() as manager:
            done = manager.add_task_to_progress("overall", 2)
            manager.add_task_to_progress("result", 7)
            half = manager.add_task_to_progress("cleanup", 4)
            manager.advance("overall", done, 2)
            manager.advance("cleanup", half)
        """
    )
    lines = done.stderr.decode().splitlines()
    assert [line.split(" ")[:2] for line in lines] == [["overall:", "2/2"], ["cleanup:", "stopped"]]


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def timed(clock: Clock, stream: Any) -> ProgressManager:
    class Timed(ProgressManager):
        _clock = staticmethod(clock)

    return Timed(Console(file=stream))


def test_one_line_in_thirty_seconds_while_it_moves() -> None:
    clock, stream = Clock(), io.StringIO()
    manager = timed(clock, stream)
    bar = manager.track(range(1000), "train")
    for item in bar:
        clock.seconds += 0.1 if item < 900 else 0
        bar.set(loss=1.0)
        manager.live.refresh()
    assert clock.seconds == pytest.approx(90)
    for _ in range(100):  # it stands still: nothing to say
        clock.seconds += 10
        manager.live.refresh()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2 + 2, lines  # the third falls together with the end
    assert lines[1] == "train: 299/1000 (30%), 10.0 it/s, 0:01:11 left, loss=1"
    assert lines[-1] == "train: 1000/1000 done in 0:01:30, 11.1 it/s, loss=1"
    manager.cleanup()
    assert stream.getvalue().splitlines() == lines


@pytest.mark.parametrize(
    ("expected", "told"),
    [(None, "1/3 (33%), 40.0 s so far"), ([40.0, 1.0, 1.0], "1/3 (33%), 0:00:02 left")],
)
def test_steps_of_different_lengths_are_not_extrapolated(expected: list[float] | None, told: str) -> None:
    clock, stream = Clock(), io.StringIO()
    manager = timed(clock, stream)
    task = manager.add_task_to_progress("overall", 3, visible=True)
    manager.progress_dict["overall"].update(task, expected_seconds=expected)
    clock.seconds += 40
    manager.advance("overall", task)
    manager.live.refresh()
    assert stream.getvalue().splitlines() == [f"overall: {told}"]
    manager.cleanup()


def test_a_bar_of_every_epoch_does_not_fill_the_log() -> None:
    clock, stream = Clock(), io.StringIO()
    manager = timed(clock, stream)
    for _ in range(1000):
        for _ in manager.track(range(10), "train"):
            clock.seconds += 0.01
    assert clock.seconds == pytest.approx(100)
    manager.cleanup()
    lines = stream.getvalue().splitlines()
    assert 4 <= len(lines) <= 7, lines
    assert lines[-1].startswith("train: 10/10 done"), "the last state is always told"


def test_texts_that_the_encoding_cannot_say_are_replaced() -> None:
    done = run(LOOP.replace("train", "训练 é"), PYTHONIOENCODING="latin-1:strict")
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == b"?? \xe9: 0/5 started"


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"])
def test_other_ranks_write_nothing(variable: str) -> None:
    silent, loud = run(LOOP, **{variable: "3"}), run(LOOP, **{variable: "0"})
    assert silent.stdout == loud.stdout == b"0\n1\n2\n3\n4\n"
    assert silent.stderr == b""
    assert loud.stderr


def test_the_first_rank_that_is_set_counts() -> None:
    assert run(LOOP, RANK="0", SLURM_PROCID="2").stderr
    assert not run(LOOP, RANK="1", SLURM_PROCID="0").stderr


class Broken(io.StringIO):
    """A stream that fails from some write on."""

    def __init__(self, error: Exception, good: int) -> None:
        super().__init__()
        self.error, self.good, self.tries = error, good, 0

    def write(self, text: str) -> int:
        self.tries += 1
        if self.tries > self.good:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("good", [0, 1])
@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("I/O operation on closed file"), OSError(5, "EIO")])
def test_a_stream_that_fails_costs_one_warning_and_no_item(error: Exception, good: int, terminal: bool) -> None:
    stream = Broken(error, good)
    manager = ProgressManager(Console(file=stream, force_terminal=terminal, width=80, height=20))
    items = []

    def loops() -> None:
        for item in manager.track(range(10), "train"):
            items.append(item)
            manager.live.refresh()
        list(manager.track(range(3), "more"))
        manager.cleanup()

    with pytest.warns(RuntimeWarning, match="progress bars are switched off") as caught:
        loops()
    assert items == list(range(10))
    assert len(caught) == 1
    assert stream.tries <= good + 1, "what is broken is left alone"


def test_a_warning_that_is_an_error_stays_out_of_the_loop() -> None:
    done = run(
        """
        import os, sys, warnings
        warnings.simplefilter("error")
        from ridgepole.progress import track
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 2)
        print(sum(track(range(5), "train")))
        """
    )
    assert done.stdout == b"10\n"


def test_a_closed_standard_error_does_not_matter() -> None:
    done = run("import sys; sys.stderr.close(); sys.stderr = None" + LOOP)
    assert done.stdout == b"0\n1\n2\n3\n4\n"
    assert done.returncode == 0


def test_a_console_that_is_told_it_is_a_terminal_gets_frames() -> None:
    stream = io.StringIO()
    with ProgressManager(Console(file=stream, force_terminal=True, width=60, height=10)) as manager:
        for _ in manager.track(range(3), "train"):
            manager.live.refresh()
        manager.console.print("above")
        manager.live.refresh()
    text = stream.getvalue()
    assert "(2/3)" in text
    assert text.index("above") < text.rindex("train")
    assert text.endswith("\x1b[?25h\x1b[?2026l")
    assert "above" in text


def test_everything_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins
    import threading

    out, err, ask, threads = sys.stdout, sys.stderr, builtins.input, set(threading.enumerate())
    for _ in range(3):
        with ProgressManager(Console(file=io.StringIO(), force_terminal=True, width=60, height=10)) as manager:
            list(manager.track(range(3), "train"))
            manager.live.refresh()
    end = time.monotonic() + 10
    while set(threading.enumerate()) - threads and time.monotonic() < end:
        time.sleep(0.02)
    assert set(threading.enumerate()) <= threads, "one of an earlier test may end meanwhile"
    assert (sys.stdout, sys.stderr, builtins.input) == (out, err, ask)


def test_the_module_level_functions_work_in_a_script() -> None:
    done = run(
        """
        from ridgepole.progress import progress_task, track

        @progress_task("work")
        def work(total, task_id, progress):
            for i in track(range(3), "inner"):
                progress.advance(task_id)
            return total

        print(work(3), work(3))
        """
    )
    assert done.stdout == b"3 3\n"
    lines = done.stderr.decode().splitlines()
    assert [line.split()[0] for line in lines][:2] == ["work:", "inner:"]
    assert lines[-1].startswith(("work: 3/3 done", "inner: 3/3 done"))


@pytest.mark.parametrize("progress", [True, False])
def test_the_module_level_functions_use_the_run_s_manager(tmp_path: Path, progress: bool) -> None:
    from ridgepole import Pipeline, process
    from ridgepole.progress import progress_task, track

    seen: dict[str, Any] = {}

    @progress_task("work")
    def work(total: int, progress: Any, task_id: int) -> int:
        progress.advance(task_id)
        return total

    @process
    def steps(controller: Any) -> None:
        assert list(track(range(3), "train", tick=True)) == [0, 1, 2]
        assert work(1) == 1
        manager = controller.get_permanence("progress_manager")
        seen.update(step=controller.step, bars=set(manager.progress_dict), state=manager.get_state())

    Pipeline("p", progress=progress, logger=False, checkpoint=False, seed=1).process("steps", steps).run(tmp_path)
    assert seen["step"] == 3
    assert "work" in seen["bars"]
    if progress:
        assert seen["state"]["bars"]["train"] == [{"task": "train", "completed": 3, "total": 3}]


@pytest.mark.parametrize(("width", "shown"), [(200, "0.123456789012345"), (80, "…"), (30, "(1/9)")])
def test_a_text_behind_the_bar_is_whole_or_visibly_cut(width: int, shown: str) -> None:
    stream = io.StringIO()
    with ProgressManager(Console(file=stream, force_terminal=True, width=width, height=10, no_color=True)) as manager:
        manager.add_progress("train", with_status=True)
        task = manager.add_task_to_progress("train", 9)
        manager.advance("train", task, status="loss=0.123456789012345 " * 2 + "tail")
        manager.live.refresh()
    row = stream.getvalue().rsplit("\x1b8", 1)[1].partition("\r\n")[0]
    assert row.startswith("train  ")
    assert shown in row
    assert len(row) < width
    assert ("tail" in row) == (width == 200)
