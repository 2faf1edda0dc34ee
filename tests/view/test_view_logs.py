"""Logs of other trackers on the page: found, copied to the cache, followed, and only shown."""

import csv
import os
import shutil
import signal
import struct
import threading
import time
import zlib
from pathlib import Path

import pytest
from page_client import PageClient

from ridgepole.importers.discover import discover
from ridgepole.loggers.tensorboard import TensorBoardLogger
from ridgepole.view.copies import LogCopies

SECONDS = 60


def write_csv(path, steps=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["epoch", "step", "train_loss"])
        rows.writerows([0, step, 1 / (step + 1)] for step in range(steps))


def write_events(folder):
    with TensorBoardLogger(folder) as logger:
        for step in range(20):
            logger.log_metrics({"loss": 1 / (step + 1)}, step=step)


def write_wandb(path):
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    begun, row, ended = pb.Record(), pb.Record(), pb.Record()
    begun.run.run_id, begun.run.project, begun.run.display_name = "x", "digits", "brave-fox-1"
    row.history.item.add(key="loss", value_json="0.5")
    row.history.item.add(key="_step", value_json="3")
    ended.exit.exit_code = 0
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.write(b":W&B\0\0\0")
        for record in (begun, row, ended):
            data = record.SerializeToString()
            file.write(struct.pack("<IHB", zlib.crc32(data, zlib.crc32(b"\1")), len(data), 1) + data)


def age(folder):
    """Let the files be as if they had been written yesterday."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 86400,) * 2)


def until(look):
    """Wait for a look to find something, and return it."""
    end = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def by_name(client):
    fields = client.get("/api/runs").json()["fields"]
    return dict(zip(fields["name"], fields["status"], strict=True))


def test_logs_are_found_and_nothing_else(tmp_path):
    write_events(tmp_path / "tb" / "first")
    write_csv(tmp_path / "lightning_logs" / "version_0" / "metrics.csv")
    write_csv(tmp_path / "keras.csv")
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    shutil.copytree(tmp_path / "tb", tmp_path / ".hidden")
    shutil.copytree(tmp_path / "tb", tmp_path / "known")
    shutil.copytree(tmp_path / "tb", tmp_path / "a-run" / "tensorboard")
    (tmp_path / "a-run" / "run.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "tb")
    (tmp_path / "link.csv").symlink_to(tmp_path / "keras.csv")
    failed = []
    found = list(discover(tmp_path, lambda *failure: failed.append(failure), {tmp_path / "known"}))
    assert [(each.kind, each.about.name) for each in found] == [
        ("csv", "keras"),
        ("csv", "lightning_logs/version_0"),
        ("tensorboard", "tb/first"),
    ]
    assert not failed


@pytest.fixture
def served(command_server, tmp_path):
    """Serves `logs` of the test's directory, as far as the test has filled it."""
    started = []

    def call():
        running = command_server.start(
            "view", str(tmp_path / "logs"), "--port", "0", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache")
        )
        started.append(running)
        return running, PageClient(running.until("token=").stdout)

    yield call
    for each in started:
        each.send(signal.SIGKILL)
        each.wait()


def test_logs_are_shown_as_runs_that_cannot_be_changed(served, tmp_path):
    logs = tmp_path / "logs"
    write_events(logs / "tb")
    write_csv(logs / "lightning_logs" / "version_0" / "metrics.csv")
    write_wandb(logs / "wandb" / "offline-run-x" / "run-x.wandb")
    (logs / "bad.csv").write_bytes(b"step,loss\n1,\xff\n")
    age(logs)
    before = sorted(logs.rglob("*"))
    running, client = served()
    until(lambda: len(by_name(client)) == 3)
    assert by_name(client) == {"tb": "finished", "lightning_logs/version_0": "finished", "brave-fox-1": "finished"}
    (problem,) = until(lambda: client.get("/api/info").json()["problems"])
    assert problem.startswith(f"{logs / 'bad.csv'}: UnicodeDecodeError")
    table = client.get("/api/runs").json()
    assert table["fields"]["copy"] == [True] * 3
    key = table["keys"][table["fields"]["name"].index("tb")]
    answer = client.get(f"/api/runs/{key}").json()
    assert (answer["path"], answer["writable"]) == (str(logs / "tb"), False)
    assert (answer["summary"]["loss"]["count"], answer["summary"]["loss"]["last"]) == (20, pytest.approx(0.05))
    refused = client.post("/api/labels", {"runs": [key], "name": "mine"})
    assert refused.status == 400
    assert "`ridgepole import` makes it a run" in refused.json()["error"]["message"]
    assert sorted(logs.rglob("*")) == before
    running.send(signal.SIGINT)
    assert running.wait() == 0
    assert "Traceback" not in running.stderr


def test_a_log_that_grows_is_followed_and_one_that_is_removed_goes(served, tmp_path):
    log = tmp_path / "logs" / "log.csv"
    write_csv(log)
    _, client = served()
    assert until(lambda: by_name(client)) == {"log": "running"}
    (key,) = client.get("/api/runs").json()["keys"]
    write_csv(log, steps=30)
    until(lambda: client.get(f"/api/runs/{key}").json().get("summary", {}).get("train_loss", {}).get("count") == 30)
    log.unlink()
    until(lambda: not by_name(client))


def test_of_two_viewers_one_copies(tmp_path):
    write_csv(tmp_path / "logs" / "log.csv")
    viewers = [LogCopies([tmp_path / "logs"], tmp_path / "cache") for _ in range(2)]
    for viewer in viewers:
        changed = threading.Event()
        viewer.start(changed.set, lambda: True, frozenset)
        assert changed.wait(SECONDS)  # the second one has no more logs to wait for, and says so
    (folder,) = viewers[0].folders
    copies = [path for path in Path(folder).iterdir() if not path.name.startswith(".")]
    assert len(copies) == 1
    for viewer in viewers:
        viewer.stop()
