"""`logger.alert`, `alerts.jsonl` and `ridgepole runs alerts`."""

import json

import pytest

from ridgepole import Pipeline, process, rundir
from ridgepole.loggers.composite import LoggerGroup, NullLogger
from ridgepole.permanences import BaseLoggerManager, BasicLogger
from ridgepole.watch.alerts import append_alert, new_alert, read_alerts


@process
def tell(controller, logger: BaseLoggerManager, password: str = ""):
    controller.tick()
    logger.alert("half way", f"the word is {password}", "warning")
    logger.alert("a second one")


def lines(directory):
    return [json.loads(line) for line in (directory / rundir.ALERTS).read_text("utf-8").splitlines()]


def test_an_alert_of_a_run_has_its_step_and_no_secret(tmp_path, ridgepole):
    pipeline = Pipeline("tells", progress=False, seed=1).process("tell", tell, password="swordfish")
    run = pipeline.run(tmp_path / "runs").path
    first, second = lines(run)
    assert first["time"] > 1.7e9
    del first["time"], second["time"]
    assert first == {
        "level": "warning",
        "kind": "alert",
        "title": "half way",
        "text": "the word is ***",
        "step": 1,
        "rank": 0,
    }
    assert (second["level"], second["title"], second["text"]) == ("info", "a second one", "")
    log = (run / rundir.RUN_LOG).read_text("utf-8")
    assert "WARNING half way: the word is" in log
    assert "INFO    a second one" in log

    table = ridgepole("runs", "alerts").stdout.splitlines()
    assert table[0].split() == ["TIME", "(UTC)", "LEVEL", "KIND", "STEP", "TITLE"]
    assert table[1].split()[2:] == ["warning", "alert", "1", "half", "way"]
    answer = json.loads(ridgepole("runs", "alerts", run.name, "--json", "--since", "1").stdout)
    assert (answer["run"], answer["status"], answer["next"]) == (run.name, "finished", "2")
    assert [alert["title"] for alert in answer["alerts"]] == ["a second one"]
    assert ridgepole("runs", "alerts", "--since", "2").stdout == "no alerts after the first 2\n"
    refused = ridgepole("runs", "alerts", "--since", "yesterday")
    assert refused.returncode == 2
    assert "expected a number of alerts" in refused.stderr


def test_a_run_without_a_logger_keeps_its_alerts(tmp_path):
    run = Pipeline("tells", progress=False, logger=False).process("tell", tell).run(tmp_path).path
    assert [line["title"] for line in lines(run)] == ["half way", "a second one"]


def test_a_logger_alone_keeps_alerts_in_its_directory(tmp_path):
    with BasicLogger(tmp_path / "logs") as logger:
        logger.log_metrics({"loss": 1.0}, step=7)
        LoggerGroup([logger]).alert("by hand", level="error")
    (alert,) = lines(tmp_path / "logs")
    assert (alert["title"], alert["level"], alert["step"]) == ("by hand", "error", 7)
    NullLogger().alert("kept nowhere")


def test_a_full_disk_stops_no_alert(tmp_path, capsys):
    with BasicLogger(tmp_path / "logs") as logger:
        (tmp_path / "logs" / rundir.ALERTS).symlink_to("/dev/full")
        logger.alert("one")
        logger.alert("two")
    shown = capsys.readouterr().err
    assert "two" in shown
    assert shown.count("the alert was not kept") == 1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((1,), TypeError, "the title must be text, not int"),
        (("a", b"b"), TypeError, "the text must be text, not bytes"),
        ((" \n",), ValueError, "the title is empty"),
        (("a", "", "fatal"), ValueError, "info, warning, error, not 'fatal'"),
    ],
)
def test_what_is_not_an_alert_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        NullLogger().alert(*arguments)


def test_lines_stay_whole(tmp_path):
    """A title is one line, a flood of text is cut, and a torn line spoils no other."""
    append_alert(tmp_path, new_alert("alert", "info", "two\nlines", "x" * 20_000))
    with (tmp_path / rundir.ALERTS).open("ab") as file:
        file.write(b'{"time": 1, "ti')
    append_alert(tmp_path, new_alert("nan", "error", "after it", step=3, rank=1))
    (first, second), after = read_alerts(tmp_path)
    assert first["title"] == "two lines"
    assert len(first["text"]) == 10_000
    assert (second["kind"], second["step"], second["rank"]) == ("nan", 3, 1)
    assert after == 2
    assert read_alerts(tmp_path, 2) == ([], 2)
