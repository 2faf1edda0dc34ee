"""The options of a run at W&B: its id, group, job, config and the axes of its metrics."""

import functools
from pathlib import Path

import numpy as np
import pytest

from ridgepole.errors import TrackerError
from ridgepole.permanences import WandBLogger

CONFIG = {
    "layers": [64, 32],
    "optimizer": {"name": "adam", "betas": [0.9, 0.999]},
    "tags": ("a", None),
    "deep": {1: {}},
}


def test_id_group_job_type_and_a_native_config(monkeypatch, inside, recorded):
    monkeypatch.setenv("WANDB_MODE", "offline")
    make = functools.partial(WandBLogger, id="fold-3", group="folds", job_type="eval", config=CONFIG)
    with inside(make, config={"pipeline": {"name": "p", "steps": ["x", "y"]}}) as logger:
        logger.define_metric("val/*", step_metric="epoch", summary="max")
        logger.log_metrics({"val/acc": 0.5, "epoch": 1})
        state = logger.get_state()
    found = recorded(state["sync_dir"])
    (run,) = found.of("run")
    assert (run.run_id, run.run_group, run.job_type) == ("fold-3", "folds", "eval")
    assert state["id"] == "fold-3"
    assert found.config["layers"] == [64, 32]
    assert found.config["optimizer"] == {"name": "adam", "betas": [0.9, 0.999]}
    assert found.config["tags"] == ["a", None]
    assert found.config["pipeline"] == {"name": "p", "steps": ["x", "y"]}
    axes = {metric.glob_name or metric.name: metric for metric in found.of("metric")}
    assert axes["val/*"].step_metric == "epoch"
    assert axes["val/*"].summary.max
    assert axes["*"].step_metric == "step"


def test_a_given_id_resumes_the_run_of_that_id(start_server):
    server = start_server()
    for attempt in (1, 2):
        with WandBLogger(project="p", id="mine") as logger:
            assert logger.get_state()["resumed"] is (attempt == 2)
    assert set(filter(None, server.runs)) == {"mine"}


@pytest.mark.parametrize(("resume", "known"), [("must", False), ("never", True)])
def test_a_run_that_must_or_must_not_exist(start_server, resume, known):
    server = start_server()
    if known:
        server.runs.append("mine")
    logger = WandBLogger(project="p", id="mine", resume=resume)
    with pytest.raises(TrackerError, match="mine"):
        logger.initialize()
    logger.cleanup()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"id": "a/b"}, ValueError, "1 to 128 characters"),
        ({"id": ""}, ValueError, "1 to 128 characters"),
        ({"id": " a"}, ValueError, "1 to 128 characters"),
        ({"id": 3}, TypeError, "id must be a string"),
        ({"resume": "auto"}, ValueError, "resume must be one of allow, must, never"),
        ({"config": [1]}, TypeError, "config must be a mapping"),
    ],
)
def test_impossible_options_are_refused_at_once(options, error, words):
    with pytest.raises(error, match=words):
        WandBLogger(**options)


def test_sounds_videos_pages_and_artifacts(monkeypatch, recorded, tmp_path, fresh_python):
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "model.bin").write_bytes(b"weights")
    video = np.stack([np.full((6, 8, 3), 80 * frame, np.uint8) for frame in range(3)])
    with WandBLogger(project="p") as logger:
        logger.log_audio("sound", np.zeros(80, np.int16), sample_rate=8000)
        logger.log_video("video", video)
        logger.log_html("page", "<p>x</p>")
        logger.log_artifact(tmp_path / "model.bin", name="the/best model")
        logger.flush()
        state = logger.get_state()
    found = recorded(state["sync_dir"])
    files = found.path.parent / "files"
    (sound,), (shown,), (page,) = (found.column(name) for name in ("sound", "video", "page"))
    assert (files / sound["path"]).read_bytes()[:4] == b"RIFF"
    assert (files / shown["path"]).read_bytes()[:3] == b"GIF"
    assert (files / page["path"]).read_text() == "<p>x</p>"
    (artifact,) = found.of("artifact")
    assert (artifact.name, artifact.type, artifact.description) == ("the-best-model", "file", "the/best model")
    (entry,) = artifact.manifest.contents
    assert Path(entry.local_path).read_bytes() == b"weights"
    assert logger.get_state()["dropped"] == 0
