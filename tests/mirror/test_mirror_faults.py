"""Mirrors that can't be written: two writers, a network that hangs, kills in mid-upload."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from isolation import send
from ridgepole import Pipeline
from ridgepole.checkpoint import CheckpointStore
from ridgepole.errors import ConfigError, RunDirError
from ridgepole.mirror.download import fetch_run
from ridgepole.mirror.helper import Orders, push
from ridgepole.mirror.index import Index
from ridgepole.mirror.monitor import Mirror
from ridgepole.mirror.objects import ConflictError, Objects
from ridgepole.mirror.settings import MirrorPolicy
from ridgepole.mirror.uploader import INDEX, Uploader
from ridgepole.rundir import note_attempt
from ridgepole.watch.alerts import read_alerts

from .conftest import make_project, run_of


def orders(run: Path, url: str) -> Orders:
    return Orders(run=str(run), url=url, every_seconds=0.05, drain_seconds=5, lease_seconds=0.5)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def fetched(url: str, run: Path) -> bytes | None:
    """Return the metrics of a run in its mirror."""
    objects = Objects(f"{url}/{run.name}")
    found = objects.read(INDEX)
    if found is None:
        return None
    parts = Index.decode(found[0], url).files["metrics.jsonl"]
    return b"".join(b"".join(objects.chunks(part.key)) for part in parts)


def small_run(root: Path, attempt: int = 1) -> Path:
    """Make a run directory with what a mirror looks at."""
    run = root / "20261122-101500-7f3a91c2"
    run.mkdir(parents=True)
    note_attempt(run, attempt)
    (run / "run.json").write_text("{}")
    (run / "metrics.jsonl").write_text('{"a":1}\n')
    return run


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s4://bucket/runs", "begins with one of s3://"),
        ("/somewhere", "begins with one of s3://"),
        ("s3:///runs", "names no bucket"),
        ("file://runs", "needs a whole path"),
        ("s3://user:secret@bucket/runs", "no user, password"),
    ],
)
def test_check_refuses_a_wrong_url(url, words):
    with pytest.raises(ConfigError, match=words):
        Pipeline("p", mirror=url).process("nothing", print).plan()


def test_check_names_the_missing_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'obstore>="):
        Pipeline("p", mirror="s3://bucket/runs").process("nothing", print).plan()


@pytest.mark.parametrize("kind", ["store", "bucket", "container"])
def test_only_the_reader_of_an_e_tag_may_replace(kind, request):
    objects = Objects(f"{request.getfixturevalue(kind)}/one", write=True)
    first = objects.replace("pointer", b"1", None)
    with pytest.raises(ConflictError):
        objects.replace("pointer", b"2", None)
    objects.replace("pointer", b"3", first)
    with pytest.raises(ConflictError):
        objects.replace("pointer", b"4", first)
    assert objects.read("pointer")[0] == b"3"


def test_two_directories_of_one_attempt_are_two_writers(tmp_path, store):
    run = small_run(tmp_path / "a")
    push(orders(run, store))
    copy = tmp_path / "b" / run.name
    shutil.copytree(run, copy)
    with pytest.raises(RunDirError, match="two writers"):
        push(orders(copy, store))
    note_attempt(copy, 2)
    push(orders(copy, store))
    with pytest.raises(RunDirError, match="attempt 2"):
        push(orders(run, store))


def test_a_growing_file_is_kept_in_few_segments_and_never_twice(tmp_path, store):
    run = small_run(tmp_path)
    objects = Objects(f"{store}/{run.name}", write=True)
    uploader = Uploader(run, objects, 1, "w")
    for number in range(100):
        with (run / "metrics.jsonl").open("a") as file:
            file.write(f'{{"a":{number}}}\n{{"torn')
        uploader.upload()
        with (run / "metrics.jsonl").open("r+") as file:
            file.truncate((run / "metrics.jsonl").stat().st_size - len('{"torn'))
    uploader.upload()
    index = Index.decode(objects.read(INDEX)[0], store)
    assert 1 <= len(index.files["metrics.jsonl"]) < 12
    copy = fetch_run(f"{store}/{run.name}", tmp_path / "there", print)
    assert (copy / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    stored = list((tmp_path / "mirror" / run.name / "data" / "metrics.jsonl").iterdir())
    assert len(stored) == len(index.files["metrics.jsonl"])  # what was merged is gone


def test_a_checkpoint_that_vanishes_during_the_look_is_dropped_whole(tmp_path, store, monkeypatch):
    run = small_run(tmp_path)
    saved = CheckpointStore(run / "checkpoints", keep_last=2).save({"a": 1}, step=1, kind="manual", config_hash="")
    uploader = Uploader(run, Objects(f"{store}/{run.name}", write=True), 1, "w")
    uploader.upload()
    exists = os.path.lexists

    def removed_meanwhile(path):
        if "checkpoints" in str(path):
            for each in (run / "checkpoints" / saved.info.name).iterdir():
                if each.name != "manifest.json":
                    each.unlink()
        return exists(path)

    monkeypatch.setattr("os.path.lexists", removed_meanwhile)
    uploader.upload()
    there = fetch_run(f"{store}/{run.name}", tmp_path / "there", print)
    assert not CheckpointStore(there / "checkpoints").list()


def test_damage_and_names_that_leave_the_directory_are_refused(tmp_path, store):
    run = small_run(tmp_path)
    push(orders(run, store))
    (stored,) = (tmp_path / "mirror" / run.name / "data" / "metrics.jsonl").iterdir()
    stored.write_bytes(b'{"a":2}\n')
    with pytest.raises(RunDirError, match="is damaged"):
        fetch_run(f"{store}/{run.name}", tmp_path / "there", print)
    assert not list((tmp_path / "there").iterdir())
    index = tmp_path / "mirror" / run.name / INDEX
    index.write_text(index.read_text().replace('"metrics.jsonl"', '"../metrics.jsonl"'))
    with pytest.raises(RunDirError, match="is damaged"):
        fetch_run(f"{store}/{run.name}", tmp_path / "there", print)


def test_a_bucket_that_is_not_there_stops_the_run_at_its_start(tmp_path, ridgepole, bucket):
    here = make_project(tmp_path / "here", "s3://bucket-that-is-not-there/runs")
    refused = ridgepole("run", "pipe.toml", cwd=here)
    assert refused.returncode != 0
    assert "can't be mirrored" in refused.stderr


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((403, "AccessDenied"), "403 Forbidden, AccessDenied: Not now"),
        ((403, "QuotaExceeded"), "403 Forbidden, QuotaExceeded: Not now"),
        ((400, "ExpiredToken"), "400 Bad Request, ExpiredToken: Not now"),
        ((507, "XMinioStorageFull"), "507 Insufficient Storage, XMinioStorageFull: Not now"),
        ((503, "SlowDown"), "503 Service Unavailable, SlowDown: Not now"),
    ],
)
def test_a_store_that_refuses_in_the_middle_is_told_once_and_caught_up(tmp_path, bucket, front, answer, said):
    run = small_run(tmp_path)
    warned: list[str] = []
    mirror = Mirror(run, MirrorPolicy(url=bucket, every_seconds=0.05, lease_seconds=600), warned.append)
    mirror.start()
    try:
        wait_for(lambda: fetched(bucket, run) == (run / "metrics.jsonl").read_bytes())
        front.answer = answer
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"a":2}\n')
        wait_for(lambda: len(read_alerts(run)[0]) == 1)
        time.sleep(0.3)  # further tries
        front.answer = None
        wait_for(lambda: fetched(bucket, run) == (run / "metrics.jsonl").read_bytes())
        wait_for(lambda: len(read_alerts(run)[0]) == 2)
    finally:
        mirror.end(60)
    assert warned == []
    refused, caught_up = read_alerts(run)[0]
    assert said in refused["text"]
    assert refused["level"] == "warning"
    assert "caught up" in caught_up["title"]


@pytest.mark.parametrize("answer", [(403, "AccessDenied"), (403, "QuotaExceeded"), (400, "ExpiredToken")])
def test_a_store_that_refuses_at_the_start_stops_the_run(tmp_path, bucket, front, answer):
    front.answer = answer
    run = small_run(tmp_path)
    with pytest.raises(RunDirError, match=f"can't be mirrored: .* the store answered {answer[0]} .*, {answer[1]}"):
        Mirror(run, MirrorPolicy(url=bucket), print).start()


def test_a_container_that_is_not_there_stops_the_run_at_its_start(tmp_path, container):
    with pytest.raises(RunDirError, match="the bucket does not exist"):
        push(orders(small_run(tmp_path), "az://container-that-is-not-there/runs"))


def test_a_wrong_key_stops_the_run_at_its_start(tmp_path, container, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bm90IHRoZSBrZXk=")
    with pytest.raises(RunDirError, match="the store answered 403"):
        push(orders(small_run(tmp_path), container))


def test_a_store_that_does_not_answer_never_stops_a_run(tmp_path, ridgepole):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",  # refuses: a hang differs by the client's timeout only
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "us-east-1",
    }
    here = make_project(tmp_path / "here", "s3://bucket/runs", drain=0)
    done = ridgepole("run", "pipe.toml", cwd=here, timeout=120, **environment)
    assert done.returncode == 0, done.stderr
    run = run_of(here)
    assert f"ridgepole mirror push {run}" in done.stderr
    brought = ridgepole("mirror", "push", run.name, "--to", f"file://{tmp_path}/later", cwd=here)
    assert brought.returncode == 0, brought.stderr
    assert fetch_run(f"file://{tmp_path}/later/{run.name}", tmp_path / "there", print)


def killed_run(folder: Path, store: str, seconds: float) -> Path | None:
    """Run, kill the run and its helper after the first checkpoint, and return the run's directory."""
    here = make_project(folder, store)
    command = [sys.executable, "-m", "ridgepole", "run", "pipe.toml", "processes.learn.steps=100000"]
    run = subprocess.Popen(
        [*command, "processes.learn.pause=0.002"],
        cwd=here,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    mirror = Path(store.removeprefix("file://"))
    try:
        until = time.monotonic() + 60
        while not list(mirror.glob("*/data/checkpoints/*/manifest.json")) and time.monotonic() < until:
            assert run.poll() is None
            time.sleep(0.01)
        threading.Event().wait(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            send(run.pid, signal.SIGKILL, group=True)
        run.wait()
    return run_of(here)


def check_killed(folder: Path, seconds: float) -> None:
    """Kill a run in the middle of its uploads; what is in the mirror is sound, and is continued."""
    store = f"file://{folder}/mirror"
    run = killed_run(folder / "here", store, seconds)
    there = fetch_run(f"{store}/{run.name}", folder / "there", print)
    # Whole lines only, each a beginning of what the machine had; none if the kill came before their first upload
    lines = (there / "metrics.jsonl").read_bytes()
    assert lines.endswith(b"\n") or not lines
    assert (run / "metrics.jsonl").read_bytes().startswith(lines)
    checkpoints = CheckpointStore(there / "checkpoints")
    assert not any(info.problem for info in checkpoints.list())
    if checkpoints.list():
        assert not checkpoints.load("latest").passed_over
    push(orders(run, store))  # the machine is back: the rest follows, and nothing twice
    whole = fetch_run(f"{store}/{run.name}", folder / "whole", print)
    assert (whole / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    names = {info.name for info in CheckpointStore(run / "checkpoints").list()}
    assert {info.name for info in CheckpointStore(whole / "checkpoints").list()} == names


@pytest.mark.fault("a run and its helper killed in mid-upload: the mirror is sound, the rest follows")
@pytest.mark.parametrize("trial", range(20))
def test_a_kill_in_the_middle_of_uploads_leaves_a_sound_mirror(tmp_path, trial, tally):
    check_killed(tmp_path, random.Random(trial).uniform(0, 0.3))
    tally(kills=1)


@pytest.mark.torture
@pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")
@pytest.mark.fault("a run and its helper killed in mid-upload: the mirror is sound, the rest follows")
@pytest.mark.parametrize("trial", range(200))
def test_two_hundred_kills_leave_sound_mirrors(tmp_path, trial, tally):
    check_killed(tmp_path, random.Random(1000 + trial).uniform(0, 1.0))
    tally(kills=1)
