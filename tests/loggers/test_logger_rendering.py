"""Figures that a process of their own draws: the same bytes, in order, whatever happens to that process."""

import copy
import gc
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import psutil
import pytest
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from isolation import send
from ridgepole.errors import LogWriteError
from ridgepole.loggers.figures import queue, render_worker
from ridgepole.permanences import BaseLoggerManager, BasicLogger, LoggerGroup

pytestmark = [pytest.mark.process, pytest.mark.fault("no display, a figure that cannot be drawn")]


@pytest.fixture
def at_once(monkeypatch):
    """The render process is started at the first figure."""
    monkeypatch.setattr(queue, "START_AFTER_S", 0.0)


def media(directory):
    return [json.loads(line) for line in (directory / "media.jsonl").read_text().splitlines()]


def small(shade=0.5, **options):
    figure = Figure(figsize=(1, 1), dpi=40, **options)
    figure.add_subplot().plot([0, shade, 1])
    return figure


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def children():
    return [p for p in psutil.Process().children() if "figures/render_worker.py" in " ".join(p.cmdline())]


def eventually(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def up(logger):
    """Logs a figure and waits until the render process has drawn it."""
    logger.log_figure("first", small())
    path = logger.log_dir / "media.jsonl"
    eventually(lambda: path.exists() and path.read_bytes().endswith(b"\n"), "no figure was drawn")
    (process,) = children()
    return process


def test_the_first_figures_start_no_process(tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_figure("a", small())
        assert [entry["name"] for entry in media(tmp_path)] == ["a"], "it was not drawn in place"
        assert children() == []


def test_a_long_run_has_a_process_and_every_figure_in_order(at_once, tmp_path):
    with BasicLogger(tmp_path) as logger:
        process = up(logger)
        expected = []
        for step in range(20):
            figure = small(step / 20)
            expected.append(png(small(step / 20)))
            logger.log_figure("same" if step % 2 else f"other {step}", figure, step=step // 4)
        logger.flush()
        entries = media(tmp_path)[1:]
        assert process.is_running()
    assert [entry["step"] for entry in entries] == [step // 4 for step in range(20)]
    assert [entry["name"] for entry in entries] == ["same" if s % 2 else f"other {s}" for s in range(20)]
    seqs = [entry["seq"] for entry in entries]
    assert seqs == sorted(set(seqs))
    assert [(tmp_path / entry["file"]).read_bytes() for entry in entries] == expected
    assert children() == [], "the process outlives the logger"


def test_what_is_drawn_is_the_figure_as_it_was(at_once, tmp_path):
    with BasicLogger(tmp_path) as logger:
        figure = small()
        array = np.full((200, 200), 0.25)
        with mpl.rc_context(
            {"axes.facecolor": "red", "text.color": "blue", "savefig.dpi": 37, "savefig.facecolor": "green"}
        ):
            figure.suptitle("title")
            expected = png(copy.deepcopy(figure))
            logger.log_figure("figure", figure, close=False)
            logger.log_figure("array", array)
        figure.clear()
        array[:] = 1
        logger.flush()
    written, picture = ((tmp_path / entry["file"]) for entry in media(tmp_path))
    assert written.read_bytes() == expected
    assert np.asarray(Image.open(picture)).max() == 64


def test_pyplot_is_not_asked_to_show_it_again(at_once, tmp_path):
    with BasicLogger(tmp_path) as logger:
        up(logger)
        for _ in range(30):
            figure = plt.figure(figsize=(1, 1))
            logger.log_figure("p", figure)
            assert plt.get_fignums() == []
        logger.flush()
        assert len(media(tmp_path)) == 31


def test_a_figure_that_cannot_be_drawn(at_once, tmp_path, capfd):
    with BasicLogger(tmp_path) as logger:
        up(logger)
        broken = small()
        broken.text(0, 0, r"$\nosuchcommand$")
        logger.log_figure("broken", broken)
        logger.log_figure("whole", small())
        logger.flush()
        assert logger.get_state()["dropped"] == 1
        assert len(children()) == 1, "one bad figure cost the process"
    assert "the figure 'broken' could not be drawn: ValueError" in capfd.readouterr().err
    assert [entry["name"] for entry in media(tmp_path)] == ["first", "whole"]


def test_a_wrong_type_is_refused_at_once(at_once, tmp_path):
    with BasicLogger(tmp_path) as logger:
        up(logger)
        with pytest.raises(TypeError, match="can't be logged as a figure"):
            logger.log_figure("x", object())


class LocalArtist(mpl.lines.Line2D):
    """An artist that a process without this module can't read."""

    def __reduce__(self):
        return (_only_here, (os.getpid(),))


def _only_here(pid):
    if pid != os.getpid():
        raise RuntimeError("not mine")
    return mpl.lines.Line2D([0, 1], [0, 1])


def test_what_another_process_cannot_read_is_drawn_in_the_loop(at_once, tmp_path, capfd):
    with BasicLogger(tmp_path) as logger:
        process = up(logger)
        for number in range(6):
            figure = small()
            figure.axes[0].add_line(LocalArtist([0, 1], [1, 0]))
            logger.log_figure(f"local {number}", figure)
            logger.log_figure(f"plain {number}", small())
        unpicklable = small()
        unpicklable.axes[0].xaxis.set_major_formatter(FuncFormatter(lambda value, place: "x"))
        logger.log_figure("lambda", unpicklable)
        logger.flush()
        eventually(lambda: not process.is_running(), "the process is kept though it can't read these figures")
    names = [entry["name"] for entry in media(tmp_path)]
    assert names == ["first", *(f"{kind} {n}" for n in range(6) for kind in ("local", "plain")), "lambda"]
    assert capfd.readouterr().err.count("can't read these figures") == 1


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_hung_process_costs_no_figure(at_once, tmp_path, capfd, monkeypatch, blow):
    with BasicLogger(tmp_path) as logger:
        process = up(logger)
        monkeypatch.setattr(render_worker, "LIMIT_S", 0.5)
        process.send_signal(blow)
        for number in range(40):
            logger.log_figure("f", small(), step=number)
        logger.flush()
        logger.log_metrics({"a": 1})
        logger.log_figure("after", small(), step=40)
        eventually(lambda: not process.is_running(), "a hung process is left behind")
    assert [entry["step"] for entry in media(tmp_path)] == [0, *range(41)]
    assert capfd.readouterr().err.count("drawn in the loop from now on") == 1


def test_a_drain_is_bounded(at_once, tmp_path, capfd, monkeypatch):
    with BasicLogger(tmp_path) as logger:
        process = up(logger)
        process.suspend()
        logger.log_figure("late", small())
        logger._figures.drain(0.2)
        assert [entry["name"] for entry in media(tmp_path)] == ["first", "late"]
    assert "has not finished its figures" in capfd.readouterr().err


def test_a_process_that_cannot_be_started(at_once, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with BasicLogger(tmp_path / "logs") as logger:
        for number in range(3):
            logger.log_figure("f", small(), step=number)
    assert [entry["step"] for entry in media(tmp_path / "logs")] == [0, 1, 2]
    assert capfd.readouterr().err.count("drawn in the loop from now on") == 1


def test_a_figure_that_cannot_be_written(at_once, tmp_path):
    with BasicLogger(tmp_path) as logger:
        up(logger)
        figures = tmp_path / "figures"
        figures.rename(tmp_path / "moved")
        figures.write_text("in the way")
        logger.log_figure("lost", small())
        with pytest.raises(LogWriteError, match="'lost' was not logged"):
            logger.flush()
        figures.unlink()
        logger.log_figure("found", small())
        logger.flush()
        assert logger.get_state()["dropped"] == 1
    assert [entry["name"] for entry in media(tmp_path)] == ["first", "found"]


def test_many_threads(at_once, tmp_path):
    with BasicLogger(tmp_path) as logger:
        up(logger)

        def work(number):
            for step in range(10):
                logger.log_figure(f"t{number}", small(), step=step)
                logger.log_metrics({"x": 1})

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    for number in range(4):
        assert [e["step"] for e in media(tmp_path) if e["name"] == f"t{number}"] == list(range(10))


def test_memory_of_drawn_figures_is_given_back(at_once, tmp_path):
    alive = weakref.WeakSet()
    with BasicLogger(tmp_path) as logger:
        process = up(logger)
        sizes = []
        for number in range(120):
            figure = small()
            alive.add(figure)
            logger.log_figure("f", figure, step=number)
            if number in (60, 119):
                logger.flush()
                sizes.append(process.memory_info().rss)
        del figure
        gc.collect()
        assert len(alive) == 0, f"{len(alive)} figures are still alive"
    assert sizes[1] < sizes[0] * 1.2, "the render process grows with the figures"


FORK = """
import os, sys, warnings
warnings.simplefilter("error")
from matplotlib.figure import Figure
from ridgepole.permanences import BasicLogger
from ridgepole.loggers.figures import queue
queue.START_AFTER_S = 0.0
logger = BasicLogger(sys.argv[1])
logger.initialize()
for step in range(10):
    logger.log_figure("parent", Figure(figsize=(1, 1)), step=step)
warnings.simplefilter("ignore", DeprecationWarning)
pid = os.fork()
if pid == 0:
    logger.log_figure("child", Figure(figsize=(1, 1)))
    logger.flush()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
logger.cleanup()
"""


def test_a_forked_worker_draws_its_own(tmp_path):
    done = subprocess.run([sys.executable, "-c", FORK, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    names = {path.name: [json.loads(line)["name"] for line in path.read_text().splitlines()]
             for path in tmp_path.glob("media*.jsonl")}  # fmt: skip
    assert names.pop("media.jsonl") == ["parent"] * 10
    assert list(names.values()) == [["child"]]


LEFT = """
import os, signal, sys, time
from matplotlib.figure import Figure
from ridgepole.permanences import BasicLogger
from ridgepole.loggers.figures import queue
queue.START_AFTER_S = 0.0
logger = BasicLogger(sys.argv[1])
logger.log_figure("first", Figure(figsize=(1, 1)))
while not logger._figures._up:
    time.sleep(0.01)
print(logger._figures._process.pid, flush=True)
if sys.argv[2] == "worker":  # a forked worker that outlives the run holds copies of whatever the run had open
    if os.fork() == 0:
        time.sleep(60)
if sys.argv[2] != "end":
    os.kill(os.getpid(), signal.SIGKILL)
for step in range(20):
    logger.log_figure("f", Figure(figsize=(1, 1)), step=step)
"""


@pytest.mark.parametrize("how", ["kill", "worker", "end"])
def test_no_process_is_left_behind(tmp_path, how):
    with subprocess.Popen(
        [sys.executable, "-c", LEFT, str(tmp_path), how], stdout=subprocess.PIPE, start_new_session=True
    ) as run:
        pid = int(run.stdout.readline())
        run.wait(60)
        eventually(lambda: not psutil.pid_exists(pid), "the render process outlived the run")
        if how == "worker":
            send(run.pid, signal.SIGKILL, group=True)
    if how == "end":  # nobody cleaned up: the figures are there all the same
        assert len(media(tmp_path)) == 21


# -- several loggers ---------------------------------------------------------------------------------------------------


class Bytes(BaseLoggerManager):
    """A backend that takes drawn figures."""

    def __init__(self):
        self.figures, self.threads, self.closed_with = [], set(), None

    def log_metrics(self, metrics, *, step=None):
        self.resolve(metrics, step)

    def log_figure(self, name, figure):
        raise AssertionError("it takes bytes")

    def log_rendered(self, name, rendered, *, step=None):
        self.threads.add(threading.get_ident())
        self.figures.append((name, step, rendered.data))

    def cleanup(self):
        self.closed_with = len(self.figures)


class Whole(Bytes):
    """A backend of the shortest form: figures as they are given."""

    log_rendered = BaseLoggerManager.log_rendered

    def log_figure(self, name, figure):
        self.figures.append((name, len(figure.axes)))


def test_every_sink_has_the_same_bytes_on_the_caller_s_thread(at_once, tmp_path):
    sink, whole = Bytes(), Whole()
    with BasicLogger(tmp_path) as basic:
        group = LoggerGroup([whole, sink, basic])
        up(basic)
        for step in range(12):
            figure = small(step / 12)
            group.log_figure("f", figure, step=step, close=False)
            figure.clear()
            group.log_metrics({"a": 1})
        group.log_seaborn_graph("g", {"y": [1, 2, 3]}, y="y")
        sink.cleanup()
        assert sink.closed_with == 13, "figures came after the sink was closed"
        entries = media(tmp_path)[1:]
        assert [(name, step) for name, step, _ in sink.figures[:12]] == [("f", step) for step in range(12)]
        assert [data for *_, data in sink.figures] == [(tmp_path / e["file"]).read_bytes() for e in entries]
        assert sink.threads == {threading.get_ident()}
        assert whole.figures == [("f", 1)] * 12 + [("g", 1)], "it was given a figure that had changed since"
        assert (tmp_path / entries[-1]["data"]).exists()


def test_flush_of_a_group_waits_for_figures(at_once, tmp_path):
    sink = Bytes()
    with BasicLogger(tmp_path) as basic:
        group = LoggerGroup([basic, sink])
        up(basic)
        group.log_figure("f", small())
        group.flush()
        assert [name for name, *_ in sink.figures] == ["f"]
        group.log_figure("g", small())
        group.checkpoint()
        assert [name for name, *_ in sink.figures] == ["f", "g"]


def test_a_graph_keeps_its_data_as_it_was(at_once, tmp_path):
    import polars as pl

    with BasicLogger(tmp_path) as logger:
        process = up(logger)
        process.suspend()
        data = np.arange(5.0)
        logger.log_seaborn_graph("g", {"y": data}, y="y")
        data[:] = -1
        process.resume()
        logger.flush()
    assert pl.read_parquet(tmp_path / media(tmp_path)[-1]["data"])["y"].to_list() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "in a group"])
def test_a_graph_that_waits_is_there_after_the_clean_up(at_once, tmp_path, grouped):
    import polars as pl

    with BasicLogger(tmp_path) as basic:
        logger = LoggerGroup([basic, Whole()]) if grouped else basic
        process = up(basic)
        process.suspend()
        basic.log_figure("f", small())
        logger.log_seaborn_graph("g", {"y": [0.0, 1.0]}, y="y")
        process.resume()
    entry = media(tmp_path)[-1]
    assert entry["name"] == "g"
    assert pl.read_parquet(tmp_path / entry["data"])["y"].to_list() == [0, 1]
