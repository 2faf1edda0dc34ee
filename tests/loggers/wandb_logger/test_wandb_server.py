"""A server that answers, refuses, fails or hangs: the run goes on, and nothing is waited for longer than promised."""

import contextlib
import time

import pytest

from ridgepole.errors import TrackerError
from ridgepole.permanences import WandBLogger

pytestmark = pytest.mark.fault("W&B dead, hanging or failing: the run goes on")


class Hasty(WandBLogger):
    """With less patience than 30 s, so that the tests need not have it either."""

    _patience = 10.0
    _online_share = 0.4


def files_with(word, root):
    return [path for path in root.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


def test_on_line_everything_arrives(start_server, inside, key, tmp_path, capfd):
    one = start_server()
    with inside(WandBLogger, project="p") as logger:
        for step in (4, 2, 7):
            logger.log_metrics({"loss": step / 2}, step=step)
        state = logger.get_state()
        assert (state["mode"], state["id"], state["resumed"]) == ("online", "20261122-101500-7f3a91c2", False)
        assert state["url"].startswith(one.url)
    assert [(row["step"], row["loss"]) for row in one.streamed if "loss" in row] == [(4, 2.0), (2, 1.0), (7, 3.5)]
    assert capfd.readouterr() == ("", ""), "nothing to say where nothing is wrong"
    assert files_with(key, tmp_path) == [], "the key was written to a file"


def test_a_resume_attaches_to_the_same_run(start_server, inside, monkeypatch):
    one = start_server()
    for attempt in (1, 2):
        with inside(WandBLogger, project="p") as logger:
            logger.log_metrics({"loss": attempt})
            assert logger.get_state()["resumed"] is (attempt == 2)
        monkeypatch.setenv("WANDB_RUN_ID", "another")  # found in the run directory before it is found here
    assert set(filter(None, one.runs)) == {"20261122-101500-7f3a91c2"}


@pytest.mark.parametrize("strict", [False, True])
def test_a_server_that_refuses(start_server, inside, recorded, strict, capfd, key):
    one = start_server()
    one.close()
    logger = inside(Hasty, project="p", strict=strict)
    if strict:
        with pytest.raises(TrackerError, match=r"can't be reached.*mode='offline'"):
            logger.initialize()
        logger.cleanup()
        return
    with logger:
        logger.log_metrics({"loss": 1.0})
        state = logger.get_state()
        assert state["mode"] == "offline"
    assert recorded(state["sync_dir"]).column("loss") == [1.0]
    said = capfd.readouterr().err
    assert said.count("can't be reached") == 1
    assert "wandb sync" in said
    assert key not in said


@pytest.mark.parametrize("mode", ["500", "hang"])
def test_a_server_that_fails_at_the_start(start_server, inside, recorded, mode, capfd, key):
    one = start_server(mode)
    started = time.monotonic()
    with inside(Hasty, project="p") as logger:
        assert time.monotonic() - started < 3 * logger._patience, "far beyond the promised time"
        logger.log_metrics({"loss": 1.0})
        state = logger.get_state()
        assert state["mode"] == "offline"
    assert one.paths, "the client never asked"
    found = recorded(state["sync_dir"])
    assert found.column("loss") == [1.0]
    assert [path.name for path in found.path.parents[1].glob("*run-*")] == [found.path.parent.name], (
        "what the failed start left is removed"
    )
    said = capfd.readouterr().err
    assert said.count("can't be reached") == 1
    assert "***" in said or mode == "hang" or "no answer in time" in said, "the answer is shown without the key"
    assert key not in said


@pytest.mark.parametrize(("mode", "strict"), [("500", True), ("hang", False)])
def test_a_server_that_fails_in_mid_run(start_server, inside, recorded, mode, strict, capfd):
    one = start_server()
    logger = inside(WandBLogger, project="p", log_level="WARNING", strict=strict)
    logger.initialize()
    logger.log_metrics({"loss": -1})
    logger.flush()
    one.mode = mode
    for i in range(200):
        logger.log_metrics({"loss": i})
    logger.checkpoint()
    state = logger.get_state()
    logger._patience = 2.0
    started = time.monotonic()
    with pytest.raises(TrackerError, match="did not get all") if strict else contextlib.nullcontext():
        logger.cleanup()
    assert time.monotonic() - started < 10 * 2.0, "the clean-up is bounded"
    assert recorded(state["sync_dir"]).column("loss") == list(range(-1, 200)), "nothing is lost"
    said = capfd.readouterr().err
    assert said.count("\n") == 1, said
    assert f"wandb sync {state['sync_dir']}" in said


def test_a_key_that_is_refused_is_never_shown(start_server, inside, monkeypatch, capfd, tmp_path):
    start_server()
    monkeypatch.setenv("WANDB_API_KEY", "far-too-short-to-be-a-key")
    with inside(Hasty, project="p") as logger:
        assert logger.get_state()["mode"] == "offline"
    said = capfd.readouterr().err
    assert "offline" in said
    assert "far-too-short" not in said
    assert files_with("far-too-short", tmp_path) == []
