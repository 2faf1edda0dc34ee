"""Every way in which a logger may end: what was logged is drained first, then files are released."""

import contextlib
import json
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ridgepole import Pipeline, process
from ridgepole.loggers.figures import queue
from ridgepole.loggers.tensorboard.hparams import FILE
from ridgepole.metrics import load_metrics
from ridgepole.permanences import BaseLoggerManager, BasicLogger, LoggerGroup, TensorBoardLogger

KINDS = ("line", "hist", "scatter", "ecdf", "kde", "bar")


def names(directory):
    lines = (directory / "media.jsonl").read_text().splitlines()
    return [json.loads(line)["name"] for line in lines]


def images(directory):
    found = EventAccumulator(str(directory), {"images": 0})
    found.Reload()
    return [tag for tag in found.Tags()["images"] for _ in found.Images(tag)]


def curve(number):
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([0, number])
    return figure


@pytest.fixture
def drawn_later(monkeypatch):
    """Has all figures wait for the process that draws them."""
    monkeypatch.setattr(queue, "START_AFTER_S", -1.0)


def fail_inside(loggers, work):
    with contextlib.ExitStack() as stack:
        for logger in loggers:
            stack.enter_context(logger)
        work(loggers)
        raise ZeroDivisionError("of the user")


@pytest.fixture(params=["with", "cleanup", "exception"])
def closing(request):
    """A block that closes its loggers in one of the ways of a script."""

    def use(make, work):
        loggers = make()
        if request.param == "cleanup":
            work(loggers)
            for logger in reversed(loggers):
                logger.cleanup()
        elif request.param == "with":
            with contextlib.ExitStack() as stack:
                for logger in loggers:
                    stack.enter_context(logger)
                work(loggers)
        else:
            with pytest.raises(ZeroDivisionError):
                fail_inside(loggers, work)

    return use


def test_graphs_that_wait_are_on_the_disk_after_the_end(tmp_path, drawn_later, closing):
    def work(loggers):
        for kind in KINDS:
            loggers[0].log_seaborn_graph(kind, np.arange(20.0) % 7, kind=kind)

    closing(lambda: [BasicLogger(tmp_path)], work)
    assert names(tmp_path) == list(KINDS)
    assert len(list(tmp_path.glob("figures/*.parquet"))) == len(KINDS)


def test_a_group_gives_waiting_figures_to_every_member_at_the_end(tmp_path, drawn_later, closing):
    def work(loggers):
        group = LoggerGroup(loggers)
        for number in range(6):
            group.log_figure(f"f{number}", curve(number))
        group.log_seaborn_graph("g", [1, 2, 3])

    closing(lambda: [BasicLogger(tmp_path / "local"), TensorBoardLogger(tmp_path / "board")], work)
    expected = [*(f"f{number}" for number in range(6)), "g"]
    assert names(tmp_path / "local") == expected
    assert images(tmp_path / "board") == expected


def test_a_group_that_is_gone_still_gives_its_figures_to_every_member(tmp_path, drawn_later):
    with BasicLogger(tmp_path / "local") as local, TensorBoardLogger(tmp_path / "board") as board:
        group = LoggerGroup([local, board])
        group.log_figure("f", curve(1))
        del group
        local.flush()
        assert images(tmp_path / "board") == ["f"]


@process
def draw(logger: BaseLoggerManager, fails: bool = False):
    for number in range(4):
        logger.log_figure(f"f{number}", curve(number))
        logger.log_metrics({"a": number})
    if fails:
        raise ZeroDivisionError("of the user")


@pytest.mark.parametrize("fails", [False, True])
def test_a_pipeline_drains_its_loggers(tmp_path, drawn_later, fails):
    made = Pipeline("drains", progress=False, checkpoint=False, seed=0)
    pipeline = made.permanence("board", TensorBoardLogger).process("draw", draw, fails=fails)
    if fails:
        with pytest.raises(ZeroDivisionError):
            pipeline.run(tmp_path)
    else:
        pipeline.run(tmp_path)
    (run,) = tmp_path.iterdir() if not fails else [path for path in tmp_path.iterdir() if path.is_dir()]
    assert names(run) == images(run) == [f"f{number}" for number in range(4)]


SCRIPT = """
import sys
from matplotlib.figure import Figure
from ridgepole.loggers.figures import queue
from ridgepole.permanences import BasicLogger, LoggerGroup, TensorBoardLogger
queue.START_AFTER_S = -1.0
group = LoggerGroup([BasicLogger("local"), TensorBoardLogger("board")])
group.log_hparams({"lr": 0.1})
for number in range(40):
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([0, number])
    group.log_metrics({"a": number})
    group.log_figure(f"f{number:02}", figure)
"""


def run_script(tmp_path, ending="", **options):
    code = SCRIPT + ending
    return subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100, **options
    )


def session_status(directory):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    from ridgepole.loggers.tensorboard.events import parsed
    from ridgepole.loggers.tensorboard.records import read_records

    for data in read_records(directory / FILE):
        for value in parsed(data).summary.value:
            content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
            if content.HasField("session_end_info"):
                return content.session_end_info.status
    return None


def test_a_group_in_a_script_that_closes_nothing_is_drained_at_exit(tmp_path):
    done = run_script(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    expected = [f"f{number:02}" for number in range(40)]
    assert names(tmp_path / "local") == images(tmp_path / "board") == expected
    assert session_status(tmp_path / "board") == 1, "success"


def test_a_script_that_dies_of_an_exception_is_drained_and_failed(tmp_path):
    done = run_script(tmp_path, "raise ZeroDivisionError('of the user')\n")
    assert done.returncode == 1
    assert done.stderr.count("ZeroDivisionError: of the user") == 1
    expected = [f"f{number:02}" for number in range(40)]
    assert names(tmp_path / "local") == images(tmp_path / "board") == expected
    assert session_status(tmp_path / "board") == 2, "failure"


def test_a_script_that_is_terminated_keeps_its_metrics(tmp_path):
    """The row of the docs' table: figures that were not drawn are lost with the process, metrics are not."""
    done = run_script(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)\n")
    assert done.returncode == -signal.SIGTERM
    assert load_metrics(tmp_path / "local").records == 40
    found = EventAccumulator(str(tmp_path / "board"))
    found.Reload()
    assert [event.value for event in found.Scalars("a")] == list(range(40))


def test_a_member_that_fails_is_named_with_the_command_that_brings_what_it_lacks(
    tmp_path, monkeypatch, capfd, ridgepole
):
    with BasicLogger(tmp_path / "local") as local, TensorBoardLogger(tmp_path / "board") as board:
        group = LoggerGroup([local, board])
        group.log_metrics({"a": 0})
        monkeypatch.setattr(board, "log_metrics", lambda *given, **named: 1 / 0)
        group.log_metrics({"a": 1})
        group.log_metrics({"a": 2})
        assert group.get_state()["off"] == [{"type": "TensorBoardLogger", "dropped": 2}]
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "switched off" in line]
    command = shlex.split(line.partition("to fill it later: ")[2])
    assert command == ["ridgepole", "export", str(tmp_path / "local"), "--to", "tensorboard"]
    done = ridgepole(*command[1:])
    assert done.returncode == 0, done.stderr
    found = EventAccumulator(str(tmp_path / "local" / "export" / "tensorboard"))
    found.Reload()
    assert [event.value for event in found.Scalars("a")] == [0, 1, 2]
