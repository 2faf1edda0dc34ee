"""debug, info, warning, error: to the terminal as it is at that moment, and to run.log."""

import io
import os
import re
import shlex
import subprocess
import sys

import pexpect
import pytest

from ridgepole.permanences import BasicLogger, NullLogger

STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 ", re.MULTILINE)


def test_to_the_terminal_and_to_run_log(tmp_path, capfd):
    with BasicLogger(tmp_path) as logger:
        logger.debug("hidden")
        logger.info("epoch %d of %d", 1, 5)
        logger.warning("100% sure")
        logger.error("two\nlines")
    out, err = capfd.readouterr()
    assert out == ""
    shown = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in err.splitlines()]
    assert shown == ["INFO    epoch 1 of 5", "WARNING 100% sure", "ERROR   two", "    lines"]
    log = (tmp_path / "run.log").read_text()
    assert STAMP.sub("", log).splitlines() == shown
    assert len(STAMP.findall(log)) == 3


@pytest.mark.parametrize(("level", "count"), [("DEBUG", 4), ("info", 3), ("WARNING", 2), ("ERROR", 1)])
def test_log_level(tmp_path, capfd, level, count):
    with BasicLogger(tmp_path, log_level=level) as logger:
        for say in (logger.debug, logger.info, logger.warning, logger.error):
            say("x")
    assert len(capfd.readouterr().err.splitlines()) == count
    assert len((tmp_path / "run.log").read_text().splitlines()) == count


def test_the_stream_is_looked_up_when_something_is_said(tmp_path, monkeypatch):
    with BasicLogger(tmp_path) as logger:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)  # what a progress display does
        logger.warning("above the bars")
    assert "above the bars" in stream.getvalue()


def test_no_handlers_are_left_and_the_terminal_still_works(tmp_path, capfd):
    logger = BasicLogger(tmp_path)
    logger.info("one")
    logger.cleanup()
    logger.error("two")
    assert [line[-3:] for line in capfd.readouterr().err.splitlines()] == ["one", "two"]
    assert len((tmp_path / "run.log").read_text().splitlines()) == 1
    BasicLogger(tmp_path).cleanup()


def test_two_loggers_do_not_hear_each_other(tmp_path, capfd):
    with BasicLogger(tmp_path / "a") as a, BasicLogger(tmp_path / "b", log_level="ERROR") as b:
        a.info("from a")
        b.info("from b")
        b.error("from b")
    assert "from b" not in (tmp_path / "a" / "run.log").read_text()
    assert "from a" not in (tmp_path / "b" / "run.log").read_text()
    assert len(capfd.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("stream", ["closed", "none", "ascii"])
def test_a_terminal_that_cannot_take_it(tmp_path, monkeypatch, stream):
    with BasicLogger(tmp_path) as logger:
        broken = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        if stream == "closed":
            broken.close()
        monkeypatch.setattr(sys, "stderr", None if stream == "none" else broken)
        logger.warning("größer")
        if stream == "ascii":
            assert b"gr\\xf6\\xdfer" in broken.buffer.getvalue()
    assert "größer" in (tmp_path / "run.log").read_text(encoding="utf-8")


def test_arguments_that_do_not_fit_stop_nothing(tmp_path, capfd):
    with BasicLogger(tmp_path) as logger:
        logger.warning("%d epochs", "five")
    assert "%d epochs ('five',)" in capfd.readouterr().err


SCRIPT = """
import sys
from ridgepole.permanences import BasicLogger
with BasicLogger(sys.argv[1], theme={"info": "magenta"}) as logger:
    logger.info("in magenta")
    logger.error("in red")
"""


def on_a_terminal(tmp_path, **environment):
    clean = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    command = shlex.join([sys.executable, "-c", SCRIPT, str(tmp_path)])
    return pexpect.run(command, env=clean | environment, timeout=60).decode()


def test_colour_on_a_terminal_unless_it_is_unwanted(tmp_path):
    shown = on_a_terminal(tmp_path)
    assert "\x1b[35m" in shown, "magenta"
    assert "\x1b[1;31m" in shown, "bold red"
    assert "\x1b" not in on_a_terminal(tmp_path, NO_COLOR="1")
    assert "\x1b" not in (tmp_path / "run.log").read_text()
    piped = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, text=True, timeout=60)
    assert "in red" in piped.stderr
    assert "\x1b" not in piped.stderr


def test_the_null_logger_shows_warnings_and_errors(capfd):
    logger = NullLogger()
    logger.info("quiet")
    logger.warning("loud")
    logger.error("louder")
    assert [line.split()[-1] for line in capfd.readouterr().err.splitlines()] == ["loud", "louder"]


def test_a_full_disk_is_said_once_and_stops_nothing(tmp_path, capfd):
    (tmp_path / "run.log").symlink_to("/dev/full")
    with BasicLogger(tmp_path) as logger:
        logger.info("one")
        logger.info("two")
    err = capfd.readouterr().err
    assert err.count("messages can't be written") == 1
    assert "two" in err
