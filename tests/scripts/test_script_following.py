"""What a script logs with another library is in its run while it runs, and stays there however it ends."""

import json
import signal
import textwrap
import time

import psutil
import pytest

from isolation import send
from ridgepole import read_metrics
from ridgepole.errors import RunDirError
from ridgepole.rundir import COPIED, list_runs, note_attempt
from ridgepole.runs.follow import read_since
from ridgepole.scripts.follow import Row
from ridgepole.scripts.history import LiveRecord

QUIET = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true"}
QUIET |= {"WANDB_X_DISABLE_STATS": "true", "WANDB_X_DISABLE_META": "true"}
LIMIT = 60.0

BOARD = """
import os, pathlib, time
from ridgepole.permanences import TensorBoardLogger

pathlib.Path("pid").write_text(str(os.getpid()))
with TensorBoardLogger(log_dir="elsewhere") as board:
    for step in range(3):
        board.log_metrics({"loss": 4.0 - step})
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    board.log_metrics({"loss": 0.5})
"""

WANDB = """
import os, pathlib, time, wandb

pathlib.Path("pid").write_text(str(os.getpid()))
with wandb.init(project="p") as run:
    for step in range(3):
        run.log({"loss": 4.0 - step})
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    run.log({"loss": 0.5})
"""


class Follower:
    """Reads a run's new records again and again, as the page does."""

    def __init__(self, folder):
        self.folder, self.cursor, self.losses, self.run = folder, None, [], None

    def until(self, count, child):
        limit = time.monotonic() + LIMIT
        while len(self.losses) < count:
            assert time.monotonic() < limit, (self.losses, child.stderr)
            self.look()
            time.sleep(0.02)

    def look(self):
        for run in list_runs(self.folder / "runs"):
            self.run = run
            try:
                new = read_since(run.path, self.cursor)
            except RunDirError:  # no metrics yet
                return
            self.cursor = new.cursor
            self.losses += [record["metrics"]["loss"] for record in new.records]


def start(command_server, folder, text):
    if "import wandb" in text or ", wandb" in text:
        pytest.importorskip("wandb")
    (folder / "train.py").write_text(textwrap.dedent(text))
    return command_server.start("run", "train.py", cwd=folder, **QUIET)


@pytest.mark.parametrize("text", [BOARD, WANDB], ids=["tensorboard", "wandb"])
def test_metrics_show_while_the_script_runs(command_server, ridgepole, tmp_path, text):
    child, follower = start(command_server, tmp_path, text), Follower(tmp_path)
    follower.until(3, child)
    (row,) = json.loads(ridgepole("runs", "ls", "--json").stdout)
    assert (row["status"], row["best"]["value"]) == ("running", 2.0)
    (tmp_path / "go").touch()
    assert child.wait() == 0, child.stderr
    follower.look()
    assert follower.losses == [4.0, 3.0, 2.0, 0.5], "each once"
    frame = read_metrics(follower.run.path)
    assert frame["step"].to_list() == [0, 1, 2, 3]
    assert frame["value"].to_list() == follower.losses
    assert frame["time"].is_sorted()
    (row,) = json.loads(ridgepole("runs", "ls", "--json").stdout)
    assert (row["status"], row["best"]["value"]) == ("finished", 0.5)


@pytest.mark.parametrize("whom", ["script", "ridgepole"])
def test_metrics_stay_after_a_kill(command_server, tmp_path, whom):
    child, follower = start(command_server, tmp_path, BOARD), Follower(tmp_path)
    follower.until(3, child)
    script = psutil.Process(int((tmp_path / "pid").read_text()))
    try:
        if whom == "script":
            send(script.pid, signal.SIGKILL)
        else:
            child.send(signal.SIGKILL)
        child.wait()
    finally:
        if script.is_running():
            script.kill()
    assert read_metrics(follower.run.path)["value"].to_list() == [4.0, 3.0, 2.0]
    (run,) = list_runs(tmp_path / "runs")
    assert run.status == ("failed" if whom == "script" else "crashed")


def test_what_the_script_logs_itself_counts_alone(command_server, tmp_path):
    text = BOARD + "from ridgepole.permanences import BasicLogger\nwith BasicLogger() as logger:\n"
    text += "    logger.log_metrics({'loss': 7.0})\n    logger.log_metrics({'loss': 6.0})\n"
    child, follower = start(command_server, tmp_path, text), Follower(tmp_path)
    follower.until(3, child)
    (tmp_path / "go").touch()
    assert child.wait() == 0, child.stderr
    frame = read_metrics(follower.run.path)
    assert frame["value"].to_list() == [7.0, 6.0], "the copies are hidden"
    assert frame["step"].to_list() == [0, 1]
    assert frame["seq"].to_list() == [0, 1]
    (run,) = list_runs(tmp_path / "runs")
    assert run.json("summary.json")["metrics"]["loss"]["count"] == 2


def rows(directory):
    frame = read_metrics(directory)
    return list(frame.select("step", "value").iter_rows())


def test_a_later_attempt_continues_or_starts_over(tmp_path):
    def log(attempt, *found):
        live = LiveRecord(tmp_path, attempt=attempt)
        for row in found:
            live.append(row)
        live.close()

    log(1, Row({"loss": 1.0}, 0, 5.0), Row({"text": "x", "_time": 1}), Row({"loss": 2.0}))
    assert rows(tmp_path) == [(0, 1.0), (1, 2.0)]
    with (tmp_path / COPIED).open("ab") as file:
        file.write(b'{"seq":')  # a killed write
    log(2, Row({"loss": 3.0}, 2), Row({"loss": 4.0}))
    assert rows(tmp_path) == [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)]
    log(3, Row({"loss": 5.0}), Row({"loss": 6.0}))
    assert rows(tmp_path) == [(0, 5.0), (1, 6.0)]
    note_attempt(tmp_path, 4)
    live = LiveRecord(tmp_path, attempt=4)
    live.append(Row({"loss": 7.0}, 2))
    live.hide()
    live.close()
    assert rows(tmp_path) == [(0, 5.0), (1, 6.0)]
